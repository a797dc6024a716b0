"""An answer that is made in another thread: what has come so far, and how the two sides keep pace.

Nothing is shared between the threads: the other side posts what came into the reader's loop, the reader posts back what
it has read, so that the other side can wait for a slow one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from gateway.upstream.arriving import Arriving
from gateway.upstream.base import UpstreamError

HIGH_WATER = 256 * 1024
"""bytes on their way to a slow reader before the other side waits"""
ACKNOWLEDGE = HIGH_WATER // 4
"""bytes read before the other side is told so"""


class HandedReply(Arriving):
    """One answer, handed over; made in the reader's loop.

    `begin`, `add`, `end` and `fail` are called in that loop with what came. `hang_up` is called when the reader gives
    up, `taken` with the number of bytes that were read since it was called last, `over` once, when there is nothing
    more to come.
    """

    def __init__(
        self, hang_up: Callable[[], None], taken: Callable[[int], None], over: Callable[[HandedReply], None]
    ) -> None:
        super().__init__(asyncio.get_running_loop())
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.header_names: AbstractSet[bytes] = frozenset()
        self._hang_up = hang_up
        self._taken = taken
        self._over = over
        self._unsaid = 0
        self._error: UpstreamError | None = None

    async def head(self) -> None:
        """Wait for the status. Raises `UpstreamError`."""
        while not self.status and self._error is None:
            await self._more()
        if not self.status and self._error is not None:
            raise self._error

    async def read_any(self) -> bytes:
        while not self._pieces:
            if self._done:
                return b""
            if self._error is not None:
                raise UpstreamError("protocol", self._error.cause)
            await self._more()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._unsaid += len(data)
        if self._unsaid >= ACKNOWLEDGE:
            self._taken(self._unsaid)
            self._unsaid = 0
        return data

    async def read_all(self, limit: int) -> bytes:
        found = bytearray()
        while piece := await self.read_any():
            found += piece
            if len(found) > limit:
                self.abort()
                raise UpstreamError("protocol", f"an answer of more than {limit} bytes")
        return bytes(found)

    def abort(self) -> None:
        if not self._done and self._error is None:
            self.fail("protocol", "aborted")
            self._hang_up()

    # --- told by the other side -------------------------------------------------------------------------

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.header_names = {name.lower().encode("latin-1", "replace") for name in headers}
        self.status = status
        self._wake()

    def add(self, data: bytes) -> None:
        if self._error is None:
            self._pieces.append(data)
            self._wake()

    def end(self) -> None:
        self._done = True
        self._over(self)
        self._wake()

    def fail(self, phase: str, cause: str) -> None:
        if not self._done and self._error is None:
            self._error = UpstreamError(phase, cause)
            self._over(self)
            self._wake()
