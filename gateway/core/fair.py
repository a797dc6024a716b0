"""Who has had how much: a counter of tokens per tenant, and who is due by it.

The rule is the virtual token counter of VTC (Sheng et al., OSDI'24): serve the tenant with the lowest counter, charge
prompt tokens once and answer tokens twice, divided by his weight. What is not known yet is charged as expected when
a request is dispatched, more when more flows, and put right when it ends: prompt tokens that the cloud had in its
cache are free, and so is an attempt of which the tenant got nothing. Work that runs is therefore always counted.

Who comes back from idleness is lifted, so that nobody saves up what he did not use: to where the band's clock (the
highest counter that was served) stood `GRACE` seconds ago, and to `SAVED` tokens below it. So much he may have saved,
so that a light tenant's little bursts do not wait behind a heavy one's queue; it also bounds what anybody can gain by
pausing. `SAVED` matters when an idle fleet is filled: the clock leaps, and who filled it must not pay for that later.

Three bands, `interactive` before `standard` before `batch`; each has counters of its own. A lower band that waits is
credited `FLOOR` of all that is dispatched meanwhile, and goes first when it has credit: no starvation.

A *pool* is a set of accounts that policies tie together, directly or through others. Pools share no capacity, so
counters of one say nothing in another: heavy use of one model's clouds does not cost a tenant his place at another's.

Replicas share counters (`store.fairness`): then a counter and the clock stand where all of them have put them, a moment
ago, plus what was charged here since.

Rules
- A counter only falls by what was charged to it before; without a lift it is the sum of what was charged and kept.
- `waiting` counts move only in `core.lanes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.nouns import Request, ServiceClass, Usage

if TYPE_CHECKING:
    from gateway.core.waiting import Ticket

ANSWER = 2
"""What an answer token costs, in prompt tokens: about what it costs the clouds."""
FLOOR = 0.1
GRACE = 4.0
SAVED = 32_768.0
MOST_OWED = 65_536.0
"""A band's credit is not saved beyond this, about one long request: its head may be waiting for a limit."""
SWEEP_AT = 1000
"""From so many tenants on, some who are idle are forgotten."""
CLASSES: tuple[ServiceClass, ...] = ("interactive", "standard", "batch")


class Share:
    """One tenant in one band: `counter` in tokens per weight, `rate` is 1 / `weight`, `waiting` requests in the queue.

    `given` is the part of the counter that is no service of ours: lifts, and what other replicas told. `told` is how
    much of `spent` they know; `lifted`: since they were told.
    """

    __slots__ = ("band", "counter", "given", "lifted", "rate", "tenant", "told", "waiting", "weight")

    def __init__(self, tenant: str, band: Band) -> None:
        self.tenant = tenant
        self.band = band
        self.rate = self.weight = 1.0
        self.counter = self.given = self.told = 0.0
        self.lifted = False
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Share of {self.tenant} in {self.band.name}: {self.counter:.0f}>"

    @property
    def spent(self) -> float:
        """What he was charged here since this share was made, in tokens per weight."""
        return self.counter - self.given

    def lift(self, least: float) -> None:
        """Forget what was saved below `least`."""
        if self.counter < least:
            self.adopt(least)
            self.lifted = True

    def adopt(self, counter: float) -> None:
        """It stands there: that is no service of ours."""
        self.given += counter - self.counter
        self.counter = counter

    def charge(self, ticket: Ticket, now: float) -> None:
        """It is dispatched: charge the prompt and the expected answer. Who did not wait is lifted here."""
        band = self.band
        if now >= band.turn:
            band.roll(now)
        start, clock = self.counter, band.clock
        if not ticket.seq and (start < clock - SAVED or start < band.lately):
            self.lift(band.least)
            start = self.counter
        if start > clock:
            band.clock = start
        cost = ticket.prompt + ANSWER * ticket.answer
        ticket.charged = charged = cost * self.rate
        self.counter = start + charged
        if band.pool.waiting:
            band.pool.dispatched(band, cost)

    def flowed(self, ticket: Ticket, tokens: int) -> None:
        """More answer tokens came than were expected."""
        more = ANSWER * tokens * self.rate
        ticket.charged += more
        self.counter += more

    def served(self, ticket: Ticket, usage: Usage | None, tokens: int) -> None:
        """It was answered with so many tokens: charge what it cost. Without `usage` nothing is known to be cached."""
        prompt = ticket.prompt if usage is None else max(0, usage.prompt - usage.cached)
        self.counter += (prompt + ANSWER * tokens) * self.rate - ticket.charged
        ticket.charged = 0.0

    def broken(self, ticket: Ticket, *, kept: bool) -> None:
        """It ended otherwise. `kept`: the tenant had something of it, or it was he who ended it."""
        cost = ticket.prompt + ANSWER * ticket.flowed if kept else 0
        self.counter += cost * self.rate - ticket.charged
        ticket.charged = 0.0


