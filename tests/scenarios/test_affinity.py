"""Real conversations, sent where their beginnings are known: what clouds find in their caches.

The trace has the ids of every prompt's blocks; a pretend cloud remembers all that it has seen. Perfect stickiness is
one cloud that sees everything. Three times the trace's pace: some sixteen requests in flight per backend.
"""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import ceil
from pathlib import Path
from random import Random

import pytest

from gateway.core.affinity import QUIET
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Account,
    Backend,
    Go,
    Lease,
    Limits,
    Model,
    Plan,
    Policy,
    QueueRules,
    Request,
    Served,
    Tier,
    Usage,
)
from gateway.core.rules import AffinityRules

Note = Callable[[str], None]
TRACE = Path(__file__).with_name("data") / "mooncake_conversation.csv.xz"
PACE = 3.0
STREAMS = 320
"""all backends together; two fifths are in use on average"""


@dataclass(frozen=True)
class Ask:
    at: float
    prompt: int
    answer: int
    blocks: tuple[int, ...]

    @property
    def takes(self) -> float:
        return 2.0 + self.prompt / 20_000 + self.answer * 0.03


def read() -> Iterator[Ask]:
    with lzma.open(TRACE, "rt") as lines:
        for line in lines:
            at, prompt, answer, *runs = map(int, line.split(","))
            blocks = tuple(i for first, n in zip(runs[::2], runs[1::2], strict=True) for i in range(first, first + n))
            yield Ask(at / 1000 / PACE, prompt, answer, blocks)


@pytest.fixture(scope="module")
def trace() -> list[Ask]:
    found = list(read())
    assert len(found) == 12_031
    return found


def plan(backends: int, affinity: AffinityRules | None) -> Plan:
    names = tuple(f"cloud-{i}" for i in range(backends))
    policy = Policy("p", (Tier(names),), QueueRules(), affinity=affinity)
    return Plan(
        models={"m": Model("m", "p")},
        backends={name: Backend(name, name, {"m": "m"}) for name in names},
        accounts={name: Account(name, Limits(streams=STREAMS // backends)) for name in names},
        policies={"p": policy},
    )


@dataclass
class Course:
    """What came of a replay. `shares`: of the blocks sent, what had been seen by the cloud that they were sent to."""

    hits: int = 0
    blocks: int = 0
    seen: dict[str, set[int]] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    over: int = 0
    """dispatches to a backend above its part of the load"""

    @property
    def share(self) -> float:
        return self.hits / self.blocks

    def take(self, backend: str, ask: Ask) -> None:
        cache = self.seen.setdefault(backend, set())
        known = next((i for i, block in enumerate(ask.blocks) if block not in cache), len(ask.blocks))
        cache.update(ask.blocks)
        self.hits += known
        self.blocks += len(ask.blocks)
        self.sent[backend] = self.sent.get(backend, 0) + 1


def mark(block: int) -> int:
    """Ids of blocks are small numbers; marks are hashes."""
    return (block + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1


def replay(trace: list[Ask], plan: Plan, seed: int = 1) -> Course:
    """Every request of the trace through one dispatcher, in its own time."""
    dispatcher = Dispatcher(plan, Random(seed))
    course, ends, numbers = Course(), list[tuple[float, int, Lease, Ask]](), count()
    flying = dict.fromkeys(plan.backends, 0)
    for ask in trace:
        while ends and ends[0][0] <= ask.at:
            when, _, lease, done = heappop(ends)
            flying[lease.backend] -= 1
            dispatcher.settle(lease, Served(Usage(done.prompt, done.answer)), when)
        request = Request(
            f"r{next(numbers)}", "t", "m", "standard", ask.prompt * 4, None, True, ask.at,
            affinity=tuple(map(mark, ask.blocks[:64])),
        )  # fmt: skip
        verdict = dispatcher.offer(request, ask.at)
        assert isinstance(verdict, Go)
        lease = verdict.lease
        dispatcher.started(lease, ask.at)
        flying[lease.backend] += 1
        heappush(ends, (ask.at + ask.takes, next(numbers), lease, ask))
        course.take(lease.backend, ask)
        busy = flying[lease.backend] >= QUIET * STREAMS / len(flying) + 1
        course.over += busy and flying[lease.backend] > ceil(1.25 * sum(flying.values()) / len(flying))
    return course


def perfect(trace: list[Ask]) -> float:
    course = Course()
    for ask in trace:
        course.take("one", ask)
    return course.share


def test_nine_of_ten_blocks_that_could_be_found_are_found_with_the_load_spread(trace: list[Ask], note: Note) -> None:
    most = perfect(trace)
    assert most == pytest.approx(0.366, abs=0.001)
    for backends in (4, 8):
        courses = {
            "affinity": replay(trace, plan(backends, AffinityRules())),
            "least-loaded": replay(trace, plan(backends, None)),
            "by chance": replay(trace, by_chance(plan(backends, None))),
        }
        for name, course in courses.items():
            spread = max(course.sent.values()) / (len(trace) / backends)
            note(
                f"{backends} backends, {name:12}: {course.share:5.1%} of blocks found, {course.share / most:4.0%} of "
                f"perfect stickiness; the busiest was sent {spread:4.2f} times the mean, {course.over} above 1.25 times"
            )
        sticky = courses["affinity"]
        assert sticky.share >= 0.9 * most
        assert sticky.over == 0
        assert max(sticky.sent.values()) <= 1.25 * len(trace) / backends
        assert courses["least-loaded"].share < 0.6 * most


def by_chance(plan: Plan) -> Plan:
    tier = Tier(tuple(plan.backends), "weighted", dict.fromkeys(plan.backends, 1.0))
    return replace(plan, policies={"p": replace(plan.policies["p"], tiers=(tier,))})
