"""The yardstick itself, on cases small enough to work out by hand, and against the bound."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clouds.profiles import Fleet, Laws, Profile, Style
from gateway.core.nouns import Limits
from gateway.sim.bound import Shape, bound, capacity, rate, sustained
from gateway.sim.clairvoyant import Clairvoyant, replay
from gateway.sim.demand import Need, Outage, Phase, draw
from gateway.sim.score import Score, Terms, score

LAWS = Laws(t0=0.1, k=0.0, prefill=1e9, net=0.0, jitter=0.0)
"""ten tokens a second per stream, whatever else runs"""
ONE = Profile("one", limits=Limits(streams=1), laws=LAWS, style=Style(tokens_per_event=1))
TERMS = Terms(patience=1.5, first_token=1.0)


def fleet(*profiles: Profile) -> Fleet:
    return Fleet(profiles)


def needs(*shapes: tuple[float, int, int]) -> tuple[Need, ...]:
    return tuple(Need(place, at, prompt, answer) for place, (at, prompt, answer) in enumerate(shapes))


def judged(clouds: Fleet, asked: tuple[Need, ...], *outages: Outage, terms: Terms = TERMS) -> Score:
    return score(replay(clouds, asked, outages, terms), terms)


def test_who_cannot_be_dispatched_in_time_is_dropped() -> None:
    # seconds 0–1, 1–2, and the third would start at 2 after waiting longer than 1.5
    found = judged(fleet(ONE), needs((0.0, 1, 10), (0.0, 1, 10), (0.0, 1, 10)))
    assert (found.goodput, found.good, found.refused) == (20, 2, {"patience": 1})


def test_a_slot_is_given_away_the_moment_it_frees_and_first_come_is_first_served() -> None:
    records = replay(fleet(ONE), needs((0.0, 1, 10), (0.5, 1, 5), (0.2, 1, 5)), (), TERMS)
    assert [(record.need.id, round(record.queued, 6), round(record.ended, 6)) for record in records] == [
        (0, 0.0, 1.0),
        (1, 0.5, 1.5),
        (2, 1.3, 2.0),
    ]


def test_with_room_for_everybody_everything_is_served_at_once() -> None:
    wide = replace(ONE, limits=Limits())
    asked = draw((Phase("calm", 0.0, 5.0, 20.0),), Random(1))
    found = judged(fleet(wide), asked)
    assert found.goodput == sum(need.answer for need in asked)
    assert found.refused == {}


def test_nothing_is_sent_to_a_cloud_that_will_fail_before_the_end_of_the_answer() -> None:
    clouds = fleet(ONE, replace(ONE, name="two"))
    found = judged(clouds, needs((0.0, 1, 10), (0.0, 1, 10)), Outage("one", 0.5, 9.0))
    assert (found.failed, found.goodput) == (0, 20)


def test_a_short_answer_is_sent_ahead_to_a_cloud_that_fails_soon() -> None:
    found = replay(fleet(ONE), needs((0.0, 1, 10), (0.0, 1, 2)), (Outage("one", 0.7, 9.0),), TERMS)
    assert [(record.need.id, record.status) for record in found] == [(1, "served"), (0, "refused")]


def test_a_token_limit_counts_what_runs_in_full() -> None:
    thrifty = replace(ONE, limits=Limits(tpm=100))
    found = judged(fleet(thrifty), needs((0.0, 20, 30), (0.0, 20, 30), (0.0, 20, 30)))
    assert found.goodput == 60


@pytest.mark.parametrize(
    ("limits", "served"), [(Limits(rps=2), 4), (Limits(rpm=3), 3), (Limits(ramp=1), 3), (Limits(tps=25), 4)], ids=str
)
def test_limits_on_requests_are_kept_to_the_last_one(limits: Limits, served: int) -> None:
    asked = needs(*((0.0, 10, 2) for _ in range(9)))
    run = Clairvoyant(fleet(replace(ONE, limits=limits)), asked, (), TERMS, 0)
    assert score(run.run(), TERMS).good == served
    stats = run.clouds["one"].stats(100.0)
    assert (stats.overruns, stats.refused) == ({}, {})


def test_the_bound_of_one_slot_is_its_rate_for_as_long_as_anybody_waits_and_one_answer_more() -> None:
    asked = needs(*((0.0, 1, 10) for _ in range(50)))
    assert rate(ONE, 10) == pytest.approx(10.0)
    assert bound(fleet(ONE), asked, (), TERMS) == pytest.approx(10 * 1.5 + 10)


def test_the_bound_is_the_demand_where_there_is_little_of_it() -> None:
    assert bound(fleet(ONE), needs((0.0, 1, 10)), (), TERMS) == 10
    assert bound(fleet(ONE), (), (), TERMS) == 0


def test_capacity_leaves_out_the_outage_and_keeps_to_other_limits() -> None:
    shape = Shape(longest=10, lean=0.5)
    assert capacity(ONE, (Outage("one", 2.0, 5.0), Outage("two", 0.0, 9.0)), 0.0, 10.0, shape) == pytest.approx(70.0)
    assert capacity(ONE, (Outage("one", 0.0, 10.0),), 0.0, 10.0, shape) == 0.0
    assert capacity(replace(ONE, limits=Limits(tpm=60)), (), 0.0, 10.0, shape) == pytest.approx(30.0)
    assert capacity(replace(ONE, limits=Limits(rps=1)), (), 0.0, 1.5, shape) == pytest.approx(20.0)


def test_what_a_fleet_sustains_is_the_sum_of_what_binds_each_cloud() -> None:
    clouds = fleet(
        ONE, replace(ONE, name="two", limits=Limits(rpm=30)), replace(ONE, name="three", limits=Limits(tpm=600))
    )
    assert sustained(clouds, answer=10, prompt=10) == pytest.approx(1.0 + 0.5 + 0.5)


profiles = st.builds(
    lambda streams, t0, rpm, tpm: Profile(
        "x",
        limits=Limits(streams=streams, rpm=rpm, tpm=tpm),
        laws=replace(LAWS, t0=t0),
        style=Style(tokens_per_event=1),
    ),
    st.integers(1, 4),
    st.sampled_from([0.02, 0.05]),
    st.none() | st.integers(1, 20),
    st.none() | st.integers(300, 3000),
)
fleets = st.lists(profiles, min_size=1, max_size=3).map(
    lambda found: Fleet(tuple(replace(profile, name=f"cloud-{place}") for place, profile in enumerate(found)))
)


@settings(max_examples=40, deadline=None)
@given(fleets, st.floats(1.0, 12.0), st.integers(0, 1000), st.booleans())
def test_the_replay_never_exceeds_the_bound_nor_any_limit(
    clouds: Fleet, per_second: float, seed: int, fails: bool
) -> None:
    asked = draw((Phase("calm", 0.0, 6.0, per_second),), Random(seed))
    outages = (Outage("cloud-0", 2.0, 4.0),) if fails else ()
    run = Clairvoyant(clouds, asked, outages, TERMS, seed)
    found = score(run.run(), TERMS)
    assert found.offered == len(asked)
    assert found.goodput <= bound(clouds, asked, outages, TERMS) + 1e-6
    for cloud in run.clouds.values():
        stats = cloud.stats(1000.0)
        assert (stats.overruns, stats.refused, stats.cut) == ({}, {}, 0)
        assert stats.peak["tpm"] <= stats.limits.get("tpm", 10**9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_more_streams_never_serve_fewer_equal_requests(seed: int, streams: int) -> None:
    drawn = draw((Phase("calm", 0.0, 5.0, 6.0),), Random(seed))
    asked = tuple(replace(need, prompt=50, answer=10) for need in drawn)
    less, more = (replace(ONE, limits=Limits(streams=count)) for count in (streams, streams + 1))
    assert judged(fleet(more), asked).goodput >= judged(fleet(less), asked).goodput
