from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.clouds.fleet import changed
from gateway.clouds.model import Cloud
from gateway.clouds.tickets import Admitted, Ask, Event, Refused

Make = Callable[..., Cloud]


def visible(events: list[Event]) -> list[str]:
    """Kinds in order, runs of one kind shown once."""
    kinds = [f"{event.kind}:{event.reason}" if event.kind == "finish" else event.kind for event in events]
    return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]


@pytest.mark.parametrize(
    ("fate", "last"),
    [
        ("cut", "cut"),
        ("error_frame", "error"),
        ("error_first", "error"),
        ("only_done", "finish:"),
        ("no_resource", "finish:insufficient_system_resource"),
    ],
)
def test_a_broken_stream_ends_once_and_frees_its_slot(make: Make, fate: str, last: str) -> None:
    cloud = make(faults={fate: 1})
    assert isinstance(cloud.arrive(Ask(), 0.0), Admitted)
    events = cloud.due(9.0)
    assert visible(events)[-1] == last
    assert [event.ends for event in events].count(True) == 1
    if fate in {"error_first", "only_done"}:
        assert len(events) == 1
    stats = cloud.stats(9.0)
    assert (stats.cut, stats.completed, stats.in_flight) == (1, 0, 0)


def test_a_stalled_stream_holds_its_slot_in_silence_until_the_client_leaves(make: Make) -> None:
    cloud = make(faults={"stall": 1}, limits={"streams": 1}, style={"keep_alive": 1})
    answer = cloud.arrive(Ask(), 0.0)
    assert isinstance(answer, Admitted)
    assert visible(cloud.due(60.0))[-1] == "stall"
    assert cloud.next_due() is None
    assert isinstance(cloud.arrive(Ask(), 60.0), Refused)
    cloud.leave(answer.ticket, 60.0)
    assert isinstance(cloud.arrive(Ask(), 60.0), Admitted)


def test_a_stalled_stream_may_keep_its_socket_alive(make: Make) -> None:
    cloud = make(faults={"stall": 1}, style={"keep_alive": 1, "stall_speaks": True})
    cloud.arrive(Ask(), 0.0)
    cloud.due(5.0)
    assert [event.kind for event in cloud.due(10.0)] == ["keepalive"] * 5


@pytest.mark.parametrize("kind", ["server", "overloaded", "content", "timeout"])
def test_a_cloud_may_refuse_by_chance(make: Make, kind: str) -> None:
    assert make(faults={kind: 1}).arrive(Ask(), 0.0) == Refused(kind)


def test_a_crash_cuts_everybody_and_refuses_until_it_is_over(make: Make) -> None:
    cloud = make(slots=1)
    for _ in range(3):
        cloud.arrive(Ask(), 0.0)
    events = cloud.change(changed(cloud.profile, {"fail": "crash"}), 0.05)
    assert [event.kind for event in events] == ["cut"] * 3
    assert cloud.arrive(Ask(), 0.06) == Refused("crash")
    assert cloud.next_due() is None
    cloud.change(changed(cloud.profile, {"fail": None}), 1.0)
    assert isinstance(cloud.arrive(Ask(), 1.0), Admitted)
    stats = cloud.stats(1.0)
    assert (stats.cut, stats.in_flight, stats.running) == (3, 1, 1)


def test_a_crash_loses_the_prefix_cache_and_the_backlog(make: Make) -> None:
    cloud = make(prefix_cache=True)
    ask = Ask(prompt=1000, units=((7, 1000),))
    for _ in range(9):
        cloud.arrive(Ask(prompt=1000), 0.0)
    cloud.arrive(ask, 0.0)
    cloud.change(changed(cloud.profile, {"fail": "crash"}), 0.5)
    cloud.change(changed(cloud.profile, {"fail": None}), 0.5)
    answer = cloud.arrive(ask, 0.5)
    assert isinstance(answer, Admitted)
    assert answer.ticket.cached == 0
    assert cloud.next_due() == pytest.approx(0.5 + 1.0 + 0.01)


@pytest.mark.parametrize(("mode", "kind"), [("refuse", "server"), ("overload", "overloaded")])
def test_a_mode_refuses_new_requests_and_spares_those_that_run(make: Make, mode: str, kind: str) -> None:
    cloud = make()
    cloud.arrive(Ask(), 0.0)
    cloud.change(changed(cloud.profile, {"fail": mode}), 0.0)
    refused = cloud.arrive(Ask(), 0.0)
    assert isinstance(refused, Refused)
    assert refused.kind == kind
    assert visible(cloud.due(9.0)) == ["tokens", "finish:stop"]


def test_a_cloud_that_stalls_goes_on_when_it_wakes(make: Make) -> None:
    cloud = make()
    cloud.arrive(Ask(), 0.0)
    cloud.due(0.15)
    cloud.change(changed(cloud.profile, {"fail": "stall"}), 0.15)
    cloud.arrive(Ask(), 0.15)
    assert cloud.due(50.0) == []
    cloud.change(changed(cloud.profile, {"fail": None}), 50.0)
    events = cloud.due(99.0)
    assert events[0].at > 50.0
    assert cloud.stats(99.0).completed == 2


def test_a_slow_cloud_takes_its_drag_times_as_long(make: Make) -> None:
    cloud = make(fail="slow", drag=4)
    cloud.arrive(Ask(), 0.0)
    assert cloud.due(99.0)[-1].at == pytest.approx(4 * 0.2)


def test_overload_is_told_whatever_the_account_still_has(make: Make) -> None:
    cloud = make(fail="overload", limits={"rpm": 1000})
    cloud.arrive(Ask(), 0.0)
    assert cloud.stats(0.0).overruns == {}
    assert cloud.stats(0.0).fail == "overload"
