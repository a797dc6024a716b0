"""Learning through the dispatcher: what an account's limits become, who sees it, and how a backend returns."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import Any

import pytest

from gateway.core.budget import Budgets
from gateway.core.dispatcher import Dispatcher
from gateway.core.gauges import opens, prospect, used
from gateway.core.latency import Floor
from gateway.core.lesson import Learned, Lesson, Mark
from gateway.core.nouns import (
    BreakerRules,
    Failed,
    Go,
    Limited,
    Limits,
    Overloaded,
    Price,
    Reloaded,
    RetryRules,
    Served,
    Tier,
    Usage,
    Wait,
)


def learning(world: Any, learn: str = "within", policy: Any = None, **limits: Limits) -> Dispatcher:
    plan = world.plan(None, policy, **limits)
    accounts = {name: replace(account, learn=learn) for name, account in plan.accounts.items()}
    return Dispatcher(replace(plan, accounts=accounts), Random(7))


def account(dispatcher: Dispatcher, now: float) -> Any:
    return dispatcher.snapshot(now).accounts[0]


def test_an_unknown_account_takes_eight_and_says_why(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    for _ in range(8):
        world.go(dispatcher)
    verdict = dispatcher.offer(world.request(), 0.0)
    assert isinstance(verdict, Wait)
    seen = account(dispatcher, 0.0)
    assert (seen.learnt, seen.learnt_why, seen.held_tokens) == (8, "start", 8 * 201)
    (line,) = dispatcher.explain(world.request(), 0.0)
    assert line.why_not[0] == "streams 8 of 8, learnt: start"


def test_plain_answers_are_learnt_from_their_whole_time(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    leases = [world.go(dispatcher, stream=False) for _ in range(8)]
    for lease in leases:
        dispatcher.started(lease, 0.5)
        dispatcher.settle(lease, Served(Usage(100, 50)), 1.0)
    world.go(dispatcher, 2.0, stream=False)
    leases = [world.go(dispatcher, 2.0, stream=False) for _ in range(7)]
    for lease in leases:
        dispatcher.settle(lease, Served(Usage(100, 50)), 3.0)
    assert account(dispatcher, 3.0).in_flight == 1


def test_progress_tells_the_pace(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    lease = world.go(dispatcher)
    dispatcher.started(lease, 0.1)
    dispatcher.progress(lease, 50, 1.1)
    dispatcher.progress(lease, 0, 1.2)
    assert dispatcher.meters["a"].learner.pace._low_gap == pytest.approx(0.02)  # type: ignore[union-attr]


def test_heavy_prompts_are_counted_in_tokens(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    heavy = world.request(prompt_bytes=300_000)
    world.lease(dispatcher.offer(heavy, 0.0))
    assert isinstance(dispatcher.offer(world.request(prompt_bytes=300_000), 0.0), Wait), (
        "two are more than 131072 tokens"
    )


def test_a_refusal_for_too_many_at_once_is_learnt_and_told_to_others(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=50))
    leases = [world.go(dispatcher) for _ in range(11)]
    dispatcher.settle(leases[0], Limited("concurrency"), 0.1)
    (mark,) = dispatcher.lessons(0.1)["a"].marks.values()
    assert mark == Mark(10.0, 1, 0, 10.0, None, True, why="refused: too many at once")
    assert account(dispatcher, 0.1).rooms[0].source == "learned"
    other = learning(world, a=Limits(streams=50))
    other.apply(Learned({"a": Lesson({"streams": mark, "rpm": Mark(30.0, 1)}), "gone": Lesson()}), 0.0)
    assert account(other, 0.0).learnt == 10
    assert [(room.kind, room.limit) for room in account(other, 0.0).rooms] == [("streams", 8), ("rpm", 30)], (
        "eight at once, till the first have begun"
    )
    other.apply(Learned({"a": Lesson({"streams": replace(mark, limit=20.0), "rpm": Mark(40.0, 1)})}), 0.0)
    assert account(other, 0.0).learnt == 10, "not newer than what is known"
    deaf = world.dispatcher(a=Limits(streams=50))
    deaf.apply(Learned({"a": Lesson({"streams": mark})}), 0.0)
    assert deaf.lessons(0.0) == {}
    assert account(deaf, 0.0).rooms[0].limit == 50


def test_a_platform_that_is_full_lowers_the_limit(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=10))
    leases = [world.go(dispatcher) for _ in range(10)]
    dispatcher.settle(leases[0], Overloaded(), 1.0)
    assert account(dispatcher, 1.0).learnt == pytest.approx(8.5)


def test_an_unnamed_quota_is_learnt_from_what_the_minute_held(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=100))
    for _ in range(60):
        dispatcher.settle(world.go(dispatcher), Served(), 0.0)
    dispatcher.settle(world.go(dispatcher), Limited("rpm"), 0.0)
    rooms = {room.kind: room for room in account(dispatcher, 0.0).rooms}
    assert (rooms["rpm"].limit, rooms["rpm"].source) == (58, "learned")
    for _ in range(58):
        dispatcher.settle(world.go(dispatcher, 100.0), Served(), 100.0)
    dispatcher.meters["a"].settled(130.0, again=True)
    rpm = dispatcher.lessons(130.0)["a"].marks["rpm"]
    assert (rpm.limit, rpm.cuts, rpm.raises) == (59.16, 1, 1), "a little more is tried"


def test_beyond_takes_the_declared_limits_for_a_guess(world: Any) -> None:
    dispatcher = learning(world, "beyond", a=Limits(streams=4, rpm=100, rps=9))
    seen = {room.kind: room.source for room in account(dispatcher, 0.0).rooms}
    assert seen == {"streams": "learned", "rpm": "learned", "rps": "declared"}


def test_a_reload_can_turn_learning_off_and_on(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    lease = world.go(dispatcher)
    plan = world.plan(a=Limits())
    dispatcher.apply(Reloaded(plan), 0.0)
    assert account(dispatcher, 0.0).rooms == ()
    dispatcher.started(lease, 0.5)
    on = replace(plan, accounts={"a": replace(plan.accounts["a"], learn="within")})
    dispatcher.apply(Reloaded(on), 1.0)
    dispatcher.apply(Reloaded(on), 1.0)
    assert account(dispatcher, 1.0).rooms[0].limit == 8
    dispatcher.settle(lease, Served(), 2.0)
    assert account(dispatcher, 2.0).held_tokens == 0


def test_a_backend_comes_back_by_a_ramp(world: Any) -> None:
    dispatcher = learning(world, "off", {"breaker": BreakerRules(open_for=5.0)}, a=Limits(streams=40))
    for _ in range(5):
        lease = world.go(dispatcher)
        dispatcher.settle(lease, Failed("server", retryable=False), 0.0)
    probe = world.go(dispatcher, 10.0)
    dispatcher.started(probe, 10.5)
    early = account(dispatcher, 10.5).rooms[0].limit
    later = account(dispatcher, 13.0).rooms[0].limit
    assert early == 2
    assert 10 < later < 40
    assert account(dispatcher, 19.0).rooms[0].limit == 40


def test_a_backend_without_any_limit_comes_back_at_once(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    for _ in range(5):
        dispatcher.settle(world.go(dispatcher), Failed("server", retryable=False), 0.0)
    dispatcher.started(world.go(dispatcher, 10.0), 10.5)
    assert isinstance(dispatcher.offer(world.request(10.6), 10.6), Go)


def test_a_dead_port_is_tried_again_at_an_even_pace(world: Any) -> None:
    """A probe that nobody answers costs nothing, so the pause does not double."""
    dispatcher = world.dispatcher(a=Limits())
    now = 0.0
    for _ in range(5):
        dispatcher.settle(world.go(dispatcher, now), Failed("connect", retryable=False), now)
    for _ in range(4):
        blocked = dispatcher.snapshot(now).backends[0].blocked_until
        assert blocked is not None
        assert blocked - now <= 5.5
        now = blocked
        dispatcher.settle(world.go(dispatcher, now), Failed("connect", retryable=False), now)


def test_retries_into_a_backend_are_bounded_by_its_own_successes(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=Limits(streams=100), b=Limits(streams=100))
    retried = 0
    for number in range(30):
        lease = world.go(dispatcher, tenant=f"t{number}")
        if lease.backend == "a":
            retried += isinstance(dispatcher.settle(lease, Failed("server"), 0.0), Go)
    assert retried <= 10, "each tenant had a budget of his own, but b takes no more than ten"


def test_a_floor_is_a_low_quantile_that_overload_does_not_raise() -> None:
    floor = Floor()
    assert floor.expected(100) == 0
    floor.learn(100, 1.0, calm=False)
    floor.learn(100, 0.5, calm=False)
    assert floor.expected(100) == pytest.approx(0.9)
    floor.learn(100, 9.0, calm=False)
    assert floor.expected(100) == pytest.approx(0.9)
    floor.learn(100, 9.0, calm=True)
    assert floor.expected(100) == pytest.approx(0.9 + 0.02 * 8.1)
    assert floor.expected(1000) == pytest.approx(8 * floor.expected(100))
    assert floor.expected(10) == floor.expected(100)


def test_plain_answers_after_a_limit_was_learnt_move_the_cap(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=50))
    assert not isinstance(dispatcher.offer(world.request(), 0.0), Wait)
    dispatcher.apply(Learned({"a": Lesson({"streams": Mark(3.0, 1)})}), 0.0)
    world.go(dispatcher, stream=False)
    world.go(dispatcher, stream=False)
    assert isinstance(dispatcher.offer(world.request(), 0.0), Wait)
    assert dispatcher.demands(0.0)["a"].used["rpm"] == 3
    assert dispatcher.demands(99.0)["a"].used["rpm"] == 0


def test_streams_only_accounts_report_streams_only(world: Any) -> None:
    meter = world.dispatcher(a=Limits(streams=5))._fleet.meters["a"]
    assert used(meter, "rpm", 0.0) == 0
    assert not meter.heard(1, 0.0)
    meter.watch(1, 10, 5.0, True, 0.0)
    assert meter.held == 10


def test_budgets_are_each_tenants_own() -> None:
    budgets = Budgets(RetryRules())
    assert budgets.of("a", 0.0) is budgets.of("a", 1.0)
    assert budgets.of("b", 0.0) is not budgets.of("a", 1.0)
    assert repr(budgets) == "<Budgets of 2 tenants>"


def test_of_cold_equals_in_speed_the_cheaper_is_taken_wherever_it_stands(world: Any, priced: Any) -> None:
    plan = world.plan((Tier(("a", "b", "c"), "fastest"),), a=Limits(), b=Limits(), c=Limits())
    dispatcher = Dispatcher(priced(plan, a=Price(2.0, 2.0), b=Price(1.0, 1.0), c=Price(3.0, 3.0)), Random(1))
    assert world.go(dispatcher).backend == "b"


def test_those_who_wait_hope_for_what_was_learnt(world: Any) -> None:
    dispatcher = learning(world, a=Limits())
    meter = dispatcher.meters["a"]
    assert prospect(meter) == inf
    meter.learner.ceiling = 9.0  # type: ignore[union-attr]
    assert prospect(meter) == 8
    assert prospect(learning(world, a=Limits(streams=3))._fleet.meters["a"]) == 3


def test_the_slower_and_the_dearer_are_passed_over(world: Any, priced: Any) -> None:
    plan = world.plan((Tier(("b", "c"), "fastest"),), b=Limits(), c=Limits())
    dispatcher = Dispatcher(priced(plan, b=Price(1.0, 1.0), c=Price(3.0, 3.0)), Random(1))
    assert [world.go(dispatcher).backend for _ in range(3)] == ["b", "b", "b"]
    plan = world.plan((Tier(("b", "c"), "cheapest"),), b=Limits(), c=Limits())
    dispatcher = Dispatcher(priced(plan, b=Price(1.0, 1.0), c=Price(3.0, 3.0)), Random(1))
    assert [world.go(dispatcher).backend for _ in range(3)] == ["b", "b", "b"]


def test_while_a_key_is_tried_nothing_opens_by_itself(world: Any) -> None:
    meter = world.dispatcher(a=Limits()).meters["a"]
    meter.cooling_until = inf
    assert opens(meter, 1, 2, 5.0, certain=False) == inf
    assert opens(meter, 1, 2, 5.0, certain=True) == 5.0


def test_a_first_token_is_due_after_twice_its_floor_and_a_share_of_what_answers_take(world: Any) -> None:
    standing = world.dispatcher(a=Limits())._fleet.standings["a"]
    assert standing.first_due(100, 10.0) == 15.0
    standing.floor.learn(100, 0.5, calm=True)
    assert standing.first_due(100, 10.0) == pytest.approx(12.0)
    standing.duration.add(20.0)
    assert standing.first_due(100, 10.0) == pytest.approx(11.6)
