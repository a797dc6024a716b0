"""What each ending of an attempt means for the account and the backend."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Abandoned,
    Failed,
    Go,
    Lease,
    Limited,
    Limits,
    Outcome,
    Overloaded,
    RefusalKind,
    Refuse,
    Rejected,
    Served,
    Unusable,
)


def cooling(dispatcher: Dispatcher, now: float) -> tuple[float | None, str]:
    account = dispatcher.snapshot(now).accounts[0]
    return account.cooling_until, account.cooling_reason


def pause(dispatcher: Dispatcher, now: float, kind: str) -> tuple[float, float]:
    """How long it cools from now on, and the least that this may be had chance not made it longer."""
    until, reason = cooling(dispatcher, now)
    assert until is not None
    assert reason == kind
    return until - now, max((until - now) / 1.2, until - now - 2.0)


def state(dispatcher: Dispatcher, now: float) -> str:
    return dispatcher.snapshot(now).backends[0].breaker


@pytest.mark.parametrize(
    ("kind", "told", "pauses"),
    [
        ("rpm", None, [5, 10, 20, 40, 60, 60]),
        ("tpm", None, [5, 10, 20, 40, 60, 60]),
        ("burst", None, [5, 5]),
        ("concurrency", None, [1, 1]),
        ("quota", None, [900, 1800, 3600, 7200, 14400, 21600, 21600]),
        ("rpm", 7.0, [7, 7]),
        ("rpm", 0.1, [1]),
        ("rpm", 9999.0, [120]),
        ("quota", 7000.0, [7000]),
    ],
)
def test_an_account_at_its_limit_cools_longer_each_time(
    world: Any, kind: RefusalKind, told: float | None, pauses: list[float]
) -> None:
    dispatcher, now = world.dispatcher(a=Limits()), 10.0
    for wanted in pauses:
        lease = world.go(dispatcher, now)
        dispatcher.withdraw(lease.request, now)
        dispatcher.settle(lease, Limited(kind, told), now)
        dispatcher.withdraw(lease.request, now)
        lasts, least = pause(dispatcher, now, kind)
        assert least <= wanted <= lasts, "a little later by chance, never earlier"
        assert state(dispatcher, now) == "closed", "a limit is not an illness"
        now += lasts


def test_a_volley_of_refusals_is_one_piece_of_news(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    seen = set()
    for lease in [world.go(dispatcher) for _ in range(5)]:
        dispatcher.settle(lease, Limited("rpm"), 1.0)
        seen.add(cooling(dispatcher, 1.0))
    ((until, reason),) = seen
    assert until is not None
    assert 6.0 <= until <= 7.0
    assert reason == "rpm"


def test_a_success_forgets_the_strikes(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    dispatcher.settle(world.go(dispatcher), Limited("rpm"), 0.0)
    stuck = dispatcher.due(6.0)
    assert len(stuck) == 1, "the one that was refused goes again"
    dispatcher.settle(world.lease(stuck[0][1]), Served(), 6.0)
    dispatcher.settle(world.go(dispatcher, 7.0), Limited("rpm"), 7.0)
    assert 5.0 <= pause(dispatcher, 7.0, "rpm")[0] <= 6.0


def test_an_answer_to_what_was_sent_before_the_strike_forgets_nothing(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    early, struck = world.go(dispatcher), world.go(dispatcher)
    dispatcher.settle(struck, Limited("rpm"), 1.0)
    dispatcher.withdraw(struck.request, 1.0)
    dispatcher.settle(early, Served(), 2.0)
    again = world.go(dispatcher, 7.0)
    dispatcher.settle(again, Limited("rpm"), 7.0)
    assert pause(dispatcher, 7.0, "rpm")[0] >= 10.0


@pytest.mark.parametrize(("limit", "cap"), [(None, 4), (3, 3), (0, 1)])
def test_too_many_at_once_caps_the_streams_for_a_while(world: Any, limit: float | None, cap: int) -> None:
    dispatcher = world.dispatcher(a=Limits())
    leases = [world.go(dispatcher) for _ in range(5)]

    def room(now: float) -> list[float]:
        return [r.limit for r in dispatcher.snapshot(now).accounts[0].rooms]

    assert room(0.0) == []
    dispatcher.settle(leases[0], Limited("concurrency", limit=limit), 1.0)
    assert room(1.0) == [cap]
    dispatcher.settle(leases[1], Limited("concurrency", limit=2), 1.1)
    assert room(1.1) == [cap], "of the same volley"
    assert room(6.5) == [cap + 1]
    assert room(31.0) == [cap + 6]
    assert room(61.0) == []


def test_waiting_for_a_cap_to_relax_has_an_alarm(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    leases = [world.go(dispatcher) for _ in range(5)]
    dispatcher.settle(leases[0], Limited("concurrency", limit=4), 1.0)
    dispatcher.due(2.0)
    assert dispatcher.next_due() == 6.0
    assert [who for who, _ in dispatcher.due(6.0)] == [leases[0].request]


def test_a_limit_named_in_a_refusal_is_kept(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(rpm=50))
    dispatcher.settle(world.go(dispatcher), Limited("rpm", 1.0, 3.0), 0.0)
    (room,) = dispatcher.snapshot(0.0).accounts[0].rooms
    assert (room.kind, room.limit) == ("rpm", 3.0)


@pytest.mark.parametrize(("told", "least", "most"), [(None, 1.0, 1.2), (0.2, 1.0, 1.2), (500.0, 120.0, 122.0)])
def test_an_overloaded_backend_rests(world: Any, told: float | None, least: float, most: float) -> None:
    dispatcher = world.dispatcher(a=Limits(), b=Limits())
    lease = world.go(dispatcher)
    assert isinstance(dispatcher.settle(lease, Overloaded(told), 0.0), Go)
    (view,) = (b for b in dispatcher.snapshot(0.0).backends if b.name == lease.backend)
    assert view.blocked_until is not None
    assert least <= view.blocked_until <= most
    assert not view.available
    assert view.breaker == "closed"


def test_overload_rests_longer_each_time_and_then_opens_the_breaker(world: Any) -> None:
    dispatcher, now, rests = world.dispatcher(a=Limits()), 0.0, []
    for _ in range(3):
        lease = world.go(dispatcher, now)
        dispatcher.settle(lease, Overloaded(), now)
        dispatcher.withdraw(lease.request, now)
        until = dispatcher.snapshot(now).backends[0].blocked_until
        assert until is not None
        rests.append(until - now)
        now = until
    assert 1.0 <= rests[0] <= 1.2
    assert 2.0 <= rests[1] <= 2.4
    assert state(dispatcher, now - 0.1) != "closed"


def test_overloads_of_one_moment_are_one_rest_and_a_first_token_forgets_it(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    for lease in [world.go(dispatcher) for _ in range(2)]:
        dispatcher.settle(lease, Overloaded(), 0.1)
        dispatcher.withdraw(lease.request, 0.1)
    until = dispatcher.snapshot(0.1).backends[0].blocked_until
    assert until is not None
    assert until <= 1.3
    dispatcher.settle(world.go(dispatcher, 2.0), Served(), 2.0)
    dispatcher.settle(world.go(dispatcher, 3.0), Overloaded(), 3.0)
    until = dispatcher.snapshot(3.0).backends[0].blocked_until
    assert until is not None
    assert until <= 4.2


def ill(world: Any, outcome: Outcome | None = None) -> tuple[Dispatcher, float]:
    dispatcher = world.dispatcher(a=Limits())
    for lease in [world.go(dispatcher) for _ in range(5)]:
        dispatcher.settle(lease, outcome or Failed("server"), 1.0)
        dispatcher.withdraw(lease.request, 1.0)
    until = dispatcher.snapshot(1.0).backends[0].blocked_until
    assert until is not None
    return dispatcher, until


@pytest.mark.parametrize("kind", ["connect", "timeout", "stall", "server", "protocol"])
def test_failures_open_the_breaker(world: Any, kind: Any) -> None:
    dispatcher, until = ill(world, Failed(kind))
    assert state(dispatcher, 1.0) == "open"
    assert 2.4 <= until <= 3.0


def test_one_request_probes_an_ill_backend_and_its_first_token_lets_the_others_in(world: Any) -> None:
    dispatcher, until = ill(world)
    probe = world.go(dispatcher, until)
    other = world.request(until)
    dispatcher.offer(other, until)
    assert dispatcher.due(until) == []
    assert dispatcher.next_due() == until + 20.0
    dispatcher.started(probe, until + 1.0)
    assert dispatcher.next_due() == until + 1.0
    assert [who for who, _ in dispatcher.due(until + 1.0)] == [other]


@pytest.mark.parametrize("outcome", [Rejected("invalid"), Abandoned(), Limited("burst", 1.0)])
def test_a_probe_that_says_nothing_lets_another_probe(world: Any, outcome: Outcome) -> None:
    dispatcher, until = ill(world)
    probe = world.go(dispatcher, until)
    dispatcher.settle(probe, outcome, until)
    dispatcher.withdraw(probe.request, until)
    assert state(dispatcher, until) == "half-open"
    assert world.go(dispatcher, until + 1.2).backend == "a"


def test_after_the_first_token_nothing_is_tried_again(world: Any) -> None:
    for outcome in (Failed("stall"), Limited("rpm"), Overloaded(), Unusable("not_found")):
        dispatcher = world.dispatcher(a=Limits(), b=Limits())
        lease = world.go(dispatcher)
        dispatcher.started(lease, 0.1)
        assert dispatcher.settle(lease, outcome, 0.2) is None


def test_a_refused_key_is_tried_by_one_request_after_ten_minutes(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    assert 600.0 <= pause(dispatcher, 0.0, "auth")[0] <= 602.0
    trial = world.go(dispatcher, 602.0)
    assert cooling(dispatcher, 603.0) == (inf, "auth")
    waiting = world.request(603.0)
    dispatcher.offer(waiting, 603.0)
    assert dispatcher.due(603.0) == []
    assert dispatcher.settle(trial, Abandoned(), 604.0) is None
    ((_, verdict),) = dispatcher.due(604.0)
    second: Lease = world.lease(verdict)
    dispatcher.settle(second, Unusable("auth"), 605.0)
    assert pause(dispatcher, 605.0, "auth")[0] >= 600.0
    good = world.go(dispatcher, 1300.0)
    dispatcher.started(good, 1301.0)
    assert cooling(dispatcher, 1301.0) == (None, "")


def test_a_refused_key_does_not_shorten_a_pause_of_hours(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    first, second = world.go(dispatcher), world.go(dispatcher)
    dispatcher.settle(first, Limited("quota", 7000.0), 0.0)
    dispatcher.settle(second, Unusable("auth"), 0.0)
    assert pause(dispatcher, 0.0, "quota")[0] >= 7000.0


def test_an_unknown_model_id_is_left_alone_for_ten_minutes(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(), b=Limits())
    lease = world.go(dispatcher)
    dispatcher.settle(lease, Unusable("not_found"), 0.0)
    names = {world.go(dispatcher, 1.0).backend for _ in range(20)}
    assert names == {"a", "b"} - {lease.backend}
    assert lease.backend in {world.go(dispatcher, 602.0).backend for _ in range(40)}


def test_a_request_that_an_engine_chokes_on_again_and_again_counts_once(world: Any) -> None:
    dispatcher, now = world.dispatcher(a=Limits()), 0.0
    for _ in range(4):
        verdict = dispatcher.offer(world.request(now), now)
        for _ in range(4):
            assert isinstance(verdict, Go)
            verdict = dispatcher.settle(verdict.lease, Failed("server"), now)
            now += 1.0
        assert isinstance(verdict, Refuse)
        assert state(dispatcher, now) == "closed"
    assert dispatcher.snapshot(now).backends[0].counters.failed == 16
    assert dispatcher.snapshot(now).backends[0].counters.spilled_in == 0
