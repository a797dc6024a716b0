"""The requests that ended lately, in memory: all of the last ones, and for longer those that something happened to and
the slowest of every ten seconds. So what was slow minutes ago is still there after ten thousand fast ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from heapq import heappush, heapreplace
from typing import Literal

from gateway.telemetry.story import Story

Pick = Literal["last", "slow", "failed", "spilled"]
PICKS: tuple[Pick, ...] = ("last", "slow", "failed", "spilled")
MOST = 1000
MOST_KEPT = 500
MOST_SLOW = 5
"""Of each ten seconds."""
PERIOD = 10.0
PERIODS = 60
WITHIN = PERIOD * PERIODS
"""Seconds that `slow` looks back."""


class Recent:
    """Bounded in number, and so in bytes: a story has no body. One append per request."""

    def __init__(self) -> None:
        self._all: deque[Story] = deque(maxlen=MOST)
        self._kept: deque[Story] = deque(maxlen=MOST_KEPT)
        self._periods: deque[list[tuple[float, int, Story]]] = deque(maxlen=PERIODS)
        self._period = -1
        self._serial = 0

    def add(self, story: Story) -> None:
        """Take in a request that has just ended."""
        self._all.append(story)
        if story.kept:
            self._kept.append(story)
        period = int(story.ended / PERIOD)
        if period != self._period:
            self._period = period
            self._periods.append([])
        slow = self._periods[-1]
        if len(slow) < MOST_SLOW or story.total > slow[0][0]:
            self._serial += 1
            push = heappush if len(slow) < MOST_SLOW else heapreplace
            push(slow, (story.total, self._serial, story))

    def find(self, name: str) -> Story | None:
        """By the id of the request, or of its trace (the last one of it)."""
        for story in self._everything():
            if story.id == name or (story.context is not None and f"{story.context.trace:032x}" == name):
                return story
        return None

    def pick(self, pick: Pick, count: int, now: float) -> list[Story]:
        """So many at most: the last to end first, or for `slow` the slowest first."""
        found = self._everything()
        if pick == "slow":
            found = [story for story in found if now - story.ended <= WITHIN]
            return sorted(found, key=lambda story: -story.total)[:count]
        if pick != "last":
            found = [story for story in found if pick in story.kept]
        return found[:count]

    def _everything(self) -> list[Story]:
        slow: Iterable[Story] = (story for period in self._periods for _, _, story in period)
        found = {story.id: story for story in (*self._all, *self._kept, *slow)}
        return sorted(found.values(), key=lambda story: -story.ended)
