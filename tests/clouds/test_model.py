from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.clouds.fleet import changed
from gateway.clouds.model import Cloud
from gateway.clouds.tickets import Admitted, Ask, Event, Refused, Ticket

Make = Callable[..., Cloud]


def admit(cloud: Cloud, now: float, ask: Ask | None = None) -> Ticket:
    answer = cloud.arrive(ask or Ask(prompt=100), now)
    assert isinstance(answer, Admitted), answer
    return answer.ticket


def refusal(cloud: Cloud, now: float) -> Refused:
    answer = cloud.arrive(Ask(prompt=100), now)
    assert isinstance(answer, Refused), answer
    return answer


def ends(events: list[Event]) -> list[tuple[int, float, str]]:
    return [(event.ticket.id, round(event.at, 6), event.reason) for event in events if event.ends]


def test_the_first_token_takes_prefill_and_one_step(make: Make) -> None:
    cloud = make(laws={"net": "5ms"})
    admit(cloud, 0.0)
    assert cloud.next_due() == pytest.approx(0.100 + 0.005 + 0.010)
    assert cloud.due(0.114) == []
    (first,) = cloud.due(0.116)
    assert (first.kind, first.start, first.count) == ("tokens", 0, 1)


def test_prefill_is_one_queue(make: Make) -> None:
    cloud = make()
    admit(cloud, 0.0)
    second = admit(cloud, 0.0)
    first = next(event for event in cloud.due(9.0) if event.ticket is second)
    assert first.at == pytest.approx(0.2 + 0.01)


def test_a_step_is_longer_the_more_sequences_run(make: Make) -> None:
    cloud = make(laws={"k": "10ms", "prefill": 1e9}, answer={"median": 3})
    admit(cloud, 0.0)
    assert [e.at for e in cloud.due(9.0) if e.kind == "tokens"] == pytest.approx([0.02, 0.04, 0.06], abs=1e-6)
    for _ in range(3):
        admit(cloud, 10.0)
    last = cloud.due(19.0)[-1]
    assert last.at > 10.0 + 3 * 0.03


def test_an_answer_comes_in_events_of_several_tokens_and_ends_once(make: Make) -> None:
    cloud = make(style={"tokens_per_event": 4})
    ticket = admit(cloud, 0.0)
    events = cloud.due(9.0)
    assert [(e.start, e.count) for e in events if e.kind == "tokens"] == [(0, 1), (1, 4), (5, 4), (9, 1)]
    assert ends(events) == [(ticket.id, 0.2, "stop")]
    assert cloud.next_due() is None
    stats = cloud.stats(9.0)
    assert (stats.completed, stats.in_flight, stats.tokens_out) == (1, 0, 10)


def test_max_tokens_cuts_an_answer_short_with_its_reason(make: Make) -> None:
    cloud = make()
    admit(cloud, 0.0, Ask(prompt=10, max_tokens=4))
    events = cloud.due(9.0)
    assert sum(event.count for event in events) == 4
    assert events[-1].reason == "length"


def test_who_finds_no_slot_waits_in_the_clouds_own_queue(make: Make) -> None:
    cloud = make(slots=1, queue=1)
    first, second = admit(cloud, 0.0), admit(cloud, 0.0)
    assert refusal(cloud, 0.0).kind == "overloaded"
    events = cloud.due(9.0)
    assert [ticket for ticket, _, _ in ends(events)] == [first.id, second.id]
    assert cloud.stats(9.0).peak["waiting"] == 1


def test_the_clouds_queue_is_first_come_first_served_and_forgets_who_left(make: Make) -> None:
    cloud = make(slots=1)
    tickets = [admit(cloud, 0.0) for _ in range(4)]
    cloud.leave(tickets[1], 0.01)
    assert [ticket for ticket, _, _ in ends(cloud.due(9.0))] == [tickets[0].id, tickets[2].id, tickets[3].id]


def test_leaving_frees_the_slot_at_once_and_only_once(make: Make) -> None:
    cloud = make(limits={"streams": 1})
    ticket = admit(cloud, 0.0)
    cloud.leave(ticket, 0.05)
    cloud.leave(ticket, 0.06)
    assert cloud.in_flight == 0
    admit(cloud, 0.05)
    assert cloud.stats(1.0).disconnects == 1


def test_the_slot_is_free_before_the_last_event_is_seen(make: Make) -> None:
    cloud = make(limits={"streams": 1})
    ticket = admit(cloud, 0.0)
    assert any(event.ends for event in cloud.due(0.21))
    assert ticket.phase == "ended"
    admit(cloud, 0.21)


