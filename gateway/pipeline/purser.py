"""Looks after this replica's part of every budget, in the background. A request waits for it only when what is in
hand does not suffice: once at the beginning of a period, and where little is left.

One task tells the store what was spent and asks for more, at once when a part runs low (though not more often than
every 20 ms), and after a failure with growing, jittered pauses up to a ceiling. While the store is away each replica
goes on from what was spent when it was last seen, with an even part of what nobody held then.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from itertools import count

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from gateway.background import begin, end
from gateway.core.money import Ask, Budget, BudgetView, Purse, period
from gateway.pipeline.live import Live
from gateway.policy.roster import Index
from gateway.store.base import StoreDown
from gateway.store.purse import Purses

TICK = 0.5
"""Seconds between two looks at what there is to tell."""

SPACING = 0.02
CEILING = 1.0
"""Longest pause between two attempts to reach the store, in seconds."""

PATIENCE = 5.0
"""Seconds: longer than any exchange takes."""

_ROUNDS = 3
log = logging.getLogger("spillgate.budgets")


class Purser:
    """One per process. `clock` and `wall` return monotonic and Unix seconds; `replicas`: the most that run, if told."""

    def __init__(self, live: Live, clock: Callable[[], float], wall: Callable[[], float], replicas: int = 0) -> None:
        self._live = live
        self._store: Purses | None = None
        self._clock = clock
        self.wall = wall
        self._most = max(1, replicas)
        """replicas that run, as far as known"""
        self._replica = secrets.token_hex(6)
        self._serial = count(1)
        self._purses: dict[str, Purse] = {}
        self._closing: list[Purse] = []
        self._index: Index | None = None
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0
        self.away = False
        self.trouble = ""
        """why the store cannot be reached; empty while it can"""

    def start(self, store: Purses) -> None:
        """Begin to share. Never waits for the store."""
        self._store = store
        self._task = begin(self._run(), log, "the task that keeps budgets broke; they are not shared any more")

    async def aclose(self) -> None:
        """Stop, tell what was spent, and give back the rest. Takes the store's time-out at most, rarely a second."""
        if self._task is None or self._store is None:
            return
        await end([self._task])
        now, wall = self._clock(), self.wall()
        asks = [purse.ask(now, wall, leaving=True) for purse in self._all() if not purse.blank]
        try:
            await self._store.exchange(asks)
        except StoreDown as error:
            log.error("what was spent last could not be told: %s", error)
        await self._store.aclose()

    def views(self) -> list[BudgetView]:
        """How every budget stands, by name."""
        self._sync()
        return [self._purses[name].view() for name in sorted(self._purses)]

    def purse(self, name: str, budget: Budget) -> Purse:
        """This replica's part of a budget in the present period."""
        found = self._purses.get(name)
        if found is None or found.budget is not budget or not found.period.start <= self.wall() < found.period.end:
            found = self._open(name, budget)
        return found

    async def take(self, purse: Purse, cost: int) -> bool:
        """Reserve so much for a request, if it can be had; wait for the store if it may know of more. False: not.

        Cancelled, nothing is reserved.
        """
        for _ in range(_ROUNDS):
            if cost <= purse.room(self.away):
                break
            if self.away or purse.barred(cost, self._clock()):
                return False
            purse.require(cost)
            self._wake.set()
            if not await self._hear():
                return False
        else:
            if cost > purse.room(self.away):
                return False
        purse.reserve(cost, self._clock())
        if purse.low():
            self._wake.set()
        return True

    async def _hear(self) -> bool:
        """Wait for the end of the next exchange. False: there was none for long, which should not be."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._answered.wait()
        except TimeoutError:
            return False
        return True

    # --- the task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            attempts = AsyncRetrying(
                wait=wait_random_exponential(multiplier=0.05, max=CEILING, min=SPACING),
                retry=retry_if_exception_type(StoreDown),
                after=self._note,
            )
            await attempts(self._exchange)
            try:
                async with asyncio.timeout(TICK):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, self._last + SPACING - self._clock()))

    async def _exchange(self) -> None:
        self._wake.clear()
        self._last = now = self._clock()
        wall = self.wall()
        self._sync()
        self._closing = [purse for purse in self._closing if not purse.blank]
        due = [purse for purse in self._closing if not purse.reserved or purse.due(now)]
        due += [purse for purse in self._purses.values() if purse.due(now)]
        if self.away:
            due = due or self._all()[:1]
        closing = set(self._closing)
        asked = [(purse, purse.ask(now, wall, leaving=purse in closing and not purse.reserved)) for purse in due]
        answered, self._answered = self._answered, asyncio.Event()
        try:
            if asked:
                await self._tell(asked)
        finally:
            answered.set()

    async def _tell(self, asked: list[tuple[Purse, Ask]]) -> None:
        assert self._store is not None
        try:
            answers = await self._store.exchange([ask for _, ask in asked])
        except StoreDown as error:
            self._lost(error)
            raise
        now = self._clock()
        for (purse, ask), told in zip(asked, answers, strict=True):
            purse.told(ask, told, now)
            self._most = max(self._most, told.live)
        if self.away:
            self.away, self.trouble = False, ""
            log.warning("budgets are shared again")

    def _all(self) -> list[Purse]:
        return [*self._closing, *self._purses.values()]

    def _lost(self, error: StoreDown) -> None:
        if not self.away:
            log.warning("budgets cannot be shared, going on with what was last known: %s", error)
        self.away, self.trouble = True, str(error)

    def _note(self, state: RetryCallState) -> None:
        """Another attempt follows."""
        del state

    def _sync(self) -> None:
        """Have a purse for every budget of the present, and close those that are over."""
        index = self._live.index
        for name, budget in index.budgets.items():
            self.purse(name, budget)
        if self._index is not index:
            self._index = index
            for name in [name for name in self._purses if name not in index.budgets]:
                self._closing.append(self._purses.pop(name))

    def _open(self, name: str, budget: Budget) -> Purse:
        now = period(budget, self.wall())
        compiled = self._live.compiled
        key = f"spillgate:{{budget:{name}}}:{compiled.currency if compiled else ''}:{now.name}"
        old = self._purses.get(name)
        if old is not None and (old.key, old.period) == (key, now):
            old.budget = budget
            return old
        member = f"{self._replica}.{next(self._serial)}"
        found = Purse(name, key, member, budget, now, self._clock(), self._most)
        if old is not None:
            self._closing.append(old)
        self._purses[name] = found
        return found
