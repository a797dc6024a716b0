from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher, LeaseEnded
from gateway.core.nouns import (
    Abandoned,
    Failed,
    Go,
    Limited,
    Limits,
    QueueRules,
    Refuse,
    Rejected,
    RetryRules,
    Served,
    Tier,
    Usage,
    Wait,
)

ONE = Limits(streams=1)


def test_a_request_goes_where_there_is_room(world: Any) -> None:
    lease = world.go(world.dispatcher(a=ONE), 5.0)
    assert (lease.backend, lease.account, lease.model_id, lease.policy) == ("a", "a", "a-id", "p")
    assert (lease.tier, lease.attempt, lease.granted, lease.reserved) == (0, 1, 5.0, 201)


def test_an_alias_is_its_model(world: Any) -> None:
    assert world.go(world.dispatcher(a=ONE), model="alias").backend == "a"


def test_an_unknown_model_is_refused(world: Any) -> None:
    assert world.dispatcher(a=ONE).offer(world.request(model="x"), 0.0) == Refuse("no-model")


def test_a_request_that_meets_no_condition_has_no_backend(world: Any) -> None:
    tiers = (Tier(("a",), when=lambda r: r.class_ == "batch", when_text="batch"),)
    dispatcher = world.dispatcher(tiers, a=ONE)
    assert dispatcher.offer(world.request(), 0.0) == Refuse("no-backend")
    assert world.go(dispatcher, class_="batch").backend == "a"


def test_a_lower_tier_is_used_only_when_no_backend_above_has_room(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=ONE, b=Limits(streams=5))
    leases = [world.go(dispatcher) for _ in range(3)]
    assert [lease.tier for lease in leases] == [0, 1, 1]
    dispatcher.settle(leases[0], Served(), 1.0)
    assert world.go(dispatcher, 1.0).tier == 0
    by_name = {b.name: b.counters.spilled_in for b in dispatcher.snapshot(1.0).backends}
    assert by_name == {"a": 0, "b": 2}