def test_keep_alives_come_until_the_first_token(make: Make) -> None:
    cloud = make(slots=1, style={"keep_alive": 0.05})
    admit(cloud, 0.0)
    second = admit(cloud, 0.0)
    kinds = [event.kind for event in cloud.due(9.0) if event.ticket is second]
    assert kinds[:6] == ["keepalive"] * 6
    assert set(kinds[6:]) == {"tokens", "finish"}


def test_a_cloud_may_give_up_on_what_it_has_not_begun(make: Make) -> None:
    cloud = make(slots=1, give_up=0.15, answer={"median": 100})
    first, second = admit(cloud, 0.0), admit(cloud, 0.0)
    kinds = [(event.ticket.id, event.kind) for event in cloud.due(9.0) if event.ends]
    assert kinds == [(second.id, "cut"), (first.id, "finish")]
    assert cloud.stats(9.0).cut == 1


@pytest.mark.parametrize(
    ("limit", "kind"),
    [("streams", "concurrency"), ("rpm", "rpm"), ("rps", "rpm"), ("ramp", "burst"), ("daily", "quota")],
)
def test_a_cloud_refuses_exactly_above_its_limit(make: Make, limit: str, kind: str) -> None:
    cloud = make(limits={limit: 3})
    for _ in range(3):
        admit(cloud, 0.0)
    refused = refusal(cloud, 0.0)
    assert (refused.kind, refused.limit, refused.number, refused.seen) == (kind, limit, 3, 3)
    stats = cloud.stats(0.0)
    assert stats.overruns == {limit: 1}
    assert stats.refused == {kind: 1}


@pytest.mark.parametrize("limit", ["tpm", "tps"])
def test_a_token_limit_counts_prompts_at_once_and_answers_as_they_come(make: Make, limit: str) -> None:
    cloud = make(limits={limit: 105})
    admit(cloud, 0.0)
    cloud.due(0.14)  # 4 tokens of the answer
    second = admit(cloud, 0.14, Ask(prompt=1))
    assert refusal(cloud, 0.14).kind == "tpm"
    cloud.leave(second, 0.14)
    assert refusal(cloud, 0.14).kind == "tpm"
    admit(cloud, 0.14 + (60.0 if limit == "tpm" else 1.0))


def test_a_ramp_may_rise_by_its_step_each_second(make: Make) -> None:
    cloud = make(limits={"ramp": 2})
    assert [sum(isinstance(cloud.arrive(Ask(), float(s)), Admitted) for _ in range(20)) for s in range(4)] == [
        2,
        4,
        6,
        8,
    ]


def test_a_limit_may_shrink_and_what_runs_goes_on(make: Make) -> None:
    cloud = make(limits={"streams": 4})
    for _ in range(4):
        admit(cloud, 0.0)
    cloud.change(changed(cloud.profile, {"limits": {"streams": 2}}), 0.0)
    assert refusal(cloud, 0.0).number == 2
    assert len(ends(cloud.due(9.0))) == 4


def test_more_slots_let_those_in_who_wait(make: Make) -> None:
    cloud = make(slots=1)
    for _ in range(3):
        admit(cloud, 0.0)
    cloud.change(changed(cloud.profile, {"slots": 3}), 0.0)
    assert (cloud.stats(0.0).running, cloud.stats(0.0).waiting) == (3, 0)


def test_a_prefix_seen_before_costs_no_prefill(make: Make) -> None:
    cloud = make(prefix_cache=True)
    admit(cloud, 0.0, Ask(prompt=1000, units=((1, 800), (2, 1000))))
    cloud.due(9.0)
    again = admit(cloud, 10.0, Ask(prompt=900, units=((1, 800), (3, 900))))
    assert again.cached == 800
    assert cloud.next_due() == pytest.approx(10.0 + 0.1 + 0.01)
    assert cloud.stats(10.0).tokens_cached == 800


def test_the_same_seed_gives_the_same_day(make: Make) -> None:
    def day(seed: int) -> list[tuple[float, str]]:
        cloud = make(seed, laws={"jitter": 0.3}, answer={"sigma": 0.5}, faults={"cut": 0.2, "server": 0.2})
        for i in range(30):
            cloud.arrive(Ask(), i * 0.05)
        return [(event.at, event.kind) for event in cloud.due(99.0)]

    assert day(1) == day(1)
    assert day(1) != day(2)


def test_what_the_shell_turns_away_is_counted(make: Make) -> None:
    cloud = make()
    assert cloud.turn_away("auth", 0.0) == Refused("auth")
    assert cloud.stats(0.0).refused == {"auth": 1}
    assert repr(cloud) == "<Cloud cloud: 0 running, 0 waiting>"
