"""Our dispatcher in virtual time: what it yields at six times the capacity, and what it must never do."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from gateway.clouds.fleet import load
from gateway.clouds.profiles import Fleet
from gateway.core.nouns import Plan
from gateway.policy.load import load as load_policy
from gateway.sim.bound import sustained
from gateway.sim.clairvoyant import replay
from gateway.sim.demand import Need, Outage, Scene, mean_answer, mean_prompt, surge
from gateway.sim.rehearse import Rehearsal, plan_of, rehearse
from gateway.sim.score import Terms, score
from gateway.upstream import presets

POLICIES = Path(__file__).parents[2] / "policies"
TERMS = Terms(patience=3.0, first_token=3.0)
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load(POLICIES / "clouds-demo.yaml")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_policy(POLICIES / "demo.yaml", {}, presets.infos()).plan


def scene(fleet: Fleet, seed: int, outage: str = "") -> Scene:
    return surge(sustained(fleet, mean_answer(), mean_prompt()), outage, seed)


@pytest.fixture(scope="module")
def runs(fleet: Fleet, plan: Plan) -> list[tuple[Scene, Rehearsal]]:
    scenes = [scene(fleet, seed, "deepseek") for seed in SEEDS]
    return [
        (play, rehearse(plan, fleet, play.needs, play.outages, seed)) for seed, play in zip(SEEDS, scenes, strict=True)
    ]


def test_goodput_at_six_times_the_capacity_is_at_least_97_percent_of_the_clairvoyants(
    fleet: Fleet, runs: list[tuple[Scene, Rehearsal]]
) -> None:
    shares = [
        score(run.records, TERMS).goodput / score(replay(fleet, play.needs, play.outages, TERMS, seed), TERMS).goodput
        for seed, (play, run) in zip(SEEDS, runs, strict=True)
    ]
    assert fmean(shares) >= 0.97, shares
    assert min(shares) >= 0.95, shares


def test_no_cloud_sees_a_request_above_a_limit_or_has_to_refuse_one(runs: list[tuple[Scene, Rehearsal]]) -> None:
    for _, run in runs:
        for stats in run.clouds.values():
            assert stats.overruns == {}
            assert set(stats.refused) <= {"crash"}
            assert all(
                stats.peak[kind] <= limit
                for kind, limit in stats.limits.items()
                if kind in {"streams", "rpm", "tpm", "rps", "ramp"}
            )


def test_every_request_gets_exactly_one_answer_and_no_slot_is_left_taken(runs: list[tuple[Scene, Rehearsal]]) -> None:
    for play, run in runs:
        assert sorted(record.need.id for record in run.records) == [need.id for need in play.needs]
        assert (run.view.totals.in_flight, run.view.totals.waiting) == (0, 0)
        assert all(stats.in_flight == 0 for stats in run.clouds.values())


def test_every_refusal_says_when_to_come_again(runs: list[tuple[Scene, Rehearsal]]) -> None:
    refused = [record for _, run in runs for record in run.records if record.status == "refused"]
    assert refused
    assert all(record.told for record in refused)


def test_a_plain_answer_that_is_torn_off_is_answered_by_another_cloud() -> None:
    fleet = load(POLICIES / "clouds-demo.yaml")
    needs = tuple(Need(place, 0.01 * place, 60, 80, stream=False) for place in range(30))
    run = rehearse(plan_of(fleet, TERMS), fleet, needs, (Outage("ark", 1.0, 30.0),))
    assert run.clouds["ark"].cut > 0
    assert {record.status for record in run.records} == {"served"}
    assert max(record.attempts for record in run.records) == 2


def test_a_stream_that_has_begun_is_never_tried_again() -> None:
    fleet = load(POLICIES / "clouds-demo.yaml")
    needs = tuple(Need(place, 0.01 * place, 60, 80) for place in range(30))
    run = rehearse(plan_of(fleet, TERMS), fleet, needs, (Outage("ark", 1.0, 30.0),))
    lost = [record for record in run.records if record.status == "failed"]
    assert len(lost) == run.clouds["ark"].cut
    assert all(record.attempts == 1 for record in lost)


def test_the_same_seed_rehearses_the_same(fleet: Fleet, plan: Plan) -> None:
    play = surge(5.0, "ark", 4, times=3.0, calm=2.0, peak=5.0, out=2.0)
    assert (
        rehearse(plan, fleet, play.needs, play.outages, 4).records
        == rehearse(plan, fleet, play.needs, play.outages, 4).records
    )
