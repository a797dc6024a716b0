"""Counters of fairness that all replicas share: what this one tells of its pools, and what it makes of the answer.

The store holds, per pool, every tenant's counter and each band's clock, on one scale for everybody. A replica tells by
how much it has charged whom since it told last; the store adds it, and answers where those tenants stand now. Adding
only what others did would not do: the lifts that tenants get at different replicas would stay between these for ever,
and each would let another tenant starve. A share that was lifted says where it stood before what was charged.

Told of are those who wait and those who were charged: nobody else's counter decides anything here. Who comes back, or
comes here for the first time, is lifted when it is known where the clock stands (see `core.fair`).

A store that is emptied costs a tick at most: it takes over the counters of the first replicas that speak, since all
stand alike. While it is away each replica counts by itself; who was out of touch for longer than `GRACE`
*joins* again, as a newcomer does: its counters are moved to the store's scale, its clock to the store's, and what was
charged meanwhile stays its own affair. The *epoch* names the scale.

Rules
- An amount is told until it is answered, by the same number: the store adds it once.
- `told` of a share moves in `told` and `join` only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from math import inf
from typing import Protocol

from gateway.core.fair import GRACE, SAVED, Pool, Share
from gateway.core.nouns import ServiceClass

AT_ONCE = 1000
"""Of so many tenants one exchange tells at most: first of those who wait, then of those who were charged most."""

MANY = 4000
"""Counters in one pool's store. Beyond, it is emptied: those who are active are taken over again."""

LEAST = 1.0
"""A change of less than a token is told when it has become one."""


@dataclass(frozen=True, slots=True)
class Word:
    """One tenant in one band: `spent` since the last time. `base` is where he stood before, as far as it is known here;
    the store looks at it only if it knows nothing of him, or if he was `lifted`."""

    class_: ServiceClass
    tenant: str
    base: float
    spent: float
    lifted: bool


@dataclass(frozen=True, slots=True)
class Telling:
    """What one replica says of one pool. `seq` rises with everything new; one that was seen already is not added."""

    pool: str
    replica: str
    epoch: str
    seq: int
    clocks: tuple[float, ...]
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """The answer: clocks by band, and counters in the order of the words, None for who is not known.

    If the epoch is not the one that was told, nothing was added.
    """

    epoch: str
    clocks: tuple[float, ...]
    counters: tuple[float | None, ...]


class Counters(Protocol):
    """Where counters are kept. One caller per replica; exchanges of one replica never overlap."""

    async def exchange(self, tellings: Sequence[Telling]) -> Sequence[Told]:
        """One round trip for all pools; answers in the order of the tellings.

        Raises StoreDown. Returns or raises within the store's hard time-out. Cancelled: nothing is known about what
        the store did; tell the same again.
        """

    async def aclose(self) -> None:
        """Close connections. Never raises for a store that is down."""


@dataclass(slots=True)
class _Kept:
    epoch: str
    clocks: list[float]
    counters: dict[tuple[ServiceClass, str], float] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)


class MemoryCounters:
    """The counters in this process: the reference that `fairness_redis` is measured against, and for tests."""

    def __init__(self) -> None:
        self._pools: dict[str, _Kept] = {}

    def __repr__(self) -> str:
        return f"<MemoryCounters: {len(self._pools)} pools>"

    async def exchange(self, tellings: Sequence[Telling]) -> Sequence[Told]:
        """See `Counters.exchange`. Never waits and never raises."""
        return [self._take(telling) for telling in tellings]

    def lose(self) -> None:
        """Forget everything, as a flushed server does."""
        self._pools.clear()

    async def aclose(self) -> None:
        """Nothing to close."""

    def _take(self, telling: Telling) -> Told:
        kept = self._pools.setdefault(telling.pool, _Kept(telling.epoch, list(telling.clocks)))
        before = tuple(kept.counters.get((word.class_, word.tenant)) for word in telling.words)
        if kept.epoch != telling.epoch:
            return Told(kept.epoch, tuple(kept.clocks), before)
        again = kept.seqs.get(telling.replica, 0) >= telling.seq
        if len(kept.counters) + len(kept.seqs) > MANY:
            kept.counters.clear()
            kept.seqs.clear()
        kept.clocks = [max(pair) for pair in zip(kept.clocks, telling.clocks, strict=True)]
        kept.seqs[telling.replica] = telling.seq
        for word, counter in zip(telling.words, before, strict=True):
            if counter is None or (word.lifted and not again):
                counter = max(counter if counter is not None else -inf, word.base)
            kept.counters[word.class_, word.tenant] = counter if again else counter + word.spent
        counters = tuple(kept.counters[word.class_, word.tenant] for word in telling.words)
        return Told(kept.epoch, tuple(kept.clocks), counters)


