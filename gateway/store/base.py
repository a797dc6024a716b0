"""The seam between a replica and whatever holds the shared state: one method that matters.

A replica tells, for every account, what it holds, uses and wants; it is told what it may hold from now on. All facts
are frozen; amounts are whole numbers of the limit's unit (streams, requests, tokens); times are whole milliseconds
of the store's own clock and never leave the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.lesson import Marks, Use
from gateway.core.nouns import LimitKind
from gateway.errors import SpillgateError


class StoreDown(SpillgateError):
    """The store did not answer in time, or not sensibly. Nothing is known about whether it did what was asked."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The times that every replica and the store agree on, in seconds.

    ttl      how long a share holds without a new report
    margin   by how much a replica believes its share to end earlier than the store does
    ghost    how long after that a dead replica's streams may still be counted by clouds
    """

    ttl: float = 3.0
    margin: float = 0.75
    ghost: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.margin < self.ttl or self.ghost < 0:
            raise ValueError("0 < margin < ttl and ghost >= 0 must hold")


@dataclass(frozen=True, slots=True)
class Need:
    """One limit as a replica sees it: the whole limit, its own share in force, and its use and demand.

    `used` is what it cannot take back; `want` what it could use; `unit` what the next start needs at once.
    """

    limit: int
    share: int
    used: int
    want: int
    unit: int = 1


@dataclass(frozen=True, slots=True)
class Telling:
    """What a replica has learnt of an account, and has in flight there.

    willing  it has traffic there, so it may be the one that tries for more
    probing  it believes to be that one
    """

    marks: Marks
    use: Use
    willing: bool
    probing: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What all replicas know of an account: what holds, who may try for more ('': nobody), what each has in flight.

    `stale`: the word was older than one already heard; nothing was changed, and nothing is told.
    """

    marks: Marks = field(default_factory=dict)
    prober: str = ""
    rows: Mapping[str, Use] = field(default_factory=dict)
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica says of one account.

    seq      rises with every report of this replica; a late older one is ignored
    epoch    the last epoch it was told, and `ack` the number of joins it was told of in it
    known    the members it was told of: after a loss of data the store waits for these
    crowd    the operator's word: never more than so many replicas run at a time; 0 without one
    alive    silent members that this replica has found to be running all the same
    leaving  its last word: nothing starts any more
    lesson   what it has learnt, if that is to be told now
    """

    account: str
    replica: str
    seq: int
    needs: Mapping[LimitKind, Need]
    epoch: str = ""
    ack: int = 0
    known: tuple[str, ...] = ()
    alive: tuple[str, ...] = ()
    leaving: bool = False
    crowd: int = 0
    lesson: Telling | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer: the share of each kind, from now until a lease's time after the report was *sent*.

    `stale`: the report was older than one already seen; nothing was changed. `silent` members have not reported
    for half a lease. `learning`: data was lost lately, and nobody gets what somebody unseen may hold. `lesson`: the
    answer to a report's lesson.
    """

    account: str
    shares: Mapping[LimitKind, int] = field(default_factory=dict)
    epoch: str = ""
    joins: int = 0
    replicas: int = 1
    members: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    learning: bool = False
    stale: bool = False
    lesson: Told | None = None


class Store(Protocol):
    """Where shares are kept. One caller per replica; exchanges of one replica never overlap."""

    async def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        """One round trip for all accounts; grants in the order of the reports.

        Raises StoreDown. Returns or raises within the store's hard time-out. Cancelled: nothing is known about
        what the store did, which is harmless, since the next report says what is held.
        """

    async def aclose(self) -> None:
        """Close connections. Never raises for a store that is down."""
