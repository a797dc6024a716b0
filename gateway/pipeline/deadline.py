"""`asyncio.timeout` without what it costs: look-ups of the running loop, and a timer for every request.

A deadline far away (half a minute or more) is looked after by a tick once a second that all share; it fires up to a
second late, which is nothing to it. A near one has a timer of its own.

A timer that rings much too late tells that the process stood still (a frozen container, a paused machine). What came in
meanwhile has not been looked at then, so every deadline gets `GRACE` more.
"""

from __future__ import annotations

import asyncio

FAR = 30.0
GRACE = 1.0
_TICK = 1.0
_LATE = 1.0
"""Seconds by which a timer of a process that runs is never late."""


class Deadlines:
    """The far deadlines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.far: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline) -> None:
        self.far.add(deadline)
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK, self._tick)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        assert self._timer is not None
        over = [] if now - self._timer.when() > _LATE else [each for each in self.far if each.at <= now]
        for deadline in over:
            self.far.discard(deadline)
            deadline.fire()
        self._timer = self._loop.call_later(_TICK, self._tick) if self.far else None


class Deadline:
    """Cancels the current task after `seconds`; `expired` tells this cancellation from any other.

    deadline = Deadline(loop, deadlines, seconds)
    try:
        await something()
    except asyncio.CancelledError:
        if not deadline.caught():
            raise
        ...                       # it was the deadline
    finally:
        deadline.close()
    """

    __slots__ = ("_deadlines", "_handle", "_task", "at", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadlines: Deadlines, seconds: float) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._deadlines = deadlines
        self._handle: asyncio.TimerHandle | None = None
        self.expired = False
        self.at = 0.0
        if seconds >= FAR:
            self.at = loop.time() + seconds
            deadlines.add(self)
        else:
            self._handle = loop.call_later(max(0.0, seconds), self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._handle is not None
        if loop.time() - self._handle.when() > _LATE:
            self._handle = loop.call_later(GRACE, self.fire)
        else:
            self.fire()

    def fire(self) -> None:
        """Time is over."""
        self.expired = True
        self._task.cancel()

    def caught(self) -> bool:
        """Whether the cancellation being handled is this deadline's and nobody else's; if so it is undone."""
        return self.expired and self._task.uncancel() == 0

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        else:
            self._deadlines.far.discard(self)
