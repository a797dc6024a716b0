"""Joins callers' limits to the pool that all replicas share: one task, one round trip for everything that is due.

A request waits for it only when it finds no room in hand and the pool may have some; for one exchange, and all who
wait share it. Exchanges are paid for by requests (`PRICE`); what cannot be paid for waits until `SLOWEST`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from gateway.background import end
from gateway.core.caps import CapKind
from gateway.core.stock import TICK, Stock
from gateway.pipeline.scopes import Scope, Scopes
from gateway.store.base import StoreDown
from gateway.store.pool import Answers, Pool, Told

PRICE = 0.03
"""Exchanges that one request pays for; `_MOST` can be saved, or owed."""

_MOST = 10.0
SOONEST, SLOWEST = 0.005, 0.5
"""Seconds between two exchanges when somebody waits, and when there is something to tell that nobody pays for."""

LONGEST_PAUSE = 1.0
log = logging.getLogger("gateway.limits")


@dataclass(frozen=True, slots=True)
class PoolHealth:
    """For `/readyz` and metrics. `reason`: why the pool is out of reach; empty while it is not."""

    reason: str
    exchanges: int
    failures: int


class Pooling:
    """One per replica. Without a pool nothing here does anything, and every limit is this process's own."""

    def __init__(self, scopes: Scopes, clock: Callable[[], float]) -> None:
        self._scopes = scopes
        self._clock = clock
        self._pool: Pool | None = None
        self._task: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()
        self._active: dict[Scope, None] = {}
        self._upcoming: asyncio.Future[None] | None = None
        self._replica = secrets.token_hex(6)
        self._seq = 0
        self._urgent = False
        self._sent = -inf
        self._credit = _MOST
        self._pause = 0.0
        self._reason = ""
        self.exchanges = 0
        self.failures = 0

    def start(self, pool: Pool) -> None:
        """Begin; never waits. Limits are shared from now on."""
        self._pool = pool
        self._scopes.pooled = True
        self._scopes.join(True)
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._tell_if_it_broke)

    async def aclose(self) -> None:
        """Stop, and give back what is in hand. Takes the store's time-out at most, and a second."""
        if self._task is None or self._pool is None:
            return
        await end([self._task])
        self._wake()
        self._active = dict.fromkeys(self._scopes.all.values())
        try:
            await self._exchange(self._pool, list(self._active), leaving=True)
        except StoreDown as error:
            log.info("limits not given back: %s", error)
        self._scopes.join(False)
        await self._pool.aclose()

    def health(self) -> PoolHealth:
        """How the pool is doing."""
        return PoolHealth(self._reason, self.exchanges, self.failures)

    def touch(self, scopes: Sequence[Scope], pays: float = 0.0) -> None:
        """These are in use. Cheap; called for every request that has limits, when it comes (it `pays`) and ends."""
        if self._task is not None:
            active = self._active
            if not active:
                self._nudged.set()
            for scope in scopes:
                active[scope] = None
            if self._credit < _MOST:
                self._credit += pays
                if self._upcoming is not None and self._credit >= 1.0:
                    self._nudged.set()

    async def turn(self, *, urgent: bool = False) -> None:
        """Wait for the next exchange to begin and to end, however it ends. `urgent`: the pool has room, as far as
        is known."""
        self._urgent |= urgent
        if self._upcoming is None:
            self._upcoming = asyncio.get_running_loop().create_future()
        self._nudged.set()
        await asyncio.shield(self._upcoming)

    # --- the task -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        assert self._pool is not None
        while True:
            await self._rest()
            due = self._due()
            if not due:
                continue
            waiting, self._upcoming = self._upcoming, None
            self._urgent = False
            try:
                await self._exchange(self._pool, due)
            except StoreDown as error:
                self._failed(str(error))
            else:
                self._well()
            finally:
                if waiting is not None and not waiting.done():
                    waiting.set_result(None)

    async def _rest(self) -> None:
        """Until something is due, or somebody waits and it is not too soon."""
        while True:
            now = self._clock()
            if self._upcoming is not None and not self._pause:
                at = self._sent + (SOONEST if self._credit >= 1.0 else TICK if self._urgent else SLOWEST)
            elif self._active:
                pace = TICK if self._credit >= 1.0 else SLOWEST if self._credit >= 0.0 else 2 * SLOWEST
                at = max(self._sent + max(pace, self._pause), min(now + TICK, self._soonest()))
            else:
                at = self._sent + self._pause if self._reason else inf
            if at <= now:
                return
            self._nudged.clear()
            try:
                async with asyncio.timeout(None if at == inf else at - now):
                    await self._nudged.wait()
            except TimeoutError:
                return

    def _soonest(self) -> float:
        return min((stock.due() for scope in self._active for stock in scope.stocks.values()), default=inf)

    def _due(self) -> list[Scope]:
        """Whose turn it is; those about whom there is nothing to tell are let rest."""
        soon = self._clock() + TICK / 2
        due = []
        for scope in list(self._active):
            at = min((stock.due() for stock in scope.stocks.values()), default=inf)
            if at == inf:
                del self._active[scope]
            elif at <= soon:
                due.append(scope)
        if self._reason and not due:
            return list(self._scopes.all.values())[:1]  # is the pool back?
        return due

    async def _exchange(self, pool: Pool, scopes: Sequence[Scope], *, leaving: bool = False) -> None:
        sent = self._sent = self._clock()
        self._seq += 1
        self._credit = max(self._credit - 1.0, -_MOST)
        self.exchanges += 1
        asked = [(scope, dict(scope.stocks)) for scope in scopes]
        told = Told(
            self._replica,
            self._seq,
            int(sent * 1000),
            {scope.name: {kind: p.ask(sent, leaving=leaving) for kind, p in stocks.items()} for scope, stocks in asked},
        )
        try:
            answers = await pool.exchange(told)
        except BaseException:
            for _, stocks in asked:
                for stock in stocks.values():
                    stock.failed()
            raise
        for (_, stocks), found in zip(asked, answers, strict=True):
            self._hand_out(stocks, found, sent)

    def _hand_out(self, stocks: dict[CapKind, Stock], found: Answers | None, sent: float) -> None:
        now = self._clock()
        for kind, stock in stocks.items():
            if found is None:
                stock.failed()
            else:
                stock.granted(found[kind], sent, now)

    def _well(self) -> None:
        self._pause = 0.0
        if self._reason:
            self._reason = ""
            log.warning("the shared limits of callers are back")
            self._scopes.join(True)
            self._wake()

    def _failed(self, why: str) -> None:
        self.failures += 1
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or 2 * TICK)
        if not self._reason:
            log.warning("the shared limits of callers are out of reach, each replica counts alone: %s", why)
            self._scopes.join(False)
        self._reason = why
        self._wake()

    def _wake(self) -> None:
        if self._upcoming is not None and not self._upcoming.done():
            self._upcoming.set_result(None)
            self._upcoming = None

    def _tell_if_it_broke(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the task that shares limits broke; each replica counts alone", exc_info=error)
            self._reason = "the task broke"
            self._scopes.join(False)
            self._task = None
            self._wake()
