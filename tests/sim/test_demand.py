"""Demand: the same seed gives the same, and phases have the rate they say."""

from __future__ import annotations

from random import Random

import pytest

from gateway.sim.demand import ANSWER_LEAST, ANSWER_MOST, PROMPTS, Phase, draw, mean_answer, mean_prompt, surge


def test_the_same_seed_draws_the_same_demand_and_another_does_not() -> None:
    assert surge(10.0, "ark", 1) == surge(10.0, "ark", 1)
    assert surge(10.0, "ark", 1).needs != surge(10.0, "ark", 2).needs


def test_arrivals_are_in_order_inside_their_phases() -> None:
    scene = surge(10.0, "", 3)
    times = [need.at for need in scene.needs]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] < scene.lasts
    assert [need.id for need in scene.needs] == list(range(len(times)))


def test_a_phase_has_the_rate_it_says() -> None:
    needs = draw((Phase("calm", 5.0, 400.0, 20.0),), Random(4))
    assert len(needs) == pytest.approx(8000, rel=0.05)


def test_lengths_are_as_announced() -> None:
    needs = draw((Phase("calm", 0.0, 300.0, 20.0),), Random(5))
    answers, prompts = [need.answer for need in needs], [need.prompt for need in needs]
    assert ANSWER_LEAST <= min(answers) <= max(answers) <= ANSWER_MOST
    assert PROMPTS[0][1] <= min(prompts) <= max(prompts) <= PROMPTS[-1][2]
    assert sum(answers) / len(answers) == pytest.approx(mean_answer(), rel=0.03)
    assert sum(prompts) / len(prompts) == pytest.approx(mean_prompt(), rel=0.05)


def test_the_surge_is_as_many_times_the_capacity_as_asked_and_the_outage_is_in_its_middle() -> None:
    scene = surge(10.0, "ark", 6, times=6.0, calm=8.0, peak=20.0, out=6.0)
    assert [(phase.name, phase.rate) for phase in scene.phases] == [("calm", 5.0), ("surge", 60.0), ("recovery", 5.0)]
    assert (scene.outages[0].starts, scene.outages[0].ends) == (15.0, 21.0)
    assert [scene.phase(at) for at in (0.0, 8.0, 28.0, 36.0)] == ["calm", "surge", "recovery", "drain"]