def test_those_who_wait_go_in_the_order_in_which_they_came(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    first, second = world.request(0.1), world.request(0.2)
    assert dispatcher.offer(first, 0.1) == Wait(20.1, 0)
    assert dispatcher.offer(second, 0.2) == Wait(20.2, 1)
    assert dispatcher.due(0.3) == []
    dispatcher.settle(lease, Served(), 1.0)
    assert dispatcher.next_due() == 1.0
    ((who, verdict),) = dispatcher.due(1.0)
    assert who is first
    assert world.lease(verdict).granted == 1.0
    assert dispatcher.next_due() == 20.2
    assert dispatcher.snapshot(1.0).waiting == {"m": 1}


def test_a_newcomer_does_not_overtake_those_who_wait(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    dispatcher.settle(lease, Served(), 1.0)
    assert dispatcher.offer(world.request(1.0), 1.0) == Wait(21.0, 1)


def test_waiting_ends_with_the_patience_of_the_policy_or_of_the_request(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    patient, urgent = world.request(), world.request(deadline=3.0)
    dispatcher.offer(patient, 0.0)
    dispatcher.offer(urgent, 0.0)
    assert dispatcher.next_due() == 3.0
    assert dispatcher.due(3.0) == [(urgent, Refuse("deadline", 5.0, "a: streams 1 of 1"))]
    assert dispatcher.next_due() == 20.0
    assert dispatcher.due(20.0) == [(patient, Refuse("max-wait", 5.0, "a: streams 1 of 1"))]
    assert dispatcher.next_due() is None
    assert dispatcher.due(21.0) == []


def test_who_is_asked_too_late_is_refused_though_there_is_room(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    late, later = world.request(deadline=3.0), world.request(0.1)
    dispatcher.offer(late, 0.0)
    dispatcher.offer(later, 0.1)
    dispatcher.settle(lease, Served(), 5.0)
    answers = dict(dispatcher.due(5.0))
    assert isinstance(answers[late], Refuse)
    assert isinstance(answers[later], Go), "and the one behind him goes at once"


@pytest.mark.parametrize(("queue", "reason"), [(QueueRules(0.0, 10), "max-wait"), (QueueRules(20.0, 0), "queue-full")])
def test_a_queue_of_nothing_refuses_at_once(world: Any, queue: QueueRules, reason: str) -> None:
    dispatcher = world.dispatcher(policy={"queue": queue}, a=ONE)
    world.go(dispatcher)
    verdict = dispatcher.offer(world.request(), 0.0)
    assert verdict == Refuse(reason, 5.0, "a: streams 1 of 1")  # type: ignore[arg-type]


def test_a_full_queue_refuses(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(20.0, 2)}, a=ONE)
    world.go(dispatcher)
    verdicts = [type(dispatcher.offer(world.request(), 0.0)) for _ in range(3)]
    assert verdicts == [Wait, Wait, Refuse]


def test_a_request_that_cannot_start_in_time_is_refused_at_once_with_the_time(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(rpm=1))
    world.go(dispatcher)
    verdict = dispatcher.offer(world.request(10.0), 10.0)
    assert verdict == Refuse("hopeless", 31.0, "a: rpm 1 of 1", wait=pytest.approx(50.28, abs=0.01))
    assert isinstance(dispatcher.offer(world.request(45.0), 45.0), Wait)
    at = dispatcher.next_due()
    assert at is not None
    assert 60.0 < at < 60.5
    assert len(dispatcher.due(at)) == 1


def test_a_hopeless_line_is_recognised_once_durations_are_known(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=2))
    now = 0.0
    for _ in range(20):
        lease = world.go(dispatcher, now)
        dispatcher.settle(lease, Served(), now + 10.0)
        now += 10.0
    for _ in range(2):
        world.go(dispatcher, now)
    verdicts = [dispatcher.offer(world.request(now), now) for _ in range(8)]
    assert [type(v) for v in verdicts] == [Wait] * 4 + [Refuse] * 4
    assert verdicts[-1] == Refuse("hopeless", 1.0, "a: streams 2 of 2", wait=pytest.approx(20.83, abs=0.01))


def test_a_line_is_judged_by_how_it_moved_when_durations_are_unknown(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(2.0, 1000)}, a=Limits(streams=1))
    lease, now = world.go(dispatcher), 0.0
    for _ in range(30):
        dispatcher.offer(world.request(now), now)
        dispatcher.offer(world.request(now), now)
        dispatcher.settle(lease, Rejected("invalid"), now)
        for _, verdict in dispatcher.due(now):
            if isinstance(verdict, Go):
                lease = verdict.lease
        now += 0.5
    verdicts = [dispatcher.offer(world.request(now), now) for _ in range(9)]
    assert ("hopeless", 1.0, "a: streams 1 of 1") in {
        (v.reason, v.retry_after, v.limit) for v in verdicts if isinstance(v, Refuse)
    }


def test_who_leaves_the_queue_is_forgotten(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    gone, stays = world.request(), world.request()
    dispatcher.offer(gone, 0.0)
    dispatcher.offer(stays, 0.0)
    dispatcher.withdraw(gone, 0.5)
    dispatcher.withdraw(world.request(), 0.5)
    dispatcher.settle(lease, Abandoned(), 1.0)
    assert dispatcher.due(1.0) == [], "the slot lingers a moment: the cloud has not noticed yet"
    assert dispatcher.next_due() == pytest.approx(1.05)
    assert [who for who, _ in dispatcher.due(1.05)] == [stays]
    assert dispatcher.snapshot(2.0).totals.withdrawn == 1


def test_alarms_keep_a_distance(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE, b=Limits(rps=1))
    for _ in range(2):
        world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    at = dispatcher.next_due()
    assert at is not None
    dispatcher.due(at - 1e-9)
    again = dispatcher.next_due()
    assert again is not None
    assert again >= at - 1e-9 + 0.001
    assert len(dispatcher.due(again)) == 1


def test_a_newcomer_may_bring_the_alarm_forward(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    dispatcher.due(0.0)
    assert dispatcher.next_due() == 20.0
    dispatcher.offer(world.request(1.0, deadline=4.0), 1.0)
    assert dispatcher.next_due() == 4.0


@pytest.mark.parametrize("use", ["started", "progress", "settle"])
def test_a_lease_ends_once(world: Any, use: str) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    assert dispatcher.settle(lease, Served(), 1.0) is None
    more: dict[str, tuple[Any, ...]] = {"started": (), "progress": (5,), "settle": (Served(),)}
    with pytest.raises(LeaseEnded):
        getattr(dispatcher, use)(lease, *more[use], 2.0)


def test_tokens_are_reserved_then_counted_as_they_flow_then_corrected(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(tpm=10_000))

    def used() -> float:
        (account,) = dispatcher.snapshot(1.0).accounts
        return account.rooms[0].used

    lease = world.go(dispatcher)
    assert used() == 201
    dispatcher.started(lease, 0.5)
    dispatcher.started(lease, 0.6)
    dispatcher.progress(lease, 60, 0.6)
    assert used() == 201
    dispatcher.progress(lease, 60, 0.7)
    assert used() == 221, "outgrew its reservation"
    dispatcher.settle(lease, Served(Usage(81, 130)), 1.0)
    assert used() == 211
    (backend,) = dispatcher.snapshot(1.0).backends
    assert (backend.counters.tokens, backend.counters.prompt_tokens, backend.counters.started) == (130, 81, 1)
    assert backend.ttft == 0.5
    assert backend.tokens_per_second == 130


def test_a_right_estimate_needs_no_correction(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(tpm=1000))
    dispatcher.settle(world.go(dispatcher), Served(Usage(101, 5)), 0.0)
    (room,) = dispatcher.snapshot(0.0).accounts[0].rooms
    assert room.used == 106
    lease = world.go(dispatcher, 1.0)
    dispatcher.progress(lease, 9, 1.0)
    dispatcher.settle(lease, Served(Usage(101, 5)), 1.0)
    (room,) = dispatcher.snapshot(1.0).accounts[0].rooms
    assert room.used == 106 + 110, "what was seen to flow is not taken back"


def test_a_short_answer_gives_back_what_it_reserved(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(tpm=400, tps=100_000))
    lease = world.go(dispatcher)
    assert isinstance(dispatcher.offer(world.request(), 0.0), Wait)
    dispatcher.settle(lease, Served(Usage(150, 10)), 1.0)
    assert len(dispatcher.due(1.0)) == 1


def test_nothing_waits_for_time_when_only_an_ending_can_make_room(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(tpm=300))
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    assert dispatcher.next_due() == 20.0


def test_retries_beyond_the_attempts_are_refused(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"retry": RetryRules(attempts=2)}, a=ONE, b=ONE, c=ONE)
    lease = world.lease(dispatcher.settle(world.go(dispatcher), Failed("connect"), 0.1))
    assert lease.attempt == 2
    verdict = dispatcher.settle(lease, Failed("connect"), 0.2)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == "attempts"


def test_a_retry_without_budget_waits_for_it(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"retry": RetryRules(0.0, 0.5, 30)}, a=Limits(), b=Limits(), c=Limits())
    for _ in range(10):
        lease = world.lease(dispatcher.settle(world.go(dispatcher), Limited("rpm", 1.0), 0.0))
        dispatcher.settle(lease, Rejected("invalid"), 0.0)
        for meter in dispatcher._fleet.meters.values():
            meter.cooling_until = 0.0
    lease = world.go(dispatcher)
    assert dispatcher.settle(lease, Limited("rpm", 1.0), 0.0) == Wait(20.0, 0)
    assert dispatcher.due(0.0) == []
    at = dispatcher.next_due()
    assert at == pytest.approx(2.0, abs=1e-3)
    assert world.go(dispatcher, 1.0).attempt == 1, "others are not held up by it"
    ((who, _),) = dispatcher.due(at)
    assert who is lease.request


def test_a_request_is_not_sent_again_to_who_failed_it_while_another_may_come_back(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=Limits(), b=ONE)
    held = world.lease(dispatcher.settle(world.go(dispatcher), Failed("connect"), 0.0))
    assert held.backend == "b"
    request = world.request()
    verdict = dispatcher.settle(world.lease(dispatcher.offer(request, 0.0)), Failed("server"), 0.1)
    assert verdict == Wait(20.1, 0)
    assert dispatcher.due(0.2) == [], "a has room, but has failed it"
    dispatcher.settle(held, Served(), 1.0)
    ((who, again),) = dispatcher.due(1.0)
    assert who is request
    assert world.lease(again).backend == "b"


def test_when_all_have_failed_it_all_may_be_tried_again(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits())
    lease = world.lease(dispatcher.settle(world.go(dispatcher), Failed("connect"), 0.0))
    assert (lease.backend, lease.attempt) == ("a", 2)
    lease = world.lease(dispatcher.settle(lease, Failed("connect"), 0.0))
    assert (lease.backend, lease.attempt) == ("a", 3)


def test_after_a_limit_another_backend_is_preferred_but_the_same_will_do(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=Limits(), b=ONE)
    spilled, stuck = world.go(dispatcher), world.go(dispatcher)
    held = world.lease(dispatcher.settle(spilled, Limited("burst"), 0.0))
    assert held.backend == "b"
    assert isinstance(dispatcher.settle(stuck, Limited("burst"), 0.0), Wait)
    assert dispatcher.due(0.0) == []
    back = dispatcher.next_due()
    assert back is not None
    assert 5.0 <= back <= 6.0
    ((who, again),) = dispatcher.due(back)
    assert who is stuck.request
    assert world.lease(again).backend == "a"


def test_rules_without_retries_refuse_after_the_first_failure(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"retry": RetryRules(0.0, 0.0)}, a=ONE, b=ONE)
    verdict = dispatcher.settle(world.go(dispatcher), Failed("connect"), 0.0)
    assert isinstance(verdict, Refuse)


