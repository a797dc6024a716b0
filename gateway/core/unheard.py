"""Who is in flight: streams that run, and *unheard* ones, whose first token has not come. The learner's senses.

A cloud serves in order. So unheard streams that are overdue, all sent after whoever began last, are a queue inside it;
and when one begins, those sent before it that are still there hold a place each, and so does it.

Streams from here are counted exactly; what other replicas have in flight we are told, at most a tick or so late. Alone
there are no others, and every sum is our own number.
"""

from __future__ import annotations

from gateway.core.lesson import NOBODY, Others

FEW, FEW_SHARE = 2, 0.02
"""So many overdue streams (or this share of all in flight) are no queue yet."""


class Unheard:
    """Streams in flight of one account, in the order of their numbers."""

    __slots__ = ("_forsaken", "_last_begun", "begun", "others", "unheard")

    def __init__(self) -> None:
        self.unheard: dict[int, float] = {}
        self.begun = 0
        self.others: Others = NOBODY
        self._forsaken: dict[int, float] = {}
        self._last_begun = 0

    @property
    def standing(self) -> int:
        """Streams in flight: those that run, those whose prompt is being read, those that queue in the cloud."""
        others = self.others
        return self.begun + len(self.unheard) + others.begun + others.unheard

    @property
    def running(self) -> float:
        """Streams that share the engine: those that have begun, and in part those whose prompt is being read."""
        others = self.others
        return self.begun + others.begun + (len(self.unheard) + others.unheard) / 2

    @property
    def parts(self) -> int:
        """Replicas that have streams in flight, this one counted in any case."""
        return self.others.active + 1

    def overdue(self, now: float) -> int:
        """Streams from here that wait for their first token in vain, all of them sent after whoever began last."""
        last = self._last_begun
        return sum(1 for number, due in self.unheard.items() if due < now and number > last)

    def queue(self, now: float) -> int:
        """How many, here and elsewhere, wait for their first token in vain; 0 if only a few."""
        overdue = self.overdue(now) + self.others.overdue
        return overdue if overdue >= max(FEW, FEW_SHARE * self.standing) else 0

    def holds(self, number: int) -> int:
        """A stream has just begun: how many from here hold a place in the cloud, to our certain knowledge."""
        return self.begun + sum(1 for other in self.unheard if other < number)

    def forsake(self, number: int, until: float) -> None:
        """A hedge was quicker: nobody awaits this one's first token. It is still a sign of a queue, until a younger one
        begins or that time has come; else a cloud that requests are taken away from would never be seen to queue."""
        if number in self.unheard:
            self._forsaken[number] = until

    def _forget(self, now: float) -> None:
        if self._forsaken:
            for number in [n for n, until in self._forsaken.items() if n < self._last_begun or until <= now]:
                del self._forsaken[number]
                self.unheard.pop(number, None)
