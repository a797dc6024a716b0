"""What has come of an answer and is not read yet, and the one who waits for more."""

from __future__ import annotations

import asyncio


class Arriving:
    """The reader's side of a reply. Belongs to one event loop; one reader at a time."""

    __slots__ = ("_done", "_loop", "_pieces", "_waiter", "connect")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: list[bytes] = []
        self._done = False
        self.connect = 0.0
        self._waiter: asyncio.Future[None] | None = None

    def at_end(self) -> bool:
        """Whether the whole body has been read."""
        return self._done and not self._pieces

    async def _more(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
