"""What all replicas used lately of callers' limits, and what each has in hand: the rules by which units are given out.

Per limit: a log of uses, and per replica what it holds. The promise: at every moment, log + all holds <= limit, as
long as nobody uses more than he holds (an answer longer than was thought does; it stops gifts until it has passed).
So in any span of time no more was let in than the limit. Why it holds:

1. A gift is paid from what is free: limit − log − holds.
2. A use is held before it is logged, and logged with a time that is never before the true one: a replica's times
   are turned into the store's by the least difference seen, which is the true one and a little of the journey.
   It leaves the log a span after the end of its slot.
3. What a silent replica holds is logged as used, at the moment at which it must have let go of it; streams
   are free then.

Not covered, on purpose: a store that lost its data has forgotten what was used. Callers' limits protect a budget,
not a cloud; up to one more limit may be let in then. `pool.lua` does the same, number for number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.caps import SPANS, CapKind
from gateway.core.stock import TTL, Answer, Ask

SLOTS = 250
"""Into so many slots a span is cut."""

CREEP = 1
"""Milliseconds by which the believed difference of two clocks may grow from one report to the next."""

PLENTY = 4
"""While 1/PLENTY of a limit is free, it is calm; and a gift beyond need is at most such a part of what is free."""

Asks = Mapping[CapKind, Ask]
Answers = Mapping[CapKind, Answer]


@dataclass(frozen=True, slots=True)
class Told:
    """What one replica tells at `clock` (its own, in milliseconds): by scope, all its limits. `seq` rises."""

    replica: str
    seq: int
    clock: int
    scopes: Mapping[str, Asks]


class Pool(Protocol):
    """Where units are kept. One caller per replica; its exchanges never overlap."""

    async def exchange(self, told: Told) -> Sequence[Answers | None]:
        """One round trip for all scopes; answers in their order, None for a report that came too late.

        Raises StoreDown within the store's hard time-out. Cancelled: nothing is known about what was done.
        """

    async def aclose(self) -> None:
        """Close connections. Never raises for a store that is down."""


@dataclass(slots=True)
class _Member:
    seq: int
    expires: int
    offset: int
    holds: dict[CapKind, int]


@dataclass(slots=True)
class _Scope:
    members: dict[str, _Member] = field(default_factory=dict)
    logs: dict[CapKind, list[list[int]]] = field(default_factory=dict)
    """[slot, amount], oldest first"""


class MemoryPool:
    """The reference, in this process. `clock` answers seconds, any zero."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._scopes: dict[str, _Scope] = {}
        self.calls = 0

    async def exchange(self, told: Told) -> Sequence[Answers | None]:
        """See `Pool.exchange`. Never waits and never raises."""
        return self.tell(told)

    def tell(self, told: Told) -> list[Answers | None]:
        """The same without a loop."""
        self.calls += 1
        time = int(self._clock() * 1000)
        return [
            _exchange(self._scopes.setdefault(name, _Scope()), told, asks, time) for name, asks in told.scopes.items()
        ]

    async def aclose(self) -> None:
        """Nothing to close."""


def _exchange(scope: _Scope, told: Told, asks: Asks, time: int) -> Answers | None:
    known = scope.members.get(told.replica)
    if known is not None and told.seq <= known.seq:
        return None
    offset = time - told.clock
    if known is not None:
        offset = min(offset, known.offset + CREEP)
    me = scope.members[told.replica] = _Member(told.seq, time + int(TTL * 1000), offset, {})
    for name in sorted(scope.members):
        member = scope.members[name]
        if time > member.expires:
            for kind, hold in member.holds.items():
                _add(scope.logs.setdefault(kind, []), _span(kind), member.expires, hold)
            del scope.members[name]
    return {kind: _answer(scope, me, kind, ask, time) for kind, ask in asks.items()}


def _answer(scope: _Scope, me: _Member, kind: CapKind, ask: Ask, time: int) -> Answer:
    span, log = _span(kind), scope.logs.setdefault(kind, [])
    for at, amount in ask.uses:
        if amount > 0:
            _add(log, span, at + me.offset, amount)
        else:
            _take_back(log, span, at + me.offset, -amount)
    while log and log[0][0] * _slot(span) + span <= time:
        log.pop(0)
    used = sum(amount for _, amount in log)
    used += sum(member.holds.get(kind, 0) for member in scope.members.values()) + ask.hold
    free = ask.limit - used
    gift = max(0, min(ask.need - ask.hold, free))
    if ask.hold + gift < ask.unit:
        gift = 0
    elif ask.hold + gift >= ask.need:
        gift = max(gift, min(ask.like - ask.hold, free // (PLENTY * len(scope.members))))
    me.holds[kind] = ask.hold + gift
    opens = _opens(log, span, ask.unit - ask.hold - free, time) if ask.hold + gift < ask.unit else -1
    return Answer(gift, used + gift, opens, (free - gift) * PLENTY >= ask.limit)


def _opens(log: list[list[int]], span: int, excess: int, time: int) -> int:
    for slot, amount in log:
        excess -= amount
        if excess <= 0:
            return slot * _slot(span) + span - time
    return -1


def _add(log: list[list[int]], span: int, at: int, amount: int) -> None:
    if not span or not amount:
        return
    slot = at // _slot(span) + 1
    place = len(log)
    while place and log[place - 1][0] > slot:
        place -= 1
    if place and log[place - 1][0] == slot:
        log[place - 1][1] += amount
    else:
        log.insert(place, [slot, amount])


def _take_back(log: list[list[int]], span: int, at: int, amount: int) -> None:
    """From the slot of that time, or one or two before, which leave sooner; what is not found is not given back."""
    if not span:
        return
    slot = at // _slot(span) + 1
    for entry in reversed(log):
        if slot - 2 <= entry[0] <= slot:
            part = min(amount, entry[1])
            entry[1] -= part
            amount -= part


def _span(kind: CapKind) -> int:
    return int(SPANS[kind] * 1000)


def _slot(span: int) -> int:
    return span // SLOTS
