"""Reloads, what clouds advertise, and what explain says of all that."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.core.breaker import Setback
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Advertised,
    Failed,
    Limited,
    Limits,
    Overloaded,
    QueueRules,
    Refuse,
    Reloaded,
    Served,
    Tier,
    Unusable,
    Wait,
)

ONE = Limits(streams=1)


def test_a_reload_keeps_what_runs_and_new_limits_hold_at_once(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1, rpm=10, ramp=5))
    lease = world.go(dispatcher)
    waiting = world.request()
    dispatcher.offer(waiting, 0.0)
    dispatcher.apply(Reloaded(world.plan(a=Limits(streams=2, rpm=20, ramp=6))), 1.0)
    assert dispatcher.next_due() == 1.0
    ((who, _),) = dispatcher.due(1.0)
    assert who is waiting
    rooms = {r.kind: (r.used, r.limit) for r in dispatcher.snapshot(1.0).accounts[0].rooms}
    assert rooms == {"streams": (2, 2), "rpm": (2, 20), "ramp": (2, 6)}
    assert dispatcher.settle(lease, Served(), 2.0) is None


def test_those_who_wait_for_what_is_gone_are_refused(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    gone, left = world.request(), world.request()
    dispatcher.offer(gone, 0.0)
    dispatcher.offer(left, 0.0)
    plan = world.plan(a=ONE)
    dispatcher.apply(Reloaded(replace(plan, models={})), 1.0)
    assert dispatcher.next_due() == 1.0
    dispatcher.withdraw(left, 1.0)
    assert dispatcher.due(1.0) == [(gone, Refuse("no-model"))]


@pytest.mark.parametrize(
    ("tier", "queue", "reason"),
    [
        (Tier(("a",), when=lambda _: False), QueueRules(), "no-backend"),
        (Tier(("a",)), QueueRules(max_wait=0.5), "max-wait"),
    ],
)
def test_those_who_wait_are_judged_by_the_new_plan(world: Any, tier: Tier, queue: QueueRules, reason: str) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    dispatcher.apply(Reloaded(world.plan((tier,), {"queue": queue}, a=ONE)), 1.0)
    ((_, verdict),) = dispatcher.due(1.0)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == reason


def test_a_lease_outlives_its_backend_and_is_remembered_if_it_returns(world: Any) -> None:
    both, one = world.plan(a=ONE, b=ONE), world.plan(b=ONE)
    dispatcher = Dispatcher(both, Random(1))
    leases = [world.go(dispatcher), world.go(dispatcher)]
    dispatcher.apply(Reloaded(one), 1.0)
    assert repr(dispatcher._fleet) == "<Fleet of 1 backends, 1 retired, 1 models>"
    dispatcher.apply(Reloaded(one), 200.0)
    dispatcher.apply(Reloaded(both), 300.0)
    assert isinstance(dispatcher.offer(world.request(300.0), 300.0), Wait), "a is still busy"
    for lease in leases:
        assert dispatcher.settle(lease, Served(), 301.0) is None
    assert len(dispatcher.due(301.0)) == 1
    dispatcher.apply(Reloaded(world.plan(c=ONE)), 302.0)
    dispatcher.apply(Reloaded(world.plan(c=ONE)), 400.0)
    assert len(dispatcher._fleet.standings) == 2


def test_a_retry_after_a_reload_follows_the_new_plan(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    first = world.go(dispatcher)
    dispatcher.apply(Reloaded(replace(world.plan(a=ONE), models={})), 1.0)
    assert dispatcher.settle(first, Failed("connect"), 2.0) == Refuse("no-model")
    dispatcher.apply(Reloaded(world.plan(a=ONE)), 3.0)
    lease = world.go(dispatcher, 3.0)
    dispatcher.apply(Reloaded(world.plan((Tier(()),), a=ONE)), 4.0)
    assert dispatcher.settle(lease, Failed("connect"), 5.0) == Refuse("no-backend")


def test_a_new_plan_gives_a_refused_key_another_chance(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    dispatcher.apply(Reloaded(world.plan(a=ONE)), 1.0)
    assert world.go(dispatcher, 1.0).backend == "a"


@pytest.mark.parametrize(("reset", "until"), [(None, 5.0), (1.5, 1.5), (30.0, 30.0), (500.0, 60.0)])
def test_an_account_with_nothing_left_cools_until_its_reset(world: Any, reset: float | None, until: float) -> None:
    dispatcher = world.dispatcher(a=Limits())
    dispatcher.apply(Advertised("a", "rpm", remaining=0, reset=reset), 0.0)
    cools = dispatcher.snapshot(0.0).accounts[0].cooling_until
    assert cools is not None
    assert until <= cools <= min(1.2 * until, until + 2.0)
    dispatcher.apply(Advertised("a", "rpm", remaining=0, reset=0.5), 0.0)
    assert dispatcher.snapshot(0.0).accounts[0].cooling_until == cools, "said again, it is no longer"


def test_an_advertised_limit_counts_when_it_is_lower(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(rpm=50))

    def limits() -> dict[str, float]:
        return {r.kind: r.limit for r in dispatcher.snapshot(0.0).accounts[0].rooms}

    for told, rpm in ((10.0, 10.0), (10.0, 10.0), (80.0, 50.0), (0.0, 50.0)):
        dispatcher.apply(Advertised("a", "rpm", limit=told, remaining=3), 0.0)
        assert limits() == {"rpm": rpm}
    dispatcher.apply(Advertised("a", "tpm", limit=900.0), 0.0)
    assert limits() == {"rpm": 50.0, "tpm": 900.0}
    dispatcher.apply(Advertised("nobody", "tpm", limit=900.0), 0.0)


def test_explain_names_a_reason_for_every_backend(world: Any) -> None:
    tiers = (
        Tier(("full", "cool", "rest")),
        Tier(("ill", "lost", "full")),
        Tier(("never",), when=lambda _: False, when_text="x"),
        Tier(("free", "other"), "weighted", {"other": 9.0}),
    )
    names = ("full", "cool", "rest", "ill", "lost", "never", "free", "other", "alien")
    plan = world.plan((*tiers[:3], replace(tiers[3], backends=("free", "other", "alien"))), **dict.fromkeys(names, ONE))
    plan = replace(plan, backends=plan.backends | {"alien": replace(plan.backends["alien"], serves={})})
    dispatcher = Dispatcher(plan, Random(3))
    fleet = dispatcher._fleet
    fleet.meters["full"].take(1, 1, 0.0)
    fleet.meters["cool"].cool(9.0, "rpm", 0.0)
    setback = Setback(plan.policies["p"].breaker, 0.0, Random(1))
    fleet.standings["rest"].overloaded(7.0, 0.0, replace(setback, overload=True))
    for _ in range(5):
        fleet.standings["ill"].failed(setback)
    fleet.standings["lost"].lose("m", 0.0, Random(1))
    lines = {(c.backend, c.tier): c for c in dispatcher.explain(world.request(), 0.0)}
    assert {key: line.why_not for key, line in lines.items()} == {
        ("full", 0): ("streams 1 of 1",),
        ("cool", 0): ("account cooling after rpm for 9.0 s",),
        ("rest", 0): ("resting after overload",),
        ("ill", 1): ("breaker open",),
        ("lost", 1): ("does not know the model",),
        ("full", 1): ("named in a tier above",),
        ("never", 2): ("condition not met: x",),
        ("free", 3): (),
        ("other", 3): (),
        ("alien", 3): ("does not serve the model",),
    }
    assert [line.backend for line in lines.values() if line.chosen] == ["other"]
    assert dispatcher.explain(world.request(model="nobody"), 0.0) == ()
    assert "for" not in repr(fleet.standings["free"])
    assert "blocked until 7" in repr(fleet.standings["rest"])
    assert "cooling (rpm) until 9" in repr(fleet.meters["cool"])


def test_explain_says_that_others_wait(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    (line,) = dispatcher.explain(world.request(), 0.0)
    assert line.why_not == ("streams 1 of 1", "others wait for it")
    assert not line.chosen


@pytest.mark.parametrize(
    ("choose", "score"), [("least-loaded", 0.0), ("fastest", 0.0), ("cheapest", float("inf")), ("weighted", -1.0)]
)
def test_explain_shows_the_number_that_decides(world: Any, choose: Any, score: float) -> None:
    (line,) = world.dispatcher((Tier(("a",), choose),), a=ONE).explain(world.request(), 0.0)
    assert (line.score, line.chosen) == (score, True)


def test_a_refusal_names_at_most_three_full_backends(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(0.0)}, a=ONE, b=ONE, c=ONE, d=ONE)
    for _ in range(4):
        world.go(dispatcher)
    verdict = dispatcher.offer(world.request(), 0.0)
    assert verdict.limit == "a: streams 1 of 1; b: streams 1 of 1; c: streams 1 of 1; …"


def test_when_every_backend_is_out_for_too_long_waiting_is_refused_at_once(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    dispatcher.settle(world.go(dispatcher), Limited("quota"), 0.0)
    verdict = dispatcher.offer(world.request(1.0), 1.0)
    assert verdict == Refuse("hopeless", 60.0, "a: unavailable", ill=True, wait=pytest.approx(900.0, abs=1.0))


def test_who_returns_in_time_is_waited_for(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    verdict = dispatcher.settle(world.go(dispatcher), Overloaded(3.0), 0.0)
    assert verdict == Wait(20.0, 0)
    dispatcher.due(0.0)
    back = dispatcher.next_due()
    assert back is not None
    assert 3.0 <= back <= 3.6
    assert len(dispatcher.due(back)) == 1


def test_a_long_churn_of_waiting_requests_leaves_nothing_behind(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    for turn in range(300):
        request = world.request(turn * 0.01)
        dispatcher.offer(request, turn * 0.01)
        dispatcher.withdraw(request, turn * 0.01)
    assert len(dispatcher._alarms._heap) < 100
    assert dispatcher.next_due() is None