class _Page:
    """One pool. `seen`: of whom was told last time; `open`: what is told and not answered yet."""

    __slots__ = ("epoch", "open", "pool", "seen")

    def __init__(self, pool: Pool, epoch: str) -> None:
        self.pool = pool
        self.epoch = epoch
        self.seen: frozenset[Share] = frozenset()
        self.open: tuple[Telling, list[tuple[Share, float]]] | None = None

    def tell(self, replica: str, seq: int) -> Telling | None:
        if self.open is None and (shares := _whom(self.pool)):
            words = tuple(map(_word, shares))
            clocks = tuple(band.clock for band in self.pool.bands)
            telling = Telling(self.pool.name, replica, self.epoch, seq, clocks, words)
            self.open = telling, [(share, share.spent) for share in shares]
            for share in shares:
                share.lifted = False
        return self.open[0] if self.open is not None else None

    def told(self, answer: Told) -> None:
        assert self.open is not None
        (telling, shares), self.open = self.open, None
        if answer.epoch != telling.epoch:
            self._join(answer, shares)
            return
        for band, clock in zip(self.pool.bands, answer.clocks, strict=True):
            band.clock = max(band.clock, clock)
        for (share, spent), counter in zip(shares, answer.counters, strict=True):
            assert counter is not None
            counter += share.spent - spent
            share.adopt(max(counter, share.counter) if share.lifted else counter)
            share.told = spent
        self._lift(frozenset(share for share, _ in shares))

    def join(self, epoch: str) -> None:
        """Out of touch for long: begin anew. What was charged here and not told is not told any more."""
        self.epoch = epoch
        self.open = None
        self.seen = frozenset()
        for band in self.pool.bands:
            for share in band.shares.values():
                share.told = share.spent
                share.lifted = False

    def _join(self, answer: Told, shares: list[tuple[Share, float]]) -> None:
        """Another scale holds: go over to it, and tell there what is not told yet."""
        self.epoch = answer.epoch
        for band, clock in zip(self.pool.bands, answer.clocks, strict=True):
            band.shift(clock)
        for (share, _), counter in zip(shares, answer.counters, strict=True):
            if counter is not None:
                share.adopt(counter + share.spent - share.told)

    def _lift(self, seen: frozenset[Share]) -> None:
        """Those who were not told of last time: the clock may have gone on elsewhere while nobody looked. But nobody is
        lifted above those who wait here already (see `core.lanes`)."""
        new, self.seen = seen - self.seen, seen
        if not new:
            return
        for band in self.pool.bands:
            waiting = min((s.counter for s in band.shares.values() if s.waiting and s not in new), default=inf)
            for share in new:
                if share.band is band:
                    share.lift(min(band.clock - SAVED, waiting))


class FairBook:
    """What this replica tells of all its pools. No I/O; told the time.

    `me` must differ for every start of every process.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self._pages: dict[str, _Page] = {}
        self._asked: list[_Page] = []
        self._epochs = 0
        self._seq = 0
        self._failing_since = inf

    def __repr__(self) -> str:
        return f"<FairBook {self.me}: {len(self._pages)} pools>"

    def tell(self, pools: Iterable[Pool], now: float) -> list[Telling]:
        """Begin an exchange: what to tell now, of those pools in which somebody waits or was charged."""
        named = {pool.name: pool for pool in pools}
        for name in [name for name, page in self._pages.items() if named.get(name) is not page.pool]:
            del self._pages[name]
        for name, pool in named.items():
            if name not in self._pages:
                self._pages[name] = _Page(pool, self._epoch())
        if now > self._failing_since + GRACE:
            for page in self._pages.values():
                page.join(self._epoch())
        self._seq += 1
        told = [(page, page.tell(self.me, self._seq)) for page in self._pages.values()]
        self._asked = [page for page, telling in told if telling is not None]
        return [telling for _, telling in told if telling is not None]

    def told(self, answers: Sequence[Told]) -> None:
        """The answer to the last `tell`."""
        self._failing_since = inf
        for page, answer in zip(self._asked, answers, strict=True):
            page.told(answer)

    def failed(self, now: float) -> None:
        """The last exchange was given up; nothing is known about what the store did."""
        self._failing_since = min(self._failing_since, now)

    def _epoch(self) -> str:
        self._epochs += 1
        return f"{self.me}-{self._epochs}"


def _whom(pool: Pool) -> list[Share]:
    """Who is to be told of."""
    shares = (share for band in pool.bands for share in band.shares.values())
    found = [share for share in shares if share.waiting or abs(share.spent - share.told) >= LEAST]
    if len(found) > AT_ONCE:
        found = nlargest(AT_ONCE, found, key=lambda s: (s.waiting > 0, abs(s.spent - s.told)))
    return found


def _word(share: Share) -> Word:
    untold = share.spent - share.told
    return Word(share.band.name, share.tenant, share.counter - untold, untold, share.lifted)
