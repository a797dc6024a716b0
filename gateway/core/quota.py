"""A rate limit that nobody named, learnt from refusals: requests or tokens in any minute.

A quota is a number in a cloud's books and says nothing of its health, so it is learnt apart from congestion: what our
own window held when the cloud refused is the limit, less a little for the doubt about when the cloud's minute began.
Clouds raise quotas now and then: when the window is full, a little more is tried, and rarer after each refusal.
"""

from __future__ import annotations

from math import inf

from gateway.core.lesson import Mark
from gateway.core.nouns import LimitKind
from gateway.core.window import Ramp, Window

QUOTAS: tuple[LimitKind, ...] = ("rpm", "tpm")
DOUBT = 0.98
STEP = 1.02
FULL = 0.9
PATIENCE, LONGEST = 120.0, 3600.0
"""Seconds between two tries, doubling after each that was refused."""


class Quota:
    """One learnt rate limit of the whole account; `inf` before the first refusal. `turn`: when to ask `due` again.

    `elsewhere`: what other replicas' windows hold, as they told; `probe`: this replica may try for more.
    """

    __slots__ = ("_cuts", "_patience", "_raises", "elsewhere", "limit", "probe", "turn")

    def __init__(self) -> None:
        self.limit = inf
        self.turn = inf
        self._patience = PATIENCE
        self.elsewhere = 0
        self.probe = True
        self._cuts = self._raises = 0

    def __repr__(self) -> str:
        return f"<Quota {self.limit:g}>"

    def refused(self, held: float, now: float) -> float:
        """Refused when our own window held so much besides; the limit from now on."""
        held += self.elsewhere
        if self.limit < inf:
            self._patience = min(2 * self._patience, LONGEST)
        self.limit = max(1.0, float(int(DOUBT * min(held, self.limit))))
        self.turn = now + self._patience
        self._cuts, self._raises = self._cuts + 1, 0
        return self.limit

    def due(self, window: Window | Ramp, now: float) -> bool:
        """Time has passed: True when the limit was raised, because what holds is in use."""
        if now < self.turn:
            return False
        self.turn = now + self._patience
        window.roll(now)
        if not self.probe or window.used < FULL * min(window.limit, self.limit):
            return False
        self.limit = max(self.limit * STEP, self.limit + 1.0)
        self._raises += 1
        return True

    def mark(self) -> Mark | None:
        """What others should know; None before the first refusal."""
        return Mark(round(self.limit, 3), self._cuts, self._raises) if self.limit < inf else None

    def take_over(self, mark: Mark, now: float) -> bool:
        """What another replica learnt. True when it is news."""
        if not mark.beats(self.mark()):
            return False
        self.limit, self._cuts, self._raises = mark.limit, mark.cuts, mark.raises
        self.turn = now + self._patience
        return True
