"""Where budgets are kept: what every replica has spent of each, and up to where it may go. See `core.money`.

The rules of one exchange, which `purse.lua` keeps number for number:

- What members have told is merged by the larger number; it is never added, so nothing counts twice.
- A member that is silent for `TTL` holds nothing any more: of what it may still spend others may be given the same,
  so that a budget can be exceeded by one slice for every replica that is cut off.
- A member that has spent nothing and holds nothing is not kept.
- Members that have gone are added up under one name when there are many. Then the numbering (`gen`) rises, and what
  replicas remember by an older one is not taken for news.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.money import Ask, Told

TTL = 30_000
"""Milliseconds of silence after which a member holds nothing."""

KEEP = 86_400_000
LATE = 3_600_000
"""Milliseconds after which a silent member may be added to the others: of one that has left, and of any."""

MOST = 64
"""Members that are kept apart."""

GONE = "*"
"""The name of those that were added up."""


class Purses(Protocol):
    """The seam. One caller per replica; exchanges of one replica never overlap."""

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Told]:
        """One round trip for all; answers in the order of the asks.

        Raises `StoreDown` within the hard time-out. Then, or when cancelled, it is not known whether it was taken
        note of, which is harmless: the next ask says the same and more.
        """

    async def aclose(self) -> None:
        """Close connections. Never raises for a store that is down."""


@dataclass(slots=True)
class _Member:
    total: int
    cap: int
    seen: int
    seq: int = -1


@dataclass(slots=True)
class _Book:
    until: int
    gen: int = 0
    members: dict[str, _Member] = field(default_factory=dict)


class MemoryPurses:
    """Budgets in this process: where there is no Redis, and the reference that Redis is measured against.

    `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._books: dict[str, _Book] = {}

    def __repr__(self) -> str:
        return f"<MemoryPurses: {len(self._books)} books>"

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Told]:
        """See `Purses.exchange`."""
        now = round(self._clock() * 1000)
        for key in [key for key, book in self._books.items() if book.until <= now]:
            del self._books[key]
        return [self._one(ask, now) for ask in asks]

    def lose(self) -> None:
        """Forget everything, as a flushed server does."""
        self._books.clear()

    async def aclose(self) -> None:
        """Nothing to close."""

    def _one(self, ask: Ask, now: int) -> Told:
        book = self._books.setdefault(ask.key, _Book(0))
        members = book.members
        if ask.gen > book.gen:
            members.clear()
            book.gen = ask.gen
        if ask.gen == book.gen:
            for name, total in ask.members.items():
                known = members.setdefault(name, _Member(0, 0, now))
                known.total = max(known.total, total)
        me = members.setdefault(ask.member, _Member(0, 0, now))
        if ask.seq <= me.seq:
            return Told(stale=True)
        me.total = max(me.total, ask.total)
        me.seq, me.seen = ask.seq, now
        told = self._grant(book, me, ask, now)
        book.until = now + round(ask.life * 1000)
        if ask.leaving:
            me.seen = now - KEEP + LATE
        if not me.cap:
            del members[ask.member]
        self._add_up(book, now)
        if not members:
            del self._books[ask.key]
        return Told(me.cap, told.free, told.live, book.gen, {name: m.total for name, m in members.items()})

    def _grant(self, book: _Book, me: _Member, ask: Ask, now: int) -> Told:
        alive = [m for m in book.members.values() if m is not me and now - m.seen <= TTL and m.cap > m.total]
        held = sum(m.total for m in book.members.values() if m is not me) + sum(m.cap - m.total for m in alive)
        free = max(0, ask.amount - held - max(me.total, ask.cap))
        live = len(alive) + 1
        more = min(free, max(ask.need, min(ask.want, free // (2 * live))))
        if ask.need and free < ask.least:
            more = 0
        me.cap = ask.cap + more
        return Told(me.cap, free - more, live)

    def _add_up(self, book: _Book, now: int) -> None:
        if len(book.members) <= MOST:
            return
        gone = [name for name, member in book.members.items() if name != GONE and now - member.seen >= KEEP]
        if gone:
            book.gen += 1
            total = book.members.setdefault(GONE, _Member(0, 0, 0))
            for name in gone:
                total.total += book.members.pop(name).total
