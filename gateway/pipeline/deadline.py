"""`asyncio.timeout` without its look-ups of the running loop, which on the hot path cost as much as a decision."""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels the current task after `seconds`; `expired` tells this cancellation from any other.

    deadline = Deadline(loop, seconds)
    try:
        await something()
    except asyncio.CancelledError:
        if not deadline.caught():
            raise
        ...                       # it was the deadline
    finally:
        deadline.close()
    """

    __slots__ = ("_handle", "_task", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self.expired = False
        self._handle = loop.call_later(max(0.0, seconds), self._fire)

    def _fire(self) -> None:
        self.expired = True
        self._task.cancel()

    def caught(self) -> bool:
        """Whether the cancellation being handled is this deadline's and nobody else's; if so it is undone."""
        return self.expired and self._task.uncancel() == 0

    def close(self) -> None:
        self._handle.cancel()