class Band:
    """The tenants of one class. `clock`: the highest counter that was served; `lately`: where it stood then."""

    __slots__ = ("_mark", "_sweep_at", "clock", "lately", "name", "owed", "pool", "rank", "shares", "turn", "waiting")

    def __init__(self, name: ServiceClass, rank: int, pool: Pool) -> None:
        self.name = name
        self.rank = rank
        self.pool = pool
        self.shares: dict[str, Share] = {}
        self.clock = self.lately = self._mark = 0.0
        self._sweep_at = SWEEP_AT
        self.turn = 0.0
        self.waiting = 0
        self.owed = 0.0

    def roll(self, now: float) -> None:
        """Half of `GRACE` has passed since the last mark: the clock stood there then."""
        self.lately = self._mark if now < self.turn + GRACE / 2 else self.clock
        self._mark = self.clock
        self.turn = now + GRACE / 2

    def shift(self, clock: float) -> None:
        """Put the clock there, and with it all who stand by it: only differences mean anything."""
        gap = clock - self.clock
        for share in self.shares.values():
            share.adopt(share.counter + gap)
        self.clock = clock
        self.lately += gap
        self._mark += gap

    @property
    def least(self) -> float:
        """What nobody's counter is below who comes back."""
        saved = self.clock - SAVED
        return max(self.lately, saved)

    def join(self, tenant: str) -> Share:
        """A share for a tenant who has none. When they are many, half of the idle is forgotten: who gain least.

        If one of them still runs something, it is settled with a share that nobody looks at.
        """
        if len(self.shares) >= self._sweep_at:
            idle = sorted((s for s in self.shares.values() if not s.waiting), key=lambda s: s.counter)
            for share in idle[: (len(idle) + 1) // 2]:
                del self.shares[share.tenant]
            self._sweep_at = max(SWEEP_AT, 2 * len(self.shares))
        share = self.shares[tenant] = Share(tenant, self)
        return share

    @property
    def urgent(self) -> bool:
        """Is it owed service while bands above it wait?"""
        return self.owed > 0 and self.contested

    @property
    def contested(self) -> bool:
        """Does anybody wait in a band above?"""
        return any(band.waiting for band in self.pool.bands[: self.rank])


class Pool:
    """The counters of all who compete for the same accounts. `waiting`: requests in the queue.

    `name`: the accounts, by which other replicas know it.
    """

    __slots__ = ("_by_class", "bands", "name", "waiting")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.bands = tuple(Band(name, rank, self) for rank, name in enumerate(CLASSES))
        self._by_class = {band.name: band for band in self.bands}
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Pool of {sum(len(band.shares) for band in self.bands)} shares, {self.waiting} waiting>"

    def of(self, request: Request) -> Share:
        """The share that pays for a request."""
        band = self._by_class[request.class_]
        share = band.shares.get(request.tenant)
        if share is None:
            share = band.join(request.tenant)
        if share.weight != request.weight:
            share.weight = request.weight
            share.rate = 1.0 / request.weight
        return share

    def dispatched(self, band: Band, cost: float) -> None:
        """Somebody was dispatched while others wait: bands that wait below others are owed their part of it."""
        for lower in self.bands[1:]:
            if lower is band:
                lower.owed -= (1.0 - FLOOR) * cost if lower.contested else 0.0
            elif lower.waiting and (band.rank < lower.rank or lower.contested):
                lower.owed = min(lower.owed + FLOOR * cost, MOST_OWED)

    def spent(self) -> dict[tuple[ServiceClass, str], float]:
        """What each tenant was charged here, in tokens per weight. Who is forgotten takes it with him."""
        return {(b.name, s.tenant): s.spent for b in self.bands for s in b.shares.values()}
