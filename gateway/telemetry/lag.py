"""How late the event loop is: what everything that happens in it waits for on top of its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY = 0.5
"""seconds between two looks"""


class Lag:
    """Looks now and then how late it is called, and tells `note` the seconds. Belongs to the loop it is started in."""

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note = note
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._look_at(asyncio.get_running_loop())

    def close(self) -> None:
        """Look no more. Any number of times."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look_at(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + EVERY
        self._next = loop.call_at(due, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._note(max(0.0, loop.time() - due))
        self._look_at(loop)
