"""What is remembered of requests is bounded, and what mattered stays longer."""

from __future__ import annotations

from collections.abc import Callable

from gateway.service import Call, Context
from gateway.telemetry.recent import MOST, MOST_KEPT, MOST_SLOW, PERIODS, WITHIN, Recent
from gateway.telemetry.story import Story

Made = Callable[..., Call]


def story(made: Made, number: int, *kept: str, at: float = 0.0, took: float = 0.1) -> Story:
    found = Story(made(f"req-{number}", received=at - took, responded=at, ended=at), "local", "standard")
    found.kept = kept
    return found


def test_the_last_ones_come_first(made: Made) -> None:
    recent = Recent()
    for number in range(5):
        recent.add(story(made, number, at=float(number)))
    assert [found.id for found in recent.pick("last", 3, 5.0)] == ["req-4", "req-3", "req-2"]


def test_what_failed_is_there_after_thousands_of_others(made: Made) -> None:
    recent = Recent()
    recent.add(story(made, 0, "failed", at=1.0))
    recent.add(story(made, 1, "spilled", at=1.0))
    for number in range(2, 2 + 3 * MOST):
        recent.add(story(made, number, at=2.0))
    assert [found.id for found in recent.pick("failed", 9, 3.0)] == ["req-0"]
    assert [found.id for found in recent.pick("spilled", 9, 3.0)] == ["req-1"]


def test_the_slowest_of_the_last_minutes_is_there_too(made: Made) -> None:
    recent = Recent()
    recent.add(story(made, 0, at=5.0, took=9.0))
    for number in range(1, 3 * MOST):
        recent.add(story(made, number, at=5.0 + number / 100, took=0.1 + number / 1e6))
    now = 5.0 + 3 * MOST / 100
    assert [found.id for found in recent.pick("slow", 1, now)] == ["req-0"]
    assert recent.pick("slow", 1, 5.0 + WITHIN + 1.0)[0].id != "req-0"


def test_it_is_bounded(made: Made) -> None:
    recent = Recent()
    for number in range(20 * MOST):
        recent.add(story(made, number, *(["failed"] if number % 2 else []), at=number / 10, took=number / 1e5))
    everything = recent.pick("last", 10**9, 0.0)
    assert len(everything) <= MOST + MOST_KEPT + MOST_SLOW * PERIODS


def test_a_request_is_found_by_its_id_and_by_its_trace(made: Made) -> None:
    recent = Recent()
    first, second = story(made, 1, at=1.0), story(made, 2, at=2.0)
    first.context = second.context = Context(0xABC, 1)
    recent.add(first)
    recent.add(second)
    assert recent.find("req-1") is first
    assert recent.find(f"{0xABC:032x}") is second
    assert recent.find("req-3") is None
