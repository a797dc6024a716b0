"""How traffic returns after it was stopped: never all at once, and never everywhere at the same moment.

A queue has grown meanwhile, and every replica has one. So whoever returns does so along a ramp, and pauses end at
times drawn by chance. What is ramped fits what was hit: `Return` is for streams (a cloud that was full), `Climb` for
starts per second (a cloud that guards its rate of growth), `Relief` for a number of streams that was guessed.

| what stopped it | what comes back | why |
|---|---|---|
| breaker | streams, in the time it was left alone last | one good answer says little of a hundred at once |
| overloaded | streams, in the time it rested | the platform was full, and everybody comes back now |
| concurrency | streams, in the time it paused | right at the edge; the limit itself is learnt (or relieved) |
| burst | starts per second, half the rise that was refused | it is the rise that was too much, not the level |
| rpm, tpm, window known | what the window lets through | the minute is over, our count is exact: to wait is waste |
| rpm, tpm, window unknown | streams, in the time it paused | nothing else would make the second try a smaller one |
| nothing remaining (headers) | all at once | the cloud named the moment |
| quota, key | streams, slowly | hours have passed: nothing is known but that it may be refused again |

A return begins when the first request is sent after the pause, from what is in flight then. A burst refusal meanwhile
makes it take twice as long from where it is. `PAUSES` (see `pauses`) says how long nothing is sent at all.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gateway.core.window import Ramp, Window

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

SPREAD = (1.0, 1.6)
LEAST_RETURN, MOST_RETURN = 1.0, 6.0
"""What was left alone comes back in the time for which it was, bounded (seconds), times a factor drawn by chance."""
STEPS = 16
"""In so many steps: each is an alarm for those who wait."""
LATER, MOST_LATER = 0.2, 2.0
"""A pause ends later than it must by up to this share of it, at most so many seconds; never earlier."""
RELIEF_LIFE, RELIEF_STEP = 60.0, 5.0
RELAX = 1.25
PATIENCE, LONGEST_PATIENCE = 30.0, 900.0
"""Seconds without a burst refusal after which the rise may be larger, doubling with each further refusal."""


def span(paused: float, rng: Random) -> float:
    """Seconds in which to come back after a pause: replicas and backends must not return as one."""
    return min(max(paused, LEAST_RETURN), MOST_RETURN) * rng.uniform(*SPREAD)


def later(pause: float, rng: Random) -> float:
    """A pause, longer by chance: replicas that were refused together must not come again together."""
    return pause + min(LATER * pause, MOST_LATER) * rng.random()


class Return:
    """From what was in flight to the whole limit in some seconds. `full`: where no limit is known, what was reached."""

    __slots__ = ("_base", "_full", "_since", "_span")

    def __init__(self, span: float, base: int, full: float, now: float) -> None:
        self._since = now
        self._span = span
        self._base = base
        self._full = full

    def __repr__(self) -> str:
        return f"<Return from {self._base} within {self._span:.1f} s>"

    def cap(self, cap: float, now: float) -> float:
        """The part of a limit that may be used now."""
        base, full = self._base, cap if cap < inf else self._full
        if full == inf:
            return cap
        return min(cap, max(base + 1, int(base + (now - self._since) / self._span * (full - base))))

    def turn(self, now: float) -> float:
        """When it has grown; `inf`: it is over."""
        return now + self._span / STEPS if now < self._since + self._span else inf

    def slower(self, base: int, now: float) -> Return:
        """Too fast for the cloud: from here on, twice as long."""
        return Return(2.0 * self._span, base, self._full, now)


class Relief:
    """A guessed number of streams for an account that learns nothing: one more every few seconds, gone in a minute."""

    __slots__ = ("_cap", "_since")

    def __init__(self, cap: float, now: float) -> None:
        self._cap = max(1.0, float(int(cap)))
        self._since = now

    def __repr__(self) -> str:
        return f"<Relief from {self._cap:g}>"

    def cap(self, now: float) -> float:
        """Streams that may be in flight now."""
        return self._cap + int((now - self._since) / RELIEF_STEP)

    def turn(self, now: float) -> float:
        """When it has grown; `inf`: it is over."""
        if now >= self._since + RELIEF_LIFE:
            return inf
        return self._since + (int((now - self._since) / RELIEF_STEP) + 1) * RELIEF_STEP


class Climb:
    """By how much the starts of a second may exceed those of the second before, learnt from burst refusals.

    Half the rise that was refused; half of that again with each fresh refusal; a quarter more (at least one) whenever
    none has come for a while. Above twice the rise that was refused first it has nothing more to say (`over`).
    """

    __slots__ = ("_most", "_patience", "step", "turn")

    def __init__(self, rise: float, now: float) -> None:
        self.step = max(1.0, rise / 2.0)
        self._most = max(2.0, 2.0 * rise)
        self._patience = PATIENCE
        self.turn = now + PATIENCE

    def __repr__(self) -> str:
        return f"<Climb by {self.step:g} a second>"

    @property
    def over(self) -> bool:
        """Is it so large that it can go?"""
        return self.step > self._most

    def refused(self, now: float) -> None:
        """Still too fast."""
        self.step = max(1.0, self.step / 2.0)
        self._patience = min(2.0 * self._patience, LONGEST_PATIENCE)
        self.turn = now + self._patience

    def relax(self, now: float) -> None:
        """No refusal for a while: a little more."""
        self.step = max(RELAX * self.step, self.step + 1.0)
        self.turn = now + self._patience


def rise(gauges: Iterable[Window | Ramp], in_flight: int, now: float) -> float:
    """By how much the starts of the last second exceed those of the second before, as far as any gauge of requests
    remembers; without one, what is in flight may all have started just now."""
    for gauge in gauges:
        if isinstance(gauge, Ramp):
            return max(1.0, gauge.risen(now))
    for gauge in gauges:
        if isinstance(gauge, Window) and gauge.span > 2.0:
            last = gauge.since(now - 1.0)
            return max(1.0, 2.0 * last - gauge.since(now - 2.0))
    return max(1.0, in_flight)
