"""One call for all replicas: one calls and tells, the others listen, each for all who ask there.

Who finds the lease free calls. While somebody elsewhere listens, what comes is written down, block by block; otherwise
renewing the lease is all that it costs, four times a second. Nobody waits for Redis: where it is slow or gone before an
answer has begun, a replica calls for itself. An answer that has begun waits `PATIENCE` for a Redis that is away, and is
broken off when the one who called has died, since another call's answer would not be its continuation.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from decimal import Decimal

import msgspec

from gateway.core.nouns import Usage
from gateway.errors import RequestError
from gateway.pipeline.behalf import Paid
from gateway.pipeline.flight import MOST_HELD, Flight
from gateway.store.base import StoreDown
from gateway.store.flights import LEASE, Flights, Post

BEAT = 0.25
"""seconds between two renewals"""
SOON, LATE = 0.03, 0.2
"""seconds between two readings, and two writings: the shortest, and the longest when nothing comes"""
PATIENCE = 20.0
MOST = 256
"""calls at a time that are told, or listened to; who comes then calls for itself"""
_AT_ONCE = 64
_encode = msgspec.msgpack.encode


class _Item(msgspec.Struct, array_like=True):
    """What is written down. First the blocks of a stream (`block`), last how it ended: `end`, or `cut` short by the
    cloud; `broken` off by us; or, without a stream, the `whole` answer, or `refused`, or that it is to be looked for
    again (`found`).
    """

    kind: str
    data: bytes = b""
    usage: tuple[int, int, int, int] | None = None
    cost: str = ""
    currency: str = ""
    status: int = 0
    code: str | None = None
    type: str = ""
    message: str = ""
    retry_after: float | None = None


_decode = msgspec.msgpack.Decoder(_Item).decode


class Crossing:
    """What a replica tells others and hears from them. `clock` returns monotonic seconds."""

    def __init__(self, flights: Flights, clock: Callable[[], float]) -> None:
        self._flights = flights
        self._clock = clock
        self._leading: set[asyncio.Task[None]] = set()
        self._following = 0

    def __repr__(self) -> str:
        return f"<Crossing {self._flights!r} [Leading: {len(self._leading)}]>"

    async def claim(self, name: object) -> Post | None:
        """A place in the call of this name; None where Redis cannot say."""
        if len(self._leading) + self._following >= MOST:
            return None
        digest = hashlib.blake2b(repr(name).encode(), digest_size=16).hexdigest()
        try:
            return await self._flights.claim(digest)
        except StoreDown:
            return None

    def lead(self, flight: Flight, post: Post) -> None:
        """Tell others of this call, until it is over and who listens has all of it."""
        task = asyncio.create_task(self._lead(flight, post))
        self._leading.add(task)
        task.add_done_callback(self._leading.discard)

    async def follow(self, flight: Flight, post: Post) -> bool:
        """Bring another replica's answer. False: nothing has come, and who called is gone. Raises `RequestError`."""
        self._following += 1
        try:
            return await self._follow(flight, post)
        finally:
            self._following -= 1

    async def aclose(self) -> None:
        """Stop telling; who listens elsewhere learns it from the lease."""
        for task in self._leading:
            task.cancel()
        await asyncio.gather(*self._leading, return_exceptions=True)
        await self._flights.aclose()

    async def _follow(self, flight: Flight, post: Post) -> bool:
        at, pause = 0, SOON
        heard = self._clock()
        while True:
            try:
                seen = await self._flights.read(post, at)
            except StoreDown:
                if not flight.begun or self._clock() - heard > PATIENCE:
                    return flight.begun
                await asyncio.sleep(LATE)
                continue
            if seen.items or seen.alive:
                heard = self._clock()
            elif self._clock() - heard > (LEASE if flight.begun else 0):
                return flight.begun
            for item in map(_decode, seen.items):
                at += 1
                if item.kind == "found":
                    return False
                if await _take(flight, item):
                    return True
            pause = SOON if seen.items else min(LATE, pause * 1.5)
            await asyncio.sleep(pause)

    async def _lead(self, flight: Flight, post: Post) -> None:
        told, wanted = 0, False
        heard = self._clock()
        flight.keep_on = lambda: wanted
        while self._clock() - heard < PATIENCE:
            over = flight.finished
            items = _items(flight, told) if wanted else []
            try:
                written = await self._flights.publish(post, told, items, _length(flight) if over else 0)
            except StoreDown:
                await asyncio.sleep(LATE)
                continue
            if written.over or written.length < flight.base:  # told, or called by another, or too long to be told
                return
            if written.length > told or not over:
                heard = self._clock()
            elif wanted:
                await asyncio.sleep(SOON)
            told, wanted = written.length, written.wanted
            if not wanted and not flight.listeners:
                flight.abandon()
            behind = told < flight.base + len(flight.blocks)
            if not over and (items or not (wanted and behind)):
                await flight.wait(SOON if wanted else BEAT, early=wanted and not behind)


def _length(flight: Flight) -> int:
    """How many items there are of a call that is over: its blocks, or none, and its end."""
    return flight.base + len(flight.blocks) + 1


def _items(flight: Flight, start: int) -> list[bytes]:
    blocks = flight.blocks[max(0, start - flight.base) :][:_AT_ONCE]
    found = [_encode(_Item("block", block)) for block, _ in blocks]
    if flight.finished and start + len(found) == _length(flight) - 1:
        found.append(_encode(_end(flight)))
    return found


def _end(flight: Flight) -> _Item:
    error = flight.error
    if flight.is_personal:
        return _Item("found")
    if error is not None:
        return _Item(
            "refused", status=error.http_status, code=error.code, type=error.kind, message=error.message,
            retry_after=error.retry_after,
        )  # fmt: skip
    whole, paid = None if flight.streams else flight.whole, flight.paid
    if flight.broken or len(whole or b"") > MOST_HELD:
        return _Item("broken")
    if paid is None:
        return _Item("cut" if flight.streams else "found")
    usage = paid.usage
    return _Item(
        "end" if whole is None else "whole",
        whole or b"",
        usage=None if usage is None else (usage.prompt, usage.completion, usage.cached, usage.reasoning),
        cost="" if paid.cost is None else str(paid.cost),
        currency=paid.currency,
    )


async def _take(flight: Flight, item: _Item) -> bool:
    """Bring one item. True: it was the last."""
    if item.kind == "block":
        if not flight.begun:
            flight.begin()
        flight.add(item.data)
        await flight.room()
        return False
    if item.kind == "refused":
        error = RequestError(item.message, code=item.code, retry_after=item.retry_after, status=item.status)
        error.kind = item.type
        raise error
    if item.kind == "whole" or item.kind == "end":
        usage = None if item.usage is None else Usage(*item.usage)
        flight.told(Paid(usage, Decimal(item.cost) if item.cost else None, item.currency))
    if item.kind == "whole":
        flight.begin(item.data)
    elif item.kind != "broken":
        await flight.end()
    return True
