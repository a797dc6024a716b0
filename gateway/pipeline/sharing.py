"""Joins the shared store to the desk: what this replica uses and wants goes out, its shares come in.

All of it happens in the background. A request only ever compares the time with `Desk.fence`, the moment at which
the shares in hand change by themselves; so a process that was frozen and wakes in the middle of a request's arrival
does not act on a share that has long been given to others.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from math import inf

from gateway.core.nouns import LIMIT_KINDS, LimitKind, Limits, Plan, Shares
from gateway.pipeline.desk import Desk
from gateway.pipeline.live import Live
from gateway.store.base import Store, Terms
from gateway.store.sharer import Sharer
from gateway.store.shares import Health, ShareBook, Standing, Usage
from gateway.store.usage import usage


class Sharing:
    """One per replica, on the loop of its desk. `start` never waits; `aclose` gives back what is not used.

    `replicas`: the most that ever run at a time, by the operator's word; 0 if he gave none.
    """

    def __init__(self, desk: Desk, live: Live, store: Store, *, replicas: int, terms: Terms | None = None) -> None:
        self._desk = desk
        self._live = live
        self._standings: Mapping[str, Standing] = {}
        self._told: dict[str, Limits] = {}
        self.replica = secrets.token_hex(6)
        book = ShareBook(self.replica, terms or Terms(), desk.loop.time(), max(1, replicas), replicas)
        self.sharer = Sharer(book, store, self.demands, self.apply)

    def start(self) -> None:
        """Begin to exchange. From now on nothing is dispatched beyond a share in hand."""
        self._desk.refresh = self.refresh
        self._desk.hungry = self.hungry
        self.sharer.start()

    async def aclose(self) -> None:
        await self.sharer.aclose()

    def health(self) -> Health:
        return self.sharer.health()

    def demands(self) -> dict[str, Mapping[LimitKind, Usage]]:
        """What this replica uses and wants, by account and kind of limit."""
        dispatcher = self._desk.dispatcher
        now = self._desk.clock()
        demands = dispatcher.demands(now)
        return {name: usage(meter, demands[name], now) for name, meter in dispatcher.meters.items() if name in demands}

    def apply(self, standings: Mapping[str, Standing]) -> None:
        """Enforce what the book says, from now on."""
        self._standings = standings
        self.refresh(self._desk.clock())

    def refresh(self, now: float) -> None:
        """Tell the dispatcher what holds at `now`, and the desk when that changes by itself."""
        fence = inf
        changed: dict[str, Limits | None] = {}
        for account, standing in self._standings.items():
            limits = standing.at(now)
            if self._told.get(account) != limits:
                self._told[account] = limits
                changed[account] = limits
            fence = min(fence, standing.until if now < standing.until else standing.end if now < standing.end else inf)
        self._desk.fence = fence
        if changed:
            self._desk.apply(Shares(changed))

    def newcomers(self, plan: Plan) -> Shares:
        """No share yet for accounts that a new plan brings: until the store has granted one, they get nothing."""
        nothing = {
            name: Limits(**{kind: None if getattr(account.limits, kind) is None else 0 for kind in LIMIT_KINDS})
            for name, account in plan.accounts.items()
            if name not in self._told
        }
        self._told.update(nothing)
        return Shares(nothing)

    def hungry(self, model: str) -> None:
        """A request of this model waits: a larger share would help."""
        for account in self._live.accounts_of.get(model, ()):
            self.sharer.nudge(account)
