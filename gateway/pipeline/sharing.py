"""Joins the shared store to the desk: what this replica uses, wants and learns goes out, shares and lessons come in.

All of it happens in the background. A request only ever compares the time with `Desk.fence`, the moment at which
the shares in hand change by themselves; so a process that was frozen and wakes in the middle of a request's arrival
does not act on a share that has long been given to others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from math import inf

from gateway.core.lesson import Learned, ranks
from gateway.core.nouns import LIMIT_KINDS, Account, LimitKind, Limits, Plan, Shares
from gateway.pipeline.desk import Desk
from gateway.pipeline.live import Live
from gateway.store.base import Grant, Report, Store, Terms
from gateway.store.lessons import LessonBook
from gateway.store.sharer import Sharer
from gateway.store.shares import Health, ShareBook, Standing, Usage
from gateway.store.usage import usage


class Classroom:
    """A store whose exchanges carry lessons: what is to be told goes along, what is told is handed on."""

    def __init__(
        self,
        store: Store,
        tell: Callable[[Sequence[Report]], Sequence[Report]],
        told: Callable[[Sequence[Report], Sequence[Grant]], None],
    ) -> None:
        self._store = store
        self._tell = tell
        self._told = told

    async def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        """See `Store.exchange`."""
        reports = self._tell(reports)
        grants = await self._store.exchange(reports)
        self._told(reports, grants)
        return grants

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._store.aclose()


class Sharing:
    """One per replica, on the loop of its desk. `start` never waits; `aclose` gives back what is not used.

    `replicas`: the most that ever run at a time, by the operator's word; 0 if he gave none.
    """

    def __init__(
        self, desk: Desk, live: Live, store: Store, *, replicas: int, terms: Terms | None = None, name: str = ""
    ) -> None:
        self._desk = desk
        self._live = live
        self._standings: Mapping[str, Standing] = {}
        self._told: dict[str, Limits] = {}
        self.replica = name or secrets.token_hex(6)
        terms = terms or Terms()
        self._lessons = LessonBook(self.replica, terms)
        book = ShareBook(self.replica, terms, desk.loop.time(), max(1, replicas), replicas)
        self.sharer = Sharer(book, Classroom(store, self.tell, self.told), self.demands, self.apply)

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
        """Enforce what the books say, from now on. What has been learnt here since is told soon."""
        self._standings = standings
        now = self._desk.clock()
        lessons = self._desk.dispatcher.lessons(now)
        if lapsed := self._lessons.lapse(lessons, now):
            self._desk.apply(Learned(lapsed))
        for account in self._lessons.news(lessons):
            self.sharer.nudge(account, news=True)
        self.refresh(now)

    def tell(self, reports: Sequence[Report]) -> Sequence[Report]:
        """Add what has been learnt, where that is due."""
        now = self._desk.clock()
        return self._lessons.tell(reports, self._desk.dispatcher.lessons(now), now)

    def told(self, reports: Sequence[Report], grants: Sequence[Grant]) -> None:
        """Take over what others learnt, and what they have in flight. A limit that is news is reported soon."""
        now = self._desk.clock()
        before = self._desk.dispatcher.lessons(now)
        lessons = self._lessons.told(reports, grants, now)
        if lessons:
            self._desk.apply(Learned(lessons))
        for name, lesson in lessons.items():
            if name in before and ranks(lesson.marks) != ranks(before[name].marks):
                self.sharer.nudge(name, news=True)

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
            name: Limits(**{kind: 0 for kind in LIMIT_KINDS if _is_shared(kind, account)})
            for name, account in plan.accounts.items()
            if name not in self._told
        }
        self._told.update(nothing)
        return Shares(nothing)

    def hungry(self, model: str) -> None:
        """A request of this model waits: a larger share would help."""
        for account in self._live.accounts_of.get(model, ()):
            self.sharer.nudge(account)


def _is_shared(kind: LimitKind, account: Account) -> bool:
    """Is there a limit of this kind, or will one be learnt from a first guess on?"""
    return getattr(account.limits, kind) is not None or (kind == "streams" and account.learn != "off")
