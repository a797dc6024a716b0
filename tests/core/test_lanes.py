"""The order of those who wait, their places, newest first under overload, and who gives way when they are too many."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.lanes import HIGH, LOW
from gateway.core.nouns import Advertised, Go, Lease, Limits, QueueRules, Refuse, Served, Tier, Usage, Wait

ONE = Limits(streams=1)


def order(dispatcher: Dispatcher, lease: Lease, now: float, step: float = 0.01, most: int = 1000) -> list[str]:
    """End one after the other and see who comes next: tenants."""
    found = []
    while len(found) < most:
        dispatcher.settle(lease, Served(Usage(101, 100)), now)
        gone = [verdict.lease for _, verdict in dispatcher.due(now) if isinstance(verdict, Go)]
        if not gone:
            return found
        (lease,) = gone
        found.append(lease.request.tenant)
        now += step
    return found


def wait(world: Any, dispatcher: Dispatcher, now: float, tenant: str, **more: Any) -> int:
    verdict = dispatcher.offer(world.request(now, tenant=tenant, **more), now)
    assert isinstance(verdict, Wait), verdict
    return verdict.position


def test_tenants_take_turns_whatever_the_length_of_their_queues(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher, tenant="heavy")
    places = [wait(world, dispatcher, 0.1, "heavy") for _ in range(6)]
    assert places == [0, 1, 2, 3, 4, 5]
    assert wait(world, dispatcher, 0.2, "light") == 0
    assert wait(world, dispatcher, 0.2, "light") == 2
    assert order(dispatcher, lease, 0.3)[:5] == ["light", "heavy", "light", "heavy", "heavy"]


def test_a_place_counts_those_who_will_go_before_and_bands_above(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(1e4)}, a=ONE)
    lease = world.go(dispatcher, tenant="x")
    for tenant in ("a", "b"):
        for _ in range(3):
            wait(world, dispatcher, 0.1, tenant)
    assert wait(world, dispatcher, 0.2, "c") == 2, "one of a and one of b came before with the same counters"
    assert wait(world, dispatcher, 0.2, "c") == 5
    assert wait(world, dispatcher, 0.2, "d", class_="batch") == 8
    assert wait(world, dispatcher, 0.2, "e", class_="interactive") == 0
    assert order(dispatcher, lease, 0.3)[:5] == ["e", "d", "a", "b", "c"], "the batch band is owed a little"


def test_newest_first_while_the_oldest_has_waited_too_long(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(20.0)}, a=ONE)
    lease = world.go(dispatcher, class_="interactive")

    def ask(at: float) -> str:
        request = world.request(at, class_="interactive")
        assert isinstance(dispatcher.offer(request, at), Wait)
        return str(request.id)

    first, second = ask(1.0), ask(1.0 + HIGH * 20.0 - 0.1)
    assert [h.request.id for h in dispatcher._waiting.heads()] == [first]
    third = ask(1.0 + HIGH * 20.0 + 0.1)
    assert [h.request.id for h in dispatcher._waiting.heads()] == [third]
    waiting = [(t.request.id, place.own) for tail in dispatcher._waiting.tails(9) for t, place in tail]
    assert waiting == [(first, 2), (second, 1), (third, 0)]
    assert order(dispatcher, lease, 12.0, most=1) == ["t"]
    by_name = {t.request.id: t.request for t in dispatcher._waiting}
    dispatcher.withdraw(by_name[first], 12.0)
    assert [h.request.id for h in dispatcher._waiting.heads()] == [second]
    fourth = ask(1.0 + HIGH * 20.0 - 0.1 + LOW * 20.0)
    assert [h.request.id for h in dispatcher._waiting.heads()] == [second], f"{fourth} is young, and so is the oldest"


def test_who_becomes_hopeless_while_he_waits_is_told_before_his_time_is_over(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(10.0)}, a=ONE)
    lease = world.go(dispatcher, class_="interactive")
    refused: list[tuple[float, float, str]] = []
    now = 0.0
    while now < 40.0:
        now += 0.1
        for _ in range(2):
            dispatcher.offer(world.request(now, class_="interactive"), now)
        for ticket in [lease] if int(now * 10) % 2 else []:
            dispatcher.settle(ticket, Served(Usage(101, 100)), now)
        for request, verdict in dispatcher.due(now):
            if isinstance(verdict, Go):
                lease = verdict.lease
            else:
                refused.append((now, now - request.arrived, verdict.reason))
    late = [(waited, reason) for at, waited, reason in refused if at > 15.0]
    assert late
    assert {reason for _, reason in late} == {"hopeless"}
    assert max(waited for waited, _ in late) < 9.0


def test_when_nothing_can_open_in_time_all_who_wait_are_told(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    for tenant in ("a", "a", "b"):
        wait(world, dispatcher, 0.1, tenant)
    dispatcher.apply(Advertised("a", "rpm", None, 0, 50.0), 1.0)
    verdicts = [verdict for _, verdict in dispatcher.due(1.0)]
    assert [verdict.reason for verdict in verdicts if isinstance(verdict, Refuse)] == ["hopeless"] * 3
    assert dispatcher.next_due() is None


def test_a_backlog_that_begins_anew_at_once_is_the_same_backlog(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    request = world.request(0.1)
    dispatcher.offer(request, 0.1)
    dispatcher.withdraw(request, 0.2)
    wait(world, dispatcher, 0.2, "t")
    wait(world, dispatcher, 0.2, "u")
    dispatcher.due(0.3)
    wait(world, dispatcher, 0.3, "t")
    assert dispatcher._waiting.emptied == {}


def test_lanes_do_not_block_each_other_and_a_slow_one_does_not_hold_a_tenant_back(world: Any) -> None:
    tiers = (Tier(("a",)), Tier(("b",), when=lambda r: r.tenant != "bound", when_text="not bound"))
    dispatcher = world.dispatcher(tiers, {"queue": QueueRules(1e4)}, a=ONE, b=ONE)
    world.go(dispatcher, tenant="free")
    fast = world.go(dispatcher, tenant="free")
    for _ in range(20):
        wait(world, dispatcher, 0.1, "free")
    wait(world, dispatcher, 0.1, "bound")
    order(dispatcher, fast, 1.0, 0.5, most=18)
    assert wait(world, dispatcher, 10.0, "bound") == 1
    shares = dispatcher._fleet.routes["m"].pool.bands[1].shares
    assert shares["bound"].counter < shares["free"].counter
    request = world.request(10.0, tenant="newcomer")
    assert isinstance(dispatcher.offer(request, 10.0), Wait)
    assert shares["newcomer"].counter <= shares["free"].counter


FULL = QueueRules(1e4, 10)


def fill(world: Any, dispatcher: Dispatcher, counts: dict[tuple[str, str], int], **more: Any) -> None:
    for (tenant, class_), count in counts.items():
        for _ in range(count):
            wait(world, dispatcher, 0.1, tenant, class_=class_, weight=3.0 if tenant == "heavy" else 1.0, **more)


@pytest.mark.parametrize(
    ("held", "newcomer", "gives_way"),
    [
        ({("big", "standard"): 10}, ("small", "standard"), ("big", "standard")),
        ({("big", "standard"): 10}, ("big", "standard"), None),
        ({("one", "standard"): 5, ("two", "standard"): 5}, ("one", "standard"), None),
        ({("one", "standard"): 4, ("two", "standard"): 6}, ("one", "standard"), ("two", "standard")),
        ({("heavy", "standard"): 7, ("two", "standard"): 3}, ("two", "standard"), None),
        ({("big", "batch"): 10}, ("x", "interactive"), ("big", "batch")),
        ({("big", "interactive"): 10}, ("x", "batch"), ("big", "interactive")),
        ({("big", "interactive"): 9, ("y", "batch"): 1}, ("x", "batch"), None),
        ({("big", "interactive"): 9, ("y", "batch"): 1}, ("x", "interactive"), ("big", "interactive")),
        ({("a", "standard"): 8, ("y", "batch"): 2}, ("x", "interactive"), ("y", "batch")),
    ],
)
def test_a_full_queue_makes_room_from_whoever_holds_most_for_his_weight(
    world: Any, held: dict[tuple[str, str], int], newcomer: tuple[str, str], gives_way: tuple[str, str] | None
) -> None:
    dispatcher = world.dispatcher(policy={"queue": FULL}, a=ONE)
    world.go(dispatcher, tenant="runs")
    fill(world, dispatcher, held)
    request = world.request(0.2, tenant=newcomer[0], class_=newcomer[1])
    verdict = dispatcher.offer(request, 0.2)
    assert isinstance(verdict, Refuse) == (gives_way is None), verdict
    assert len(dispatcher._waiting) == 10
    if gives_way is not None:
        assert dispatcher.next_due() == 0.2, "who had to go is told at once"
        ((out, told),) = dispatcher.due(0.2)
        assert isinstance(told, Refuse)
        assert told.reason == "queue-full"
        assert told.retry_after is not None
        assert (out.tenant, out.class_) == gives_way


def test_the_bytes_that_wait_are_bounded_too(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(1e4, 100, 1000)}, a=ONE)
    world.go(dispatcher)
    fill(world, dispatcher, {("big", "standard"): 2}, prompt_bytes=450)
    assert isinstance(dispatcher.offer(world.request(0.2, tenant="big", prompt_bytes=450), 0.2), Refuse)
    assert isinstance(dispatcher.offer(world.request(0.2, tenant="small", prompt_bytes=200), 0.2), Wait)
    assert [request.tenant for request, _ in dispatcher.due(0.2)] == ["big"]
    assert isinstance(dispatcher.offer(world.request(0.2, tenant="small", prompt_bytes=2000), 0.2), Refuse)


def test_the_queue_is_shown_by_class_and_by_those_tenants_of_whom_most_wait(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(1e4)}, a=ONE)
    world.go(dispatcher)
    for number in range(8):
        fill(world, dispatcher, {(f"t{number}", "batch"): number + 1})
    fill(world, dispatcher, {("t3", "standard"): 9})
    view = dispatcher.snapshot(1.0)
    assert view.waiting_classes == {"interactive": 0, "standard": 9, "batch": 36}
    assert list(view.waiting_tenants) == ["t3", "t7", "t6", "t5", "t4"]
    assert view.waiting_tenants == {
        "t3": {"batch": 4, "standard": 9},
        "t7": {"batch": 8},
        "t6": {"batch": 7},
        "t5": {"batch": 6},
        "t4": {"batch": 5},
    }
