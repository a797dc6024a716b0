"""Usage records in a Redis stream: one entry per record, appended in batches by one script call, exactly once.

A call that was not answered may have been carried out, or may be yet. Each writer numbers its batches and the script
remembers the last number, so a batch that comes again, early or late, is not written twice.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from gateway.store.line import Call, Line, Script

STREAM = "spillgate:usage"
FIELD = b"record"
TIMEOUT = 2.0
PAGE = 1000
_MARK_LIVES = 24 * 3600 * 1000
"""Milliseconds; a writer retries for as long as it lives, but no call is on its way for a day."""
_APPEND = Script("stream.lua")


class UsageStream:
    """The stream, to write and to read. Keeps about `keep` records. No connection is made before it is needed."""

    def __init__(self, url: str, keep: int, timeout: float = TIMEOUT, stream: str = STREAM) -> None:
        self._line = Line(url, timeout)
        self._keep = keep
        self._stream = stream
        self._mark = f"spillgate:mark:{{{stream}}}:{secrets.token_hex(6)}"  # in the stream's own hash slot

    def __repr__(self) -> str:
        return f"<UsageStream {self._stream} at {self._line.where}>"

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        """Append a batch; numbers must rise. Raises `StoreDown`; then the same batch may be given again."""
        said: tuple[bytes | str, ...] = (str(number), str(self._keep), str(_MARK_LIVES), *lines)
        await self._line.run(Call(_APPEND, (self._stream, self._mark), said))

    async def read(self, since_ms: int = 0) -> AsyncIterator[bytes]:
        """Every record written since then, in the order of writing. Raises `StoreDown`."""
        start = str(since_ms)
        while True:
            page = await self._line.say(partial(_page, self._stream, start))
            for entry, fields in page:
                if FIELD in fields:
                    yield fields[FIELD]
                start = f"({entry.decode()}"
            if len(page) < PAGE:
                return

    async def newest(self) -> AsyncIterator[bytes]:
        """Every record, the last one first. Raises `StoreDown`."""
        end = "+"
        while True:
            page = await self._line.say(partial(_page_back, self._stream, end))
            for entry, fields in page:
                if FIELD in fields:
                    yield fields[FIELD]
                end = f"({entry.decode()}"
            if len(page) < PAGE:
                return

    async def aclose(self) -> None:
        """Close the connections. Never raises for a server that is down."""
        await self._line.aclose()


async def _page(stream: str, start: str, client: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: list[tuple[bytes, dict[bytes, bytes]]] = await client.xrange(stream, min=start, count=PAGE)
    return found


async def _page_back(stream: str, end: str, client: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: list[tuple[bytes, dict[bytes, bytes]]] = await client.xrevrange(stream, max=end, count=PAGE)
    return found
