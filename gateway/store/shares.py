"""This replica's part of every limit: what it may use now, what to report, and when. No I/O; told the time.

A share is enforced by the dispatcher, on the request path, without asking anybody; so what is handed to it carries
its own end. A `Standing` reads: until `until` these limits hold; then, until `end`, the `safe` ones; then nothing.

- `until` is the lease, counted from before the report was sent, less a margin: earlier than the store's count.
- `safe` is min(share, ⌈L ÷ replicas last seen⌉). Never above the share in hand, so safe shares of all replicas
  together are within L with no remainder to argue about. It is what a replica works with while the store is away,
  however long; it does not grow until the store is back, since nobody can know who else works with what.
- `end` is the last sign of life of this very process's own ticking, plus a lease. A process that was stopped for
  longer finds its shares void when it wakes, even if a request is the first thing that it hears.

A replica that never reached the store has nothing for one lease, and then ⌊L ÷ replicas⌋ with the number that the
operator gave: that is a guess, and only as good as the number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from gateway.core.nouns import LIMIT_KINDS, LimitKind, Limits
from gateway.store.base import Grant, Need, Report, Terms
from gateway.store.ledger import STEADY

TICK = 0.2
"""Seconds between reports in calm."""

HURRY = 0.02
"""Seconds between reports when a share runs low, or when a changed share is to be confirmed; doubles while vain."""

CROWD, SLOWEST = 200, 3.0
"""Above so many replicas times accounts the tick grows with them, up to so many times: the server is one processor."""

HALF_LIFE = 1.0
"""Seconds in which the memory of a peak in demand halves."""

HEADROOM = 1.1
"""By how much what is wanted exceeds what was lately needed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One limit of an account, seen from the dispatcher: `limit` whole, `used` here, and what waits for room.

    `waiting` is in the limit's unit; `unit` is what the next one in the queue needs at once (1, or its tokens).
    """

    limit: int
    used: int
    waiting: int = 0
    unit: int = 1


Usages = Mapping[str, Mapping[LimitKind, Usage]]
"""Per account, every kind that has a limit."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the dispatcher enforces for one account; see the module. Times are on the replica's own clock."""

    limits: Limits
    until: float
    safe: Limits
    end: float

    def at(self, now: float) -> Limits:
        """The limits that hold at `now`."""
        if now >= self.end:
            return Limits(**{kind: None if getattr(self.safe, kind) is None else 0 for kind in LIMIT_KINDS})
        return self.limits if now < self.until else self.safe


@dataclass(frozen=True, slots=True)
class Health:
    """For `/readyz`, metrics and `status`. `since`: how long the store has been out of reach; 0 when it is not."""

    degraded: bool
    reason: str
    since: float
    replicas: int
    learning: bool


@dataclass(slots=True)
class _Part:
    """One limit of one account. `share` is in force; `level` remembers demand."""

    limit: int
    share: int = 0
    level: float = 0.0
    want: int = 0
    waiting: int = 0


@dataclass(slots=True)
class _Book:
    """One account. `pace`: how soon after the last exchange a hurried one may follow, in seconds."""

    parts: dict[LimitKind, _Part] = field(default_factory=dict)
    sent: float = -inf
    until: float = -inf
    hurry: bool = True
    pace: float = HURRY
    epoch: str = ""
    joins: int = 0
    replicas: int = 1
    members: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    learning: bool = False

    slowness: float = 1.0

    def next(self) -> float:
        return self.sent + (self.pace if self.hurry else TICK * self.slowness)


