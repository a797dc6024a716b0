"""Hedges: how long a first token is waited for before, and what a second attempt may cost."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.budget import TOKENS_KEPT, Allowance
from gateway.core.dispatcher import Dispatcher
from gateway.core.latency import Latency
from gateway.core.limit import Learner
from gateway.core.nouns import Beaten, HedgeRules, Limits, Served, Tier


def learnt(dispatcher: Dispatcher, world: Any, *tooks: float, prompt: int = 350) -> None:
    for took in tooks:
        lease = world.go(dispatcher, 0.0, prompt_bytes=prompt)
        dispatcher.started(lease, took)
        dispatcher.settle(lease, Served(), took)


@pytest.mark.parametrize(
    ("tooks", "after"),
    [
        ([1.0] * 95 + [4.0] * 5, 1.5),  # as good as all take the same
        ([1.0] * 90 + [4.0] * 10, 4.0),  # one in ten is slow
        ([0.01] * 100, 0.1),  # never at once
        ([1.0] * 19, None),
    ],
)
def test_left_to_itself_it_waits_as_long_as_is_slow_for_this_backend(
    world: Any, tooks: list[float], after: float | None
) -> None:
    dispatcher = world.hedging(rules=HedgeRules(1.0))
    learnt(dispatcher, world, *tooks)
    at = dispatcher.hedge_at(world.go(dispatcher, 50.0))
    assert at == (None if after is None else pytest.approx(50.0 + after, abs=0.06 * after))


def test_a_prompt_that_takes_long_anywhere_is_given_its_time(world: Any) -> None:
    plan = world.plan(
        (Tier(("a",)), Tier(("b",))), {"hedge": HedgeRules(1.0)}, a=Limits(streams=10), b=Limits(streams=10)
    )
    dispatcher = Dispatcher(
        replace(plan, accounts={n: replace(a, learn="within") for n, a in plan.accounts.items()}), Random(1)
    )
    learnt(dispatcher, world, *[1.0] * 200)
    learnt(dispatcher, world, 10.0, prompt=350_000)
    at = dispatcher.hedge_at(world.go(dispatcher, 50.0, prompt_bytes=350_000))
    assert at == pytest.approx(65.0, rel=0.1)


def test_slow_ones_that_nobody_waited_for_do_not_make_the_rest_look_quick() -> None:
    latency = Latency()
    latency.none_within(1.0, 0.0)
    assert latency.ttft.value == 1.0, "better than nothing"
    for _ in range(200):
        latency.first_token(1.0, 0.0)
    for _ in range(10):
        latency.none_within(0.5, 0.0)
    assert latency.ttfts.total == 201, "less than usual says nothing"
    for _ in range(30):
        latency.none_within(4.0, 0.0)
    assert latency.slow() == pytest.approx(4.0, rel=0.06)


def test_who_was_beaten_keeps_its_slot_for_as_long_as_its_answer_would_have_taken(world: Any) -> None:
    """Else a slow backend would look idle for having its requests taken away, and get the next ones too."""
    dispatcher = world.hedging()
    meter = dispatcher._fleet.meters["a"]
    learnt(dispatcher, world, *[8.0] * 10)
    for now, until in ((10.0, 18.0), (20.0, 28.0)):
        first = world.go(dispatcher, now)
        second = dispatcher.hedge(first, now + 2.0)
        assert second is not None
        dispatcher.started(second, now + 3.0)
        dispatcher.settle(first, Beaten(), now + 3.0)
        assert (meter.in_flight, meter.occupied()) == (0, 1)
        dispatcher.settle(second, Served(), now + 4.0)
        meter.settled(until - 0.01)
        assert meter.occupied() == 1
        meter.settled(until + 0.01)
        assert meter.occupied() == 0


def test_a_queue_that_hedges_take_requests_from_is_still_seen_as_one(world: Any) -> None:
    plan = world.plan((Tier(("a",)), Tier(("b",))), {"hedge": HedgeRules(1.0, 2.0)}, a=Limits(), b=Limits())
    accounts = {name: replace(account, learn="within") for name, account in plan.accounts.items()}
    dispatcher = Dispatcher(replace(plan, accounts=accounts), Random(1))
    learner = dispatcher._fleet.meters["a"].learner
    assert learner is not None
    learnt(dispatcher, world, *[1.0] * 10)
    slow = [world.go(dispatcher, 10.0) for _ in range(2)]
    for first in slow:
        second = dispatcher.hedge(first, 16.0)
        assert (first.backend, second is not None) == ("a", True)
        dispatcher.started(second, 16.0)
        dispatcher.settle(first, Beaten(), 16.0)
    assert dispatcher._fleet.meters["a"].held == 0
    third = world.go(dispatcher, 16.6)
    assert (third.backend, learner.holding) == ("b", True), "two are overdue there, though nobody awaits them"
    learner.look(60.0, 0, False)
    assert not learner.holding, "not for ever"
    fourth = world.go(dispatcher, 60.0)
    assert fourth.backend == "a"


def test_a_younger_one_that_begins_tells_that_there_is_no_queue(world: Any) -> None:
    learner = Learner("within", None)
    learner.sent(1, 5.0)
    learner.sent(2, 5.0)
    learner.forsake(1, 100.0)
    learner.forsake(9, 100.0)
    assert list(learner.unheard) == [1, 2]
    learner.first(2, 0, 6.0)
    assert (list(learner.unheard), learner.begun) == ([], 1)


def test_what_is_slow_is_renewed_as_samples_come() -> None:
    latency = Latency()
    for _ in range(20):
        latency.first_token(1.0, 0.0)
    assert latency.slow() == pytest.approx(1.5, rel=0.06)
    for _ in range(7):
        latency.first_token(8.0, 0.0)
    assert latency.slow() == pytest.approx(1.5, rel=0.06), "not for every sample"
    latency.first_token(8.0, 0.0)
    assert latency.slow() == pytest.approx(8.0, rel=0.06)


def test_hedges_are_earned_by_what_is_sent(world: Any) -> None:
    """A share of 2 %: one in fifty, whatever the clients' patience."""
    dispatcher = world.hedging(rules=HedgeRules(0.02, 2.0))
    hedges = 0
    for n in range(500):
        now = 0.1 * n
        first = world.go(dispatcher, now)
        second = dispatcher.hedge(first, now)
        if second is not None:
            hedges += 1
            dispatcher.settle(second, Beaten(), now)
        dispatcher.settle(first, Served(), now)
    assert hedges == 10
    totals = dispatcher.snapshot(50.0).totals
    assert totals.granted == 510


@given(
    st.lists(st.tuples(st.sampled_from(["send", "hedge", "hedge", "wait"]), st.integers(1, 50_000)), max_size=60),
    st.floats(0, 1),
)
def test_no_more_is_spent_than_the_share_of_what_was_sent(steps: list[tuple[str, int]], share: float) -> None:
    allowance, now, sent, spent = Allowance(share), 0.0, 0, 0
    for what, size in steps:
        if what == "send":
            allowance.deposit(size, now)
            sent += size
        elif what == "wait":
            now += size / 100
        elif allowance.withdraw(size, now):
            spent += size
        assert spent <= share * sent + 1e-6


def test_an_idle_hour_does_not_buy_a_storm() -> None:
    allowance = Allowance(0.02)
    for second in range(60):
        allowance.deposit(1_000_000, float(second))
    assert allowance.withdraw(1_000_000, 59.9), "the last minute's share is there"
    assert not allowance.withdraw(int(TOKENS_KEPT) + 1, 3660.0)
    assert allowance.withdraw(int(TOKENS_KEPT), 3660.0)
    assert not allowance.withdraw(1, 3660.0)
    allowance.deposit(1000, 3660.0)
    assert allowance.withdraw(20, 3661.0)