def test_a_retry_waits_behind_older_retries(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=Limits(), b=ONE)
    held = world.lease(dispatcher.settle(world.go(dispatcher), Failed("connect"), 0.0))
    old, young = world.go(dispatcher, 0.1), world.go(dispatcher, 0.2)
    assert dispatcher.settle(young, Failed("connect"), 0.3) == Wait(20.3, 0)
    assert dispatcher.settle(old, Failed("connect", retryable=True), 0.4) == Wait(20.4, 0), "his place is by arrival"
    dispatcher.settle(held, Served(), 1.0)
    ((who, _),) = dispatcher.due(1.0)
    assert who is old.request


def test_the_dispatcher_introduces_itself_shortly(world: Any) -> None:
    dispatcher = world.dispatcher(a=ONE)
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    assert repr(dispatcher) == "<Dispatcher <Fleet of 1 backends, 1 models>: 1 running, 1 waiting>"
    assert repr(dispatcher._waiting) == "<Queue: 1 waiting in 1 lanes>"
    (ticket,) = dispatcher._waiting
    assert repr(ticket) == f"<Ticket {ticket.request.id}, attempt 0>"
    assert repr(ticket.path) == "<Path a>"
    assert repr(ticket.path.seats[0]) == "<Seat a in tier 0>"
    fleet = dispatcher._fleet
    assert repr(fleet.standings["a"]) == "<Standing a: 1 in flight, closed>"
    assert repr(fleet.meters["a"]) == "<Meter a: 1/1 in flight, []>"


def test_the_same_seed_makes_the_same_choices(world: Any) -> None:
    plan = world.plan(a=Limits(), b=Limits(), c=Limits())
    requests = [replace(world.request(), id=f"same{n}") for n in range(50)]

    def run(seed: int) -> list[str]:
        dispatcher = Dispatcher(plan, Random(seed))
        return [world.lease(dispatcher.offer(request, 0.0)).backend for request in requests]

    assert run(1) == run(1)
    assert set(run(1)) == {"a", "b", "c"}, "equal backends share"
