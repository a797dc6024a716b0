"""What a change of the world means for the accounts. A new plan is the dispatcher's own affair: it moves who waits.

Accounts and backends that are not known are ignored: a share or a header may be older than the plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gateway.core.comeback import later
from gateway.core.fleet import Fleet
from gateway.core.lesson import Learned, Lesson
from gateway.core.meter import Meter
from gateway.core.nouns import Advertised, Prices, Shares
from gateway.core.pauses import PAUSES

if TYPE_CHECKING:
    from random import Random

ADVERTISED_PAUSE = (1.0, 5.0, 60.0)
"""Least, default and longest pause of an account whose cloud says that nothing remains."""


def carry_out(change: Advertised | Shares | Learned | Prices, fleet: Fleet, now: float, rng: Random) -> None:
    """Tell the meters, or the seats."""
    if isinstance(change, Prices):
        fleet.charge(change.backends)
        return
    if isinstance(change, Advertised):
        _advertised(change, fleet, now, rng)
        return
    if isinstance(change, Learned):
        for name, lesson in change.accounts.items():
            if name in fleet.meters:
                _take_over(lesson, fleet.meters[name], now, rng)
            for backend, size, floor in lesson.others.floors:
                if backend in fleet.standings:
                    fleet.standings[backend].floor.hear(size, floor / 1000)
        return
    for name, share in change.accounts.items():
        if name in fleet.meters:
            fleet.meters[name].share(share)


def _advertised(change: Advertised, fleet: Fleet, now: float, rng: Random) -> None:
    meter = fleet.meters.get(change.account)
    if meter is None:
        return
    if change.limit is not None and change.limit >= 1:
        meter.advertise(change.kind, change.limit)
    if change.remaining is not None and change.remaining <= 0:
        least, default, longest = ADVERTISED_PAUSE
        pause = default if change.reset is None else min(max(change.reset, least), longest)
        if now + pause > meter.cooling_until:
            meter.cool(now + later(pause, rng), change.kind, now)


def _take_over(lesson: Lesson, meter: Meter, now: float, rng: Random) -> None:
    learner = meter.learner
    if learner is None:
        return
    rates: tuple[tuple[Literal["rpm", "tpm"], int], ...] = (("rpm", lesson.others.rpm), ("tpm", lesson.others.tpm))
    for kind, elsewhere in rates:
        quota, mark = meter.quotas[kind], lesson.marks.get(kind)
        quota.elsewhere, quota.probe = elsewhere, lesson.probe
        if mark is not None and quota.take_over(mark, now):
            meter.learn(kind, mark.limit)
    if learner.take_over(lesson, meter.held, now):
        # The pause of a refusal is everybody's, else each replica would meet one of its own.
        meter.cool(now + later(PAUSES["concurrency"][0], rng), "concurrency", now)
    meter.settled(now, again=True)
