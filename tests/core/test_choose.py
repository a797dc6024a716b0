from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Limited, Limits, Price, Served, Tier, Unusable


def test_least_loaded_fills_in_proportion_to_the_limits(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=10), b=Limits(streams=30))
    used = Counter(world.go(dispatcher).backend for _ in range(20))
    assert used == {"a": 5, "b": 15}


def test_equals_with_fewer_in_flight_come_first(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(), b=Limits())
    first = world.go(dispatcher).backend
    for _ in range(3):
        names = {first, world.go(dispatcher).backend}
        assert names == {"a", "b"}
        first = world.go(dispatcher).backend


def test_the_fullest_limit_counts(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=100, rpm=4), b=Limits(streams=10))
    assert Counter(world.go(dispatcher).backend for _ in range(10)) == {"a": 3, "b": 7}


def test_the_fastest_is_taken_while_it_has_room(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a", "b"), "fastest"),), a=Limits(streams=2), b=Limits())
    times = {"a": 0.1, "b": 0.9}
    for _ in range(2):
        lease = world.go(dispatcher)
        dispatcher.started(lease, times[lease.backend])
        dispatcher.settle(lease, Served(), 1.0)
    assert [world.go(dispatcher, 1.0).backend for _ in range(4)] == ["a", "a", "b", "b"]


def test_the_cheapest_is_taken_and_an_unknown_price_is_dearest(world: Any, priced: Any) -> None:
    plan = world.plan((Tier(("a", "b", "c"), "cheapest"),), a=Limits(), b=Limits(streams=1), c=Limits(streams=1))
    dispatcher = Dispatcher(priced(plan, b=Price(1.0, 9.0), c=Price(2.0, 4.0)), Random(1))
    assert [world.go(dispatcher).backend for _ in range(4)] == ["c", "b", "a", "a"]


def test_weights_share_by_chance(world: Any) -> None:
    tier = Tier(("a", "b", "c"), "weighted", {"a": 8.0, "b": 2.0, "c": 0.0})
    dispatcher = world.dispatcher((tier,), a=Limits(), b=Limits(), c=Limits())
    used = Counter(world.go(dispatcher).backend for _ in range(500))
    assert used["c"] == 0
    assert 350 < used["a"] < 450
    dispatcher = world.dispatcher((Tier(("a", "b"), "weighted", {"a": 0.0, "b": 0.0}),), a=Limits(), b=Limits())
    assert world.go(dispatcher).backend == "b"


def test_weight_nobody_has_room_means_nobody(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",), "weighted"), Tier(("b",))), a=Limits(streams=1), b=Limits())
    assert [world.go(dispatcher).backend for _ in range(2)] == ["a", "b"]


@pytest.mark.parametrize("choose", ["least-loaded", "fastest", "cheapest", "weighted"])
def test_who_cools_or_has_lost_the_model_is_passed_over(world: Any, choose: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a", "b", "c"), choose),), a=Limits(), b=Limits(), c=Limits())
    one = world.go(dispatcher)
    two = world.lease(dispatcher.settle(one, Limited("burst"), 0.0))
    three = world.lease(dispatcher.settle(two, Unusable("not_found"), 0.0))
    assert {one.backend, two.backend, three.backend} == {"a", "b", "c"}
    assert {world.go(dispatcher).backend for _ in range(9)} == {three.backend}


def test_a_request_larger_than_the_limit_goes_when_nothing_else_counts(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(tpm=150, tps=90))
    lease = world.go(dispatcher)
    dispatcher.settle(lease, Served(), 0.5)
    dispatcher.offer(world.request(50.0), 50.0)
    assert dispatcher.due(50.0) == []
    at = dispatcher.next_due()
    assert at is not None
    assert 60.0 < at < 61.0
    assert len(dispatcher.due(at)) == 1


def test_the_fastest_is_spared_when_it_is_hot(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a", "b"), "fastest"),), a=Limits(streams=20), b=Limits(streams=20))
    times = {"a": 0.1, "b": 0.9}
    for lease in [world.go(dispatcher) for _ in range(2)]:
        dispatcher.started(lease, times[lease.backend])
        dispatcher.settle(lease, Served(), 1.0)
    taken = [world.go(dispatcher, 1.0).backend for _ in range(40)]
    assert taken[:17] == ["a"] * 17, "cold up to 85 %"
    assert taken[17:34] == ["b"] * 17
    assert Counter(taken[34:]) == {"a": 3, "b": 3}, "both hot: the least loaded, and never above a limit"
