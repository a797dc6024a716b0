"""Finding requests that have ended: this process's own in memory, and, where there is a Redis, the traces that every
replica left there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.store.base import StoreDown
from gateway.telemetry.recent import WITHIN, Pick
from gateway.telemetry.spans import Told
from gateway.telemetry.traces import Tracing

if TYPE_CHECKING:
    from gateway.store.stream import UsageStream

TRACES = "spillgate:traces"
_decode = msgspec.json.Decoder(Told).decode


class Lookup:
    """One per process. A Redis that is out of reach is as if there were none; `trouble` says so after a look."""

    def __init__(self, tracing: Tracing, redis_url: str = "", wall: Callable[[], float] = time.time) -> None:
        self._tracing = tracing
        self._url = redis_url
        self._wall = wall
        self._stream: UsageStream | None = None
        self.trouble = ""

    async def find(self, name: str) -> Told | None:
        """By the id of the request or of its trace."""
        found = self._tracing.find(name)
        if found is not None:
            return found
        async for told in self._shared(name.encode()):
            if name in {told.id, told.trace}:
                return told
        return None

    async def pick(self, pick: Pick, count: int) -> list[Told]:
        """So many at most, of all replicas: the last first; for `slow` the slowest of the last minutes first."""
        found = {told.id: told for told in self._tracing.pick(pick, count)}
        since = _written(self._wall() - WITHIN)
        mark = f'"{pick}"'.encode() if pick not in {"last", "slow"} else b""
        more = 0
        async for told in self._shared(mark):
            if pick == "slow" and told.at < since:
                break
            if not mark or pick in told.kept:
                found.setdefault(told.id, told)
                more += 1
            if pick != "slow" and more >= count:
                break
        if pick == "slow":
            return sorted(found.values(), key=lambda told: -told.total)[:count]
        return sorted(found.values(), key=lambda told: told.at, reverse=True)[:count]

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        if self._stream is not None:
            await self._stream.aclose()

    async def _shared(self, mark: bytes) -> AsyncIterator[Told]:
        """What all replicas left, the last first, as far as it says `mark` and we understand it: they may be newer."""
        self.trouble = ""
        if not self._url:
            return
        if self._stream is None:
            from gateway.store.stream import UsageStream  # redis-py is imported only where there is a Redis

            self._stream = UsageStream(self._url, 0, stream=TRACES)
        try:
            async for line in self._stream.newest():
                if mark in line:
                    with suppress(msgspec.MsgspecError):
                        yield _decode(line)
        except StoreDown as error:
            self.trouble = str(error)


def _written(unix: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix))


def plain(told: Told) -> dict[str, Any]:
    """As plain data."""
    found: dict[str, Any] = msgspec.to_builtins(told)
    return found
