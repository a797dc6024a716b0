"""When to stop asking a backend that is ill, and how to find out that it has recovered.

                failures in a row, or their share
      CLOSED ────────────────────────────────────▶ OPEN (until a time)
        ▲                                         ▲     │ the time has come and one request is sent
        │ its first token arrived                 │     ▼
        └───────────────────────────────────── PROBING
                                  it failed: ─────┘ twice as long

A probe that says nothing (the client left, the request was at fault, our own limit was hit) gives its place back:
PROBING → OPEN, due at once. Only the probe decides in PROBING and nobody in OPEN: requests sent before the breaker
opened end long after, and would otherwise double the pause or end it.

A streamed probe tells within a time to first token. A plain one says nothing until its whole answer is there, so
after `SECOND_LOOK` another may be sent beside it: whichever answers first decides, and the others then count as any
request does.

Rule: `until` is 0 when closed, `inf` while a streamed probe is out, else the time from which a probe may be sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from gateway.core.nouns import BreakerRules

if TYPE_CHECKING:
    from random import Random

State = Literal["closed", "open", "probing"]

OVERLOADS = 3
"""Platform overloads in a row that open the breaker, whatever the policy says of failures."""

SECOND_LOOK = 1.0
"""Seconds after which a plain probe that has said nothing gets company."""

EARLIER = 0.7
"""A pause is shortened to this share of it at least, by chance: each replica sends a probe of its own, and a cloud that
gets up must not be asked by all of them in one moment. Never longer: who has healed waits for us."""

_SLICES = 10


@dataclass(frozen=True, slots=True)
class Setback:
    """An attempt that broke, by the rules of the policy that sent it.

    probe     it was the one that should find out
    overload  the platform said that it is full
    begun     after its first token: it has been counted already
    cheap     it took no time (nobody listens), so the next probe need not come later than this one
    """

    rules: BreakerRules
    now: float
    rng: Random
    probe: bool = False
    overload: bool = False
    begun: bool = False
    cheap: bool = False


class Breaker:
    """One backend's circuit breaker. The rules come with each failure: they belong to the policy that sent it."""

    __slots__ = ("_failed", "_overloads", "_row", "_slices", "_sum", "_window", "opened", "pause", "state", "until")

    def __init__(self) -> None:
        self.state: State = "closed"
        self.until = 0.0
        self.opened = 0
        self.pause = 0.0
        self._window = 10.0
        self._clear()

    def __repr__(self) -> str:
        return f"<Breaker {self.state}, {self._row} failures in a row, {self._failed}/{self._sum} lately>"

    def seen(self, now: float) -> Literal["closed", "open", "half-open"]:
        """The state in the words that operators use."""
        if self.state == "closed":
            return "closed"
        return "open" if self.state == "open" and now < self.until else "half-open"

    def probe(self, now: float, *, streamed: bool) -> None:
        """The one request that may find out is being sent."""
        self.state = "probing"
        self.until = inf if streamed else now + SECOND_LOOK

    def give_back(self, now: float) -> None:
        """The probe ended and says nothing."""
        if self.state == "probing":
            self.state = "open"
            self.until = now

    def succeeded(self, probe: bool, now: float) -> bool:
        """A first token arrived. True when that closed the breaker."""
        if self.state == "closed":
            self._row = self._overloads = 0
            slices = self._slices
            if slices and slices[-1][0] == int(now * _SLICES / self._window):
                slices[-1][2] += 1
                self._sum += 1
            else:
                self._count(0, 1, now)
            return False
        if not probe:
            return False
        self.state = "closed"
        self.until = 0.0
        self.opened = 0
        self._clear()
        return True

    def failed(self, setback: Setback) -> bool:
        """An attempt failed. True when this opened it."""
        rules, now = setback.rules, setback.now
        probe = setback.probe and self.state == "probing"
        if self.state != "closed" and not probe:
            return False
        if rules.window != self._window:
            self._window = rules.window
            self._forget()
        self._row += 1
        self._overloads = self._overloads + 1 if setback.overload else 0
        self._count(1, 0 if setback.begun else 1, now)
        if not (probe or self._too_many(rules, setback.overload)):
            return False
        if not (setback.cheap and probe):
            self.opened += 1
        self.pause = pause = min(rules.open_for * 2.0 ** min(self.opened - 1, 30), rules.longest)
        self.state = "open"
        self.until = now + pause * setback.rng.uniform(EARLIER, 1.0)
        return True

    def _too_many(self, rules: BreakerRules, overload: bool) -> bool:
        if overload and self._overloads >= OVERLOADS:
            return True
        if self._row >= rules.consecutive:
            return True
        samples = max(self._sum, self._failed)
        return samples >= rules.samples and self._failed >= rules.share * samples

    def _count(self, failed: int, tried: int, now: float) -> None:
        slices, slot = self._slices, int(now * _SLICES / self._window)
        if not slices or slices[-1][0] != slot:
            while slices and slices[0][0] <= slot - _SLICES:
                _, old_failed, old_tried = slices.popleft()
                self._failed -= old_failed
                self._sum -= old_tried
            slices.append([slot, 0, 0])
        slices[-1][1] += failed
        slices[-1][2] += tried
        self._failed += failed
        self._sum += tried

    def _clear(self) -> None:
        self._row = self._overloads = 0
        self._forget()

    def _forget(self) -> None:
        self._failed = self._sum = 0
        self._slices: deque[list[int]] = deque()