class ShareBook:
    """What this replica holds. `me` must differ for every start of every process.

    `replicas`: what to divide by while the store was never reached. `crowd`: the most that ever run at a time, by the
    operator's word (see `ledger`); 0 if he gave none.

    Rule: a share rises in `granted` only (or by the operator's guess), and what a report says is in force.
    """

    def __init__(self, me: str, terms: Terms, now: float, replicas: int = 1, crowd: int = 0) -> None:
        self.me = me
        self._terms = terms
        self._crowd = crowd
        self._expected = max(1, replicas)
        self._books: dict[str, _Book] = {}
        self._started = now
        self._contact = -inf
        self._ticked = now
        self._seq = 0
        self._open: dict[str, _Book] = {}
        self._failing_since: float | None = None
        self._why = "not yet reached"
        self._alive: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ShareBook {self.me}: {len(self._books)} accounts, {self.health(self._ticked).reason or 'well'}>"

    # --- an exchange ------------------------------------------------------------------------------------

    def reports(self, demands: Usages, now: float, *, leaving: bool = False) -> tuple[Report, ...]:
        """Begin an exchange: what to tell the store now, of those accounts whose turn it is.

        `standings` must be enforced before the reports are sent. Accounts and kinds not named are forgotten.
        """
        self.tick(demands, now)
        self._seq += 1
        alive, self._alive = self._alive, ()
        self._open = {}
        reports = []
        for account, book in self._books.items():
            if not book.parts or (now < book.next() and not leaving and not alive):
                continue
            self._open[account] = book
            decay = 0.5 ** ((now - book.sent) / HALF_LIFE)
            book.sent = now
            needs = _needs(book, demands[account], decay, leaving)
            told = (book.epoch, book.joins, book.members)
            reports.append(Report(account, self.me, self._seq, needs, *told, alive, leaving, self._crowd))
        return tuple(reports)

    def granted(self, grants: Iterable[Grant], now: float) -> None:
        """The answer to the last `reports`. Ignored if that exchange has been given up, or overslept."""
        self._wake(now)
        asked, self._open = self._open, {}
        if asked:
            self._contact = now
            self._failing_since = None
            self._why = ""
        slowness = min(
            SLOWEST, max(1.0, max((b.replicas for b in asked.values()), default=1) * len(self._books) / CROWD)
        )
        for grant in grants:
            book = asked.get(grant.account)
            if book is None or grant.stale or self._books.get(grant.account) is not book:
                continue
            book.slowness = slowness
            self._take(book, grant)
        self._expire(now)

    def failed(self, why: str, now: float) -> None:
        """The last exchange was given up; a late answer to it will be ignored."""
        self._wake(now)
        self._open = {}
        self._why = why
        if self._failing_since is None:
            self._failing_since = now
        self._expire(now)

    def tick(self, demands: Usages, now: float) -> None:
        """This process runs, and these are its limits now. To be told at least every `TICK`, also without a store."""
        self._wake(now)
        self._ticked = now
        for gone in [account for account in self._books if account not in demands]:
            del self._books[gone]
        for account, kinds in demands.items():
            book = self._books.setdefault(account, _Book())
            for kind in [kind for kind in book.parts if kind not in kinds]:
                del book.parts[kind]
            for kind, demand in kinds.items():
                part = book.parts.setdefault(kind, _Part(demand.limit))
                part.limit = demand.limit
                part.share = min(part.share, demand.limit)
        self._expire(now)

    # --- what holds -------------------------------------------------------------------------------------

    def standing(self, account: str) -> Standing:
        """What to enforce. Raises KeyError for an account that `tick` was not told of."""
        book = self._books[account]
        return Standing(
            Limits(**{kind: part.share for kind, part in book.parts.items()}),
            book.until,
            Limits(**{kind: _safe(book, part) for kind, part in book.parts.items()}),
            self._ticked + self._terms.ttl,
        )

    def standings(self) -> dict[str, Standing]:
        """What to enforce, for every account."""
        return {account: self.standing(account) for account in self._books}

    def next_at(self) -> float:
        """When to exchange next, if the last exchange succeeded; `inf` without accounts."""
        return min((book.next() for book in self._books.values()), default=inf)

    def nudge(self, account: str, *, news: bool = False) -> None:
        """A request found no room in this account's share: `next_at` comes sooner, unless asking has just been vain.

        `news`: the limit itself is another, so that asking is not vain.
        """
        book = self._books.get(account)
        if book is not None:
            book.hurry = True
            book.pace = HURRY if news else book.pace

    def health(self, now: float) -> Health:
        """Whether the store is in reach, and since when not."""
        books = self._books.values()
        degraded = now >= max(self._contact, self._started) + self._terms.ttl or (
            self._contact == -inf and self._failing_since is not None
        )
        since = now - self._failing_since if self._failing_since is not None else 0.0
        return Health(
            degraded, self._why, since, max((b.replicas for b in books), default=1), any(b.learning for b in books)
        )

    def suspects(self) -> tuple[str, ...]:
        """Members that do not report. Someone should look whether they run (`attest`) before they are forgotten."""
        return tuple(sorted({name for book in self._books.values() for name in book.silent} - {self.me}))

    def attest(self, alive: Sequence[str]) -> None:
        """These suspects run all the same: to be said in the next report."""
        self._alive = tuple(alive)

    # --- inside -----------------------------------------------------------------------------------------

    def _take(self, book: _Book, grant: Grant) -> None:
        moved = hungry = False
        for kind, part in book.parts.items():
            share = min(grant.shares.get(kind, 0), part.limit)
            moved |= abs(share - part.share) * STEADY > part.limit
            hungry |= part.waiting > 0 and share < part.want
            part.share = share
        # What was taken from us others get when we confirm it; what we got may not be all there is.
        book.pace = min(TICK, 2 * book.pace) if (book.hurry or hungry) and not moved else HURRY
        book.hurry = moved or hungry
        book.until = book.sent + self._terms.ttl - self._terms.margin
        book.replicas, book.learning = grant.replicas, grant.learning
        book.epoch, book.joins = grant.epoch, grant.joins
        book.members, book.silent = grant.members, grant.silent

    def _wake(self, now: float) -> None:
        """If this process has slept for a lease, only the store can tell whether even its safe share is its own."""
        if now - self._ticked > self._terms.ttl:
            self._ticked = self._started = now
            self._open = {}
            for book in self._books.values():
                for part in book.parts.values():
                    part.share = 0

    def _expire(self, now: float) -> None:
        """Leases that are over fall to the safe share, for good; those who never had one may start to guess."""
        blind = self._contact == -inf and now >= self._started + self._terms.ttl
        for book in self._books.values():
            if now >= book.until:
                for part in book.parts.values():
                    part.share = part.limit // self._expected if blind else _safe(book, part)


def _needs(book: _Book, kinds: Mapping[LimitKind, Usage], decay: float, leaving: bool) -> dict[LimitKind, Need]:
    """What to report. `want` is what was lately needed and a little more, so that growth finds room."""
    needs: dict[LimitKind, Need] = {}
    for kind, part in book.parts.items():
        demand = kinds[kind]
        part.level = max(float(demand.used + demand.waiting), part.level * decay)
        part.waiting = demand.waiting
        part.want = min(part.limit, int(part.level * HEADROOM + 0.5))
        if demand.waiting:
            part.want = min(part.limit, max(part.want, demand.used + demand.unit))
        if leaving:
            part.share = part.want = 0
        needs[kind] = Need(part.limit, part.share, demand.used, part.want, max(1, demand.unit))
    return needs


def _safe(book: _Book, part: _Part) -> int:
    return min(part.share, -(-part.limit // book.replicas))
