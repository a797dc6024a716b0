"""A replica's share of the limits: it holds at once, forgets nothing, and is asked for by what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.bounds import Bounds
from gateway.core.nouns import Advertised, Demand, Go, LimitKind, Limits, Refuse, Room, Served, Shares, Tier, Wait


def room(dispatcher: Any, kind: LimitKind, now: float) -> Room:
    return next(r for r in dispatcher.snapshot(now).accounts[0].rooms if r.kind == kind)


def test_a_share_below_the_limit_holds_at_once(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=10))
    for _ in range(4):
        world.go(dispatcher)
    dispatcher.apply(Shares({"a": Limits(streams=3)}), 0.0)
    assert isinstance(dispatcher.offer(world.request(), 0.0), Wait)
    assert room(dispatcher, "streams", 0.0) == Room("streams", 4, 3, 10, "share")
    dispatcher.apply(Shares({"a": Limits(streams=5)}), 1.0)
    assert dispatcher.next_due() == 1.0
    assert [isinstance(verdict, Go) for _, verdict in dispatcher.due(1.0)] == [True]


def test_a_share_never_lifts_a_limit_and_goes_when_it_is_taken_away(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=2))
    dispatcher.apply(Shares({"a": Limits(streams=50), "unknown": Limits(streams=1)}), 0.0)
    assert room(dispatcher, "streams", 0.0) == Room("streams", 0, 2, 2, "declared")
    dispatcher.apply(Shares({"a": None}), 0.0)
    assert room(dispatcher, "streams", 0.0).whole is None


def test_windows_remember_what_was_sent_under_another_share(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(rpm=10))
    for _ in range(4):
        dispatcher.settle(world.go(dispatcher), Served(), 0.0)
    dispatcher.apply(Shares({"a": Limits(rpm=4)}), 1.0)
    assert isinstance(dispatcher.offer(world.request(1.0), 1.0), Refuse)
    dispatcher.apply(Shares({"a": Limits(rpm=5)}), 2.0)
    dispatcher.offer(world.request(2.0), 2.0)
    assert room(dispatcher, "rpm", 2.0).used == 5


@pytest.mark.parametrize("kind", ["streams", "rpm", "tpm", "rps", "tps", "ramp"])
def test_a_share_of_nothing_sends_nothing_and_wakes_nobody(world: Any, kind: LimitKind) -> None:
    dispatcher = world.dispatcher(a=Limits(**{kind: 1000}))
    dispatcher.apply(Shares({"a": Limits(**{kind: 0})}), 0.0)
    verdict = dispatcher.offer(world.request(), 0.0)
    assert isinstance(verdict, Wait), "a share may come at any moment: not hopeless"
    dispatcher.due(0.0)
    assert dispatcher.next_due() == verdict.until
    dispatcher.apply(Shares({"a": Limits(**{kind: 1000})}), 0.5)
    assert [isinstance(answer, Go) for _, answer in dispatcher.due(0.5)] == [True]


def test_a_request_larger_than_the_share_waits_for_a_larger_share(world: Any) -> None:
    """Alone, what is larger than the limit goes when the window is empty; twenty replicas may not all do that."""
    dispatcher = world.dispatcher(a=Limits(tpm=150))
    world.go(dispatcher)
    dispatcher = world.dispatcher(a=Limits(tpm=150))
    dispatcher.apply(Shares({"a": Limits(tpm=100)}), 0.0)
    assert isinstance(dispatcher.offer(world.request(), 0.0), Wait)
    assert "a share of 150" in dispatcher.explain(world.request(), 0.0)[0].why_not[0]
    dispatcher.apply(Shares({"a": Limits(tpm=150)}), 0.0)
    assert len(dispatcher.due(0.0)) == 1


def test_demands_name_what_is_used_and_what_waits(world: Any) -> None:
    dispatcher = world.dispatcher(
        (Tier(("a",)), Tier(("b",))), a=Limits(streams=1, rpm=10, tpm=10_000), b=Limits(streams=1)
    )
    for _ in range(4):
        dispatcher.offer(world.request(max_tokens=99), 0.0)
    demands = dispatcher.demands(0.0)
    assert demands["a"] == Demand({"streams": 1, "rpm": 1, "tpm": 200}, {"streams": 3, "rpm": 3, "tpm": 600})
    assert demands["b"] == Demand({"streams": 1}, {"streams": 3})


def test_windows_fade_in_demands(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(rps=5))
    dispatcher.settle(world.go(dispatcher), Served(), 0.0)
    assert dispatcher.demands(0.5)["a"].used["rps"] == 1
    assert dispatcher.demands(5.0)["a"].used["rps"] == 0


def test_bounds_say_who_set_them(world: Any) -> None:
    bounds = Bounds(Limits(streams=5, rpm=60))
    bounds.advertised["rpm"] = 50.0
    bounds.learned["tpm"] = 900.0
    bounds.share = Limits(tps=7)
    assert repr(bounds) == "<Bounds streams 5 (declared), rpm 50 (advertised), tpm 900 (learned), tps 7 (share)>"


def test_an_advertised_limit_above_the_share_changes_nothing(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    dispatcher.apply(Shares({"a": Limits(rpm=3)}), 0.0)
    dispatcher.apply(Advertised("a", "rpm", 40.0), 0.0)
    assert room(dispatcher, "rpm", 0.0) == Room("rpm", 0, 3, 40, "share")
