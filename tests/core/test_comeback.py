"""How traffic returns after a pause: what is ramped, from where, how fast, and never everywhere at once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.comeback import PATIENCE, Climb, Relief, Return, later, rise, span
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Failed,
    Go,
    Learn,
    Limited,
    Limits,
    Outcome,
    Overloaded,
    RefusalKind,
    RetryRules,
    Served,
    Unusable,
)
from gateway.core.window import REQUESTS, Ramp, Window


def dispatcher_of(world: Any, limits: Limits, learn: Learn = "off", seed: int = 7) -> Dispatcher:
    plan = world.plan(None, {"retry": RetryRules(0.0, 0.0)}, a=limits)
    return Dispatcher(replace(plan, accounts={"a": replace(plan.accounts["a"], learn=learn)}), Random(seed))


def burst(world: Any, dispatcher: Dispatcher, now: float, tries: int = 200) -> int:
    """How many of so many requests may start in this moment."""
    return sum(isinstance(dispatcher.offer(world.request(now, deadline=now), now), Go) for _ in range(tries))


def back(dispatcher: Dispatcher, now: float) -> float:
    """When the pause ends."""
    view = dispatcher.snapshot(now)
    return max(view.accounts[0].cooling_until or 0.0, view.backends[0].blocked_until or 0.0)


def hit(world: Any, dispatcher: Dispatcher, outcome: Outcome, streams: int = 40) -> float:
    """So many run, one more is refused, all the others end during the pause. When that is over."""
    leases = [world.go(dispatcher) for _ in range(streams)]
    refused = world.go(dispatcher, 1.0)
    for lease in leases:
        dispatcher.started(lease, 0.5)
    dispatcher.settle(refused, outcome, 1.0)
    for lease in leases:
        dispatcher.settle(lease, Served(), 1.1)
    return back(dispatcher, 1.1)


@pytest.mark.parametrize("limits", [Limits(streams=64), Limits()], ids=["limited", "unlimited"])
@pytest.mark.parametrize(
    "outcome",
    [
        Limited("rpm"),
        Limited("tpm"),
        Limited("concurrency", 8.0, 64.0),
        Limited("quota"),
        Overloaded(),
        Overloaded(6.0),
    ],
    ids=str,
)
def test_who_was_at_the_edge_comes_back_one_by_one(world: Any, outcome: Outcome, limits: Limits) -> None:
    dispatcher = dispatcher_of(world, limits)
    over = hit(world, dispatcher, outcome)
    first = burst(world, dispatcher, over)
    assert 1 <= first <= 2, "not the whole queue at once"
    middle = burst(world, dispatcher, over + 0.6)
    assert 0 < middle < 38
    assert first + middle + burst(world, dispatcher, over + 10.0) >= 41, "in ten seconds it is all there again"


def test_an_exact_minute_that_is_over_is_used_at_once(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits(streams=64, rpm=1000))
    assert burst(world, dispatcher, hit(world, dispatcher, Limited("rpm"))) == 64
    learning = dispatcher_of(world, Limits(streams=64), "within")
    over = hit(world, learning, Limited("rpm"))
    assert burst(world, learning, over + 70.0) == 39, "the quota that was learnt, less a little"


def test_a_key_that_is_good_again_comes_back_one_by_one(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits(streams=64))
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    assert burst(world, dispatcher, 602.0) == 1
    (lease,) = [ticket.lease for ticket in dispatcher._leases.values()]
    dispatcher.started(lease, 603.0)
    assert burst(world, dispatcher, 603.0) == 1
    assert burst(world, dispatcher, 620.0) == 62


def test_who_waits_for_the_return_is_woken_in_steps(world: Any) -> None:
    dispatcher = Dispatcher(world.plan(a=Limits(streams=64)), Random(7))
    dispatcher.settle(world.go(dispatcher), Overloaded(6.0), 0.0)
    for _ in range(30):
        dispatcher.offer(world.request(0.0), 0.0)
    dispatcher.due(0.0)
    gone = []
    while (at := dispatcher.next_due()) is not None and at < 19.0:
        gone += [at] * len(dispatcher.due(at))
    assert len(gone) == 31, "the one that was refused too"
    assert len(set(gone)) >= 6
    assert max(gone.count(at) for at in set(gone)) <= 6
    assert gone[0] >= 6.0


@pytest.mark.parametrize(
    ("learn", "limits"), [("within", Limits(streams=500)), ("off", Limits()), ("off", Limits(rpm=10_000))]
)
def test_a_burst_refusal_bounds_the_rise_of_starts(world: Any, learn: Learn, limits: Limits) -> None:
    """Forty started at once were too many: twenty more each second from now on."""
    dispatcher = dispatcher_of(world, limits, learn)
    over = hit(world, dispatcher, Limited("burst"), 39)
    starts = [burst(world, dispatcher, over + 1.06 * second) for second in range(2)]
    assert starts == [20, 40]
    (room,) = [room for room in dispatcher.snapshot(over).accounts[0].rooms if room.kind == "ramp"]
    assert room.source == "learned"


def test_each_fresh_burst_refusal_halves_the_rise_and_quiet_relaxes_it(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits())
    over = hit(world, dispatcher, Limited("burst"), 39)
    for lease in [world.go(dispatcher, over) for _ in range(3)]:
        dispatcher.settle(lease, Limited("burst"), over + 0.1)
    now = back(dispatcher, over + 0.1)
    assert burst(world, dispatcher, now) == 10, "a volley is one piece of news"
    for _ in range(60):
        now += 100.0
        dispatcher.snapshot(now)
    assert burst(world, dispatcher, now) == 200, "it has said nothing for so long that it is gone"


def test_a_declared_ramp_is_halved_and_comes_back(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits(ramp=8))
    for _ in range(7):
        world.go(dispatcher)
    dispatcher.settle(world.go(dispatcher), Limited("burst"), 0.0)
    assert burst(world, dispatcher, 10.0) == 4
    for second in range(60):
        dispatcher.snapshot(100.0 * second)
    assert burst(world, dispatcher, 6000.0) == 8


def test_a_burst_refusal_slows_a_return_under_way(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits(streams=200))
    over = hit(world, dispatcher, Overloaded(6.0))
    lease = world.go(dispatcher, over)
    dispatcher.settle(lease, Limited("burst", 1.0), over + 1.0)
    again = back(dispatcher, over + 1.0)
    caps = [dispatcher.snapshot(again + s).accounts[0].rooms[0].limit for s in (0.0, 4.0, 8.0, 20.0)]
    assert caps[0] < caps[1] < caps[2] < 200 == caps[3]


def test_learning_off_by_a_reload_forgets_the_rise(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits())
    over = hit(world, dispatcher, Limited("burst"), 39)
    dispatcher.meters["a"].declare(Limits(), "off")
    assert burst(world, dispatcher, over) == 200
    dispatcher.snapshot(over + 1e4)


@pytest.mark.parametrize("kind", ["rpm", "burst", "concurrency", "quota"])
def test_replicas_that_were_refused_together_come_again_one_after_the_other(world: Any, kind: RefusalKind) -> None:
    ends = []
    for replica in range(8):
        dispatcher = dispatcher_of(world, Limits(streams=9), seed=replica)
        dispatcher.settle(world.go(dispatcher), Limited(kind, 30.0), 0.0)
        ends.append(back(dispatcher, 0.0))
    assert min(ends) >= 30.0, "never before the time that the cloud named"
    assert max(ends) <= 32.0
    assert min(b - a for a, b in pairwise(sorted(ends))) > 0.002
    assert max(ends) - min(ends) > 1.0


def test_a_failure_while_another_rests_does_not_start_a_return(world: Any) -> None:
    dispatcher = dispatcher_of(world, Limits(streams=64))
    for lease in [world.go(dispatcher) for _ in range(5)]:
        dispatcher.settle(lease, Overloaded(), 0.0)
    probe = world.go(dispatcher, 20.0)
    assert burst(world, dispatcher, 20.0) == 0, "three overloads opened the breaker: its probe decides"
    dispatcher.settle(probe, Failed("server"), 20.5)
    assert burst(world, dispatcher, 20.5) == 0


@given(st.floats(0.0, 3600.0), st.integers(0, 999))
def test_a_pause_is_never_shortened_and_a_return_is_bounded(pause: float, seed: int) -> None:
    assert pause <= later(pause, Random(seed)) <= min(1.2 * pause, pause + 2.0)
    assert 1.0 <= span(pause, Random(seed)) <= 6.0 * 1.6


@given(st.integers(0, 50), st.floats(1.0, 9.0), st.integers(1, 200), st.lists(st.floats(0.0, 1.0), max_size=20))
def test_a_return_only_ever_grows_and_never_above_the_limit(
    base: int, span: float, cap: int, times: list[float]
) -> None:
    returning = Return(span, base, inf, 10.0)
    caps = [returning.cap(cap, 10.0 + span * at) for at in sorted(times)]
    assert caps == sorted(caps)
    assert all(1 <= seen <= cap for seen in caps)
    assert returning.turn(10.0 + span) == inf
    assert returning.cap(inf, 10.0) == inf, "without any limit there is nothing to return to"


def test_the_rise_is_taken_from_any_gauge_that_remembers() -> None:
    ramp, minute, second = Ramp(50), Window(60.0, 1000, REQUESTS), Window(1.0, 1000, REQUESTS)
    for gauge in (ramp, minute, second):
        gauge.add(10, 100.0)
        gauge.add(30, 101.2)
    assert rise((minute, ramp), 7, 101.5) == 20
    assert rise((second, minute), 7, 101.5) == 20
    assert rise((second,), 7, 101.5) == 7
    assert rise((), 0, 101.5) == 1
    assert rise((minute,), 7, 999.0) == 1


def test_patience_grows_with_each_refusal() -> None:
    climb = Climb(40.0, 0.0)
    assert (climb.step, climb.turn) == (20.0, PATIENCE)
    climb.relax(PATIENCE)
    assert climb.step == 25.0
    climb.refused(40.0)
    assert (climb.step, climb.turn) == (12.5, 40.0 + 2 * PATIENCE)
    for _ in range(9):
        climb.refused(50.0)
    assert climb.step == 1.0
    climb.relax(99.0)
    assert climb.step == 2.0
    assert not climb.over


def test_ramps_introduce_themselves_shortly() -> None:
    assert repr(Return(2.0, 3, inf, 0.0)) == "<Return from 3 within 2.0 s>"
    assert repr(Relief(4.8, 0.0)) == "<Relief from 4>"
    assert repr(Climb(9.0, 0.0)) == "<Climb by 4.5 a second>"
