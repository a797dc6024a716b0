"""Hedges: when a second attempt is granted, where, at what cost, and which of the two counts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.budget import Allowance
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Abandoned,
    Beaten,
    Failed,
    Go,
    HedgeRules,
    Lease,
    Limited,
    Limits,
    Outcome,
    Overloaded,
    Refuse,
    Rejected,
    Reloaded,
    RetryRules,
    Served,
    Tier,
    Unusable,
    Usage,
    Wait,
)

FREE = HedgeRules(1.0, 2.0)
"""Pays for every hedge, after 2 s."""
TWO = (Tier(("a",)), Tier(("b",)))


def pair(world: Any, dispatcher: Dispatcher, now: float = 0.0, **more: Any) -> tuple[Lease, Lease]:
    first = world.go(dispatcher, now, **more)
    second = dispatcher.hedge(first, now + 2.0)
    assert second is not None
    return first, second


def counters(dispatcher: Dispatcher, name: str, now: float = 9.0) -> Any:
    (found,) = [b for b in dispatcher.snapshot(now).backends if b.name == name]
    return found.counters


def test_a_slow_first_attempt_gets_a_second_on_another_backend(world: Any) -> None:
    dispatcher = world.hedging()
    first = world.go(dispatcher, 1.0)
    assert dispatcher.hedge_at(first) == 3.0
    second = dispatcher.hedge(first, 3.0)
    assert second is not None
    assert (first.backend, second.backend, second.tier) == ("a", "b", 1)
    assert (second.request, second.attempt, second.granted) == (first.request, 2, 3.0)
    totals = dispatcher.snapshot(3.0).totals
    assert (totals.offered, totals.in_flight, totals.granted) == (1, 1, 2)
    assert (totals.hedged, totals.hedges_won, totals.hedge_tokens) == (1, 0, first.reserved)
    assert counters(dispatcher, "b").spilled_in == 0, "a hedge is no spill"


def test_no_request_is_hedged_twice(world: Any) -> None:
    dispatcher = world.hedging(Tier(("a",)), Tier(("b",)), Tier(("c",)))
    for lease in (leases := pair(world, dispatcher)):
        assert dispatcher.hedge_at(lease) is None
        assert dispatcher.hedge(lease, 3.0) is None
    dispatcher.settle(leases[0], Failed("server"), 4.0)
    verdict = dispatcher.settle(leases[1], Failed("server"), 4.0)
    third = world.lease(verdict)
    assert (third.backend, third.attempt) == ("c", 3)
    assert dispatcher.hedge_at(third) is None
    assert dispatcher.hedge(third, 9.0) is None


NEVER: dict[str, dict[str, Any]] = {
    "no rules": {"rules": None},
    "nothing to spend": {"rules": HedgeRules(0.0, 2.0)},
    "one attempt only": {"retry": RetryRules(attempts=1)},
    "nobody else": {"tiers": (Tier(("a",)),)},
    "learnt from too little": {"rules": HedgeRules(1.0)},
}


@pytest.mark.parametrize("case", NEVER.values(), ids=NEVER.keys())
def test_what_will_never_be_hedged_is_told_so(world: Any, case: dict[str, Any]) -> None:
    more = {"rules": FREE, **case}
    dispatcher = world.hedging(*more.pop("tiers", TWO), **more)
    assert dispatcher.hedge_at(world.go(dispatcher)) is None


def test_a_plain_answer_shows_no_first_token_and_is_not_hedged(world: Any) -> None:
    dispatcher = world.hedging()
    lease = world.go(dispatcher, stream=False)
    assert dispatcher.hedge_at(lease) is None
    assert dispatcher.hedge(lease, 9.0) is None


def test_what_has_begun_is_not_hedged(world: Any) -> None:
    dispatcher = world.hedging()
    lease = world.go(dispatcher)
    dispatcher.started(lease, 1.0)
    assert dispatcher.hedge_at(lease) is None
    assert dispatcher.hedge(lease, 2.0) is None


def test_no_rules_no_hedge_whatever_the_shell_asks(world: Any) -> None:
    dispatcher = world.dispatcher(TWO, a=Limits(), b=Limits())
    assert dispatcher.hedge(world.go(dispatcher), 9.0) is None


def test_a_request_that_tries_a_breaker_or_a_key_is_waited_for(world: Any) -> None:
    dispatcher = world.hedging()
    for _ in range(5):
        dispatcher.settle(world.go(dispatcher), Failed("server"), 0.0)
    probe = world.go(dispatcher, 3.0)
    assert (probe.backend, dispatcher.hedge_at(probe)) == ("a", None)
    dispatcher = world.hedging()
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    trial = world.go(dispatcher, 601.0)
    assert (trial.backend, dispatcher.hedge_at(trial)) == ("a", None)


# --- where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taken", "granted"), [(8, True), (9, False), (10, False)])
def test_only_a_cold_backend_is_asked(world: Any, taken: int, granted: bool) -> None:
    tiers = (Tier(("a",)), Tier(("b",)), Tier(("c",)))
    dispatcher = world.hedging(*tiers, a=Limits(streams=1), c=Limits(streams=1000))
    first = world.go(dispatcher)
    for _ in range(taken):
        assert world.go(dispatcher).backend == "b"
    second = dispatcher.hedge(first, 2.0)
    assert second is not None, "the next tier has room"
    assert second.backend == ("b" if granted else "c")


def test_a_backend_that_rests_or_cools_or_is_on_trial_is_not_asked(world: Any) -> None:
    tiers = (Tier(("a",)), Tier(("b",)))
    for trouble in (Overloaded(), Limited("rpm"), Unusable("auth"), Unusable("not_found")):
        dispatcher = world.hedging(*reversed(tiers))
        dispatcher.settle(world.go(dispatcher), trouble, 0.0)
        first = world.go(dispatcher, 0.1)
        assert first.backend == "a"
        assert dispatcher.hedge(first, 0.2) is None, trouble


def test_nothing_is_tried_out_with_a_hedge(world: Any) -> None:
    dispatcher = world.hedging(Tier(("b",)), Tier(("a",)))
    for _ in range(5):
        dispatcher.settle(world.go(dispatcher), Failed("server"), 0.0)
    first = world.go(dispatcher, 0.1)
    assert first.backend == "a"
    assert dispatcher.hedge(first, 30.0) is None, "the breaker of b is open, though due to be tried"
    dispatcher = world.hedging(Tier(("b",)), Tier(("a",)))
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    first = world.go(dispatcher, 0.1)
    assert dispatcher.hedge(first, 700.0) is None, "the key of b is due to be tried"


def test_conditions_of_tiers_hold_for_hedges(world: Any) -> None:
    tiers = (Tier(("a",)), Tier(("b",), when=lambda r: r.class_ == "interactive"), Tier(("c",)))
    dispatcher = world.hedging(*tiers)
    assert pair(world, dispatcher)[1].backend == "c"
    assert pair(world, dispatcher, class_="interactive")[1].backend == "b"


def test_a_hot_fleet_is_not_asked_for_more(world: Any) -> None:
    tiers = (Tier(("a",)), Tier(("b",)))
    dispatcher = world.hedging(*tiers, a=Limits(streams=90), b=Limits(streams=10))
    leases = [world.go(dispatcher) for _ in range(86)]
    assert dispatcher.hedge(leases[0], 2.0) is None, "86 of 100"
    dispatcher.settle(leases[1], Served(), 2.0)
    dispatcher.started(leases[2], 2.0)
    assert dispatcher.hedge(leases[0], 2.0) is not None, "85 of 100"


def test_what_is_out_bears_nothing(world: Any) -> None:
    tiers = (Tier(("c",)), Tier(("a",)), Tier(("b",)))
    dispatcher = world.hedging(*tiers, a=Limits(streams=90), b=Limits(streams=10), c=Limits(streams=1000))
    dispatcher.settle(world.go(dispatcher), Limited("quota"), 0.0)
    leases = [world.go(dispatcher) for _ in range(86)]
    assert {lease.backend for lease in leases} == {"a"}
    assert dispatcher.hedge(leases[0], 2.0) is None
    unlimited = world.hedging(*tiers, a=Limits(streams=90), b=Limits(streams=10), c=Limits())
    leases = [world.go(unlimited) for _ in range(86)]
    second = unlimited.hedge(leases[0], 2.0)
    assert second is not None
    assert second.backend == "a", "c bears any number, and the first tier comes first"


def test_a_limit_of_requests_counts_as_much_as_one_of_streams(world: Any) -> None:
    dispatcher = world.hedging(Tier(("a",)), Tier(("b",)), a=Limits(rpm=10), b=Limits(streams=1))
    leases = [world.go(dispatcher) for _ in range(9)]
    assert world.go(dispatcher).backend == "a"
    assert dispatcher.hedge(leases[0], 2.0) is None, "10 of 10 a minute, and one stream free: 10 of 11"


def test_nobody_is_overtaken(world: Any) -> None:
    dispatcher = world.hedging(a=Limits(streams=1), b=Limits(tpm=3000))
    first = world.go(dispatcher)
    large = world.request(0.0, prompt_bytes=12_000)
    lease = world.go(dispatcher, prompt_bytes=350)
    assert lease.backend == "b"
    assert isinstance(dispatcher.offer(large, 0.0), Wait)
    assert dispatcher.hedge(first, 2.0) is None, "somebody waits for the same backends"
    dispatcher.withdraw(large, 2.0)
    assert dispatcher.hedge(first, 2.0) is not None


def test_a_plan_that_has_changed_hedges_nothing_of_the_old(world: Any) -> None:
    dispatcher = world.hedging()
    first = world.go(dispatcher)
    limits = {"a": Limits(streams=10), "b": Limits(streams=10)}
    dispatcher.apply(Reloaded(world.plan(TWO, {"hedge": FREE}, **limits)), 1.0)
    assert dispatcher.hedge(first, 2.0) is None
    old = world.go(dispatcher, 2.0)
    dispatcher.apply(Reloaded(world.plan(TWO, **limits)), 3.0)
    assert dispatcher.hedge(old, 4.0) is None
    assert dispatcher.hedge_at(world.go(dispatcher, 4.0)) is None


# --- which counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hedge_wins", [False, True])
def test_the_first_token_decides_and_the_other_can_only_end(world: Any, hedge_wins: bool) -> None:
    dispatcher = world.hedging()
    leases = pair(world, dispatcher)
    winner, loser = leases[hedge_wins], leases[not hedge_wins]
    dispatcher.started(winner, 3.0)
    assert dispatcher.snapshot(3.0).totals.hedges_won == hedge_wins
    assert dispatcher.settle(loser, Beaten(), 3.0) is None
    assert counters(dispatcher, loser.backend).beaten == 1
    assert dispatcher.snapshot(3.0).totals.in_flight == 1
    assert dispatcher.settle(winner, Served(Usage(90, 50)), 9.0) is None
    view = dispatcher.snapshot(9.0)
    assert view.totals.in_flight == 0
    assert all(not a.in_flight and not a.reserved_tokens and not a.held_tokens for a in view.accounts)


def test_the_loser_may_fail_or_begin_late_and_nothing_comes_of_it(world: Any) -> None:
    dispatcher = world.hedging()
    first, second = pair(world, dispatcher)
    dispatcher.started(first, 3.0)
    dispatcher.started(second, 3.0)
    assert dispatcher.snapshot(3.0).totals.hedges_won == 0
    assert dispatcher.settle(second, Beaten(), 3.0) is None
    assert dispatcher.settle(first, Failed("stall"), 4.0) is None
    first, second = pair(world, dispatcher, 10.0)
    dispatcher.started(first, 13.0)
    assert dispatcher.settle(second, Overloaded(), 13.0) is None
    assert dispatcher.settle(first, Served(), 14.0) is None
    first, second = pair(world, dispatcher, 20.0)
    dispatcher.started(second, 23.0)
    assert dispatcher.settle(second, Served(), 24.0) is None
    assert dispatcher.settle(first, Failed("server"), 24.0) is None, "the request was served"
    first, second = pair(world, dispatcher, 30.0)
    assert dispatcher.settle(second, Served(), 33.0) is None
    assert dispatcher.settle(first, Failed("server"), 33.0) is None, "served without a word of its start"


@pytest.mark.parametrize("failed", [0, 1])
@pytest.mark.parametrize("outcome", [Failed("server"), Overloaded(), Limited("rpm"), Rejected("content")])
def test_if_one_fails_the_request_goes_on_with_the_other(world: Any, failed: int, outcome: Outcome) -> None:
    dispatcher = world.hedging()
    leases = pair(world, dispatcher)
    assert dispatcher.settle(leases[failed], outcome, 3.0) is None
    totals = dispatcher.snapshot(3.0).totals
    assert (totals.in_flight, totals.waiting, totals.retried) == (1, 0, 0)
    dispatcher.started(leases[not failed], 4.0)
    assert dispatcher.settle(leases[not failed], Served(), 5.0) is None
    assert dispatcher.snapshot(5.0).totals.hedges_won == 1 - failed


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_only_when_the_last_fails_is_the_next_asked_and_neither_of_the_two_again(
    world: Any, order: tuple[int, int]
) -> None:
    dispatcher = world.hedging(Tier(("a",)), Tier(("b",)), Tier(("c",)))
    leases = pair(world, dispatcher)
    assert dispatcher.settle(leases[order[0]], Failed("server"), 3.0) is None
    verdict = dispatcher.settle(leases[order[1]], Limited("rpm"), 3.5)
    third = world.lease(verdict)
    assert (third.backend, third.attempt) == ("c", 3)
    assert dispatcher.snapshot(3.5).totals.retried == 1
    dispatcher.started(third, 4.0)
    assert dispatcher.snapshot(4.0).totals.hedges_won == 0
    assert dispatcher.settle(third, Served(), 5.0) is None
    assert dispatcher.snapshot(5.0).totals.in_flight == 0


def test_both_attempts_count_against_the_most(world: Any) -> None:
    dispatcher = world.hedging(Tier(("a",)), Tier(("b",)), Tier(("c",)), retry=RetryRules(attempts=2))
    first, second = pair(world, dispatcher)
    assert dispatcher.settle(second, Failed("server"), 3.0) is None
    verdict = dispatcher.settle(first, Failed("server"), 3.0)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == "attempts"


def test_a_client_who_leaves_ends_both(world: Any) -> None:
    dispatcher = world.hedging()
    first, second = pair(world, dispatcher)
    assert dispatcher.settle(first, Abandoned(), 3.0) is None
    assert dispatcher.settle(second, Abandoned(), 3.0) is None
    totals = dispatcher.snapshot(3.0).totals
    assert (totals.in_flight, totals.waiting) == (0, 0)


def test_being_beaten_says_nothing_against_a_backends_health(world: Any) -> None:
    dispatcher = world.hedging()
    for n in range(20):
        first, second = pair(world, dispatcher, 10.0 * n)
        dispatcher.started(second, 10.0 * n + 3.0)
        dispatcher.settle(first, Beaten(), 10.0 * n + 3.0)
        dispatcher.settle(second, Served(), 10.0 * n + 4.0)
    (view,) = [b for b in dispatcher.snapshot(200.0).backends if b.name == "a"]
    assert (view.breaker, view.available, view.counters.beaten) == ("closed", True, 20)
    assert view.ttft == pytest.approx(3.0), "it would have taken at least so long"


def test_the_parts_name_themselves(world: Any) -> None:
    dispatcher = world.hedging()
    first, _ = pair(world, dispatcher)
    ticket = dispatcher._leases[first.id]
    assert repr(ticket.race) == f"<Race of {first.request.id}: 2 run>"
    assert repr(Allowance()) == "<Allowance of 0 tokens>"
    assert isinstance(dispatcher.offer(world.request(), 3.0), Go)
