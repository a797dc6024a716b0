"""Calls that several replicas listen to: who calls, and what has come so far.

A lease says who calls; it is renewed while the call runs, so that a replica that died is missed within `LEASE`. What
comes is written down only while somebody elsewhere listens, which everyone who does says with every reading.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LEASE = 2.0
WANT = 1.5
KEEP = 30.0
"""seconds after its last block in which a call may be read"""
AT_ONCE = 256
"""items that are read at a time"""


@dataclass(frozen=True, slots=True)
class Post:
    """A place in a call: its name, the token of the replica that calls, and whether that is this one."""

    name: str
    token: str
    leads: bool


@dataclass(frozen=True, slots=True)
class Written:
    """`wanted`: somebody elsewhere listens. `length`: items written down. `over`: the lease has ended."""

    wanted: bool
    length: int
    over: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """`alive`: the caller holds its lease. `items`: what has come since."""

    alive: bool
    items: tuple[bytes, ...]


class Flights(Protocol):
    """The seam. Every method raises `StoreDown` within the time-out when there is no sensible answer."""

    async def claim(self, name: str) -> Post:
        """Become the one who calls, or learn who does. Cancelled: a lease that was taken ends by itself."""

    async def publish(self, post: Post, start: int, items: Sequence[bytes], last: int) -> Written:
        """Renew the lease, and write down what has come from the item `start` on. `last`: how many items there are in
        all when no more will come, else 0: then the lease ends, once who listens can have them all."""

    async def read(self, post: Post, start: int) -> Seen:
        """What has come from the item `start` on, `AT_ONCE` items at most."""

    async def aclose(self) -> None:
        """Close connections. Never raises for a store that is down."""


@dataclass(slots=True)
class _Call:
    token: str
    until: float
    wanted: float = -WANT
    items: list[bytes] = field(default_factory=list)


class MemoryFlights:
    """The same in this process: the reference that the one in Redis is measured against, and the one of tests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: dict[str, _Call] = {}
        self._items: dict[str, list[bytes]] = {}

    async def claim(self, name: str) -> Post:
        """See `Flights.claim`."""
        call, now = self._calls.get(name), self._clock()
        if call is None or call.until <= now:
            call = self._calls[name] = _Call(secrets.token_hex(8), now + LEASE)
            self._items[call.token] = call.items
            return Post(name, call.token, True)
        call.wanted = now
        return Post(name, call.token, False)

    async def publish(self, post: Post, start: int, items: Sequence[bytes], last: int) -> Written:
        """See `Flights.publish`."""
        now = self._clock()
        call = self._calls.get(post.name)
        if call is None or (call.token != post.token and call.until <= now):
            call = self._calls[post.name] = _Call(post.token, now, items=self._items[post.token])
        if call.token != post.token:
            return Written(False, 0, True)
        call.until = now + LEASE
        if start == len(call.items):
            call.items.extend(items)
        wanted = now - call.wanted < WANT
        over = bool(last) and (not wanted or len(call.items) >= last)
        if over:
            call.until = now
        return Written(wanted, len(call.items), over)

    async def read(self, post: Post, start: int) -> Seen:
        """See `Flights.read`."""
        call, now = self._calls.get(post.name), self._clock()
        alive = call is not None and call.token == post.token and call.until > now
        if call is not None:
            call.wanted = now
        return Seen(alive, tuple(self._items.get(post.token, ())[start : start + AT_ONCE]))

    async def aclose(self) -> None:
        """Nothing to close."""
