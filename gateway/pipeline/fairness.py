"""Keeps this replica's counters of fairness in step with the others'. No request ever waits for it.

At every tick of the shares, if anybody waits or was charged, `FairBook` says what to tell, and makes of the answer what
it means for the queue's order. While the store is away everything goes on by the counters of this replica.
"""

from __future__ import annotations

import asyncio
import logging

from gateway.background import begin, end
from gateway.pipeline.desk import Desk
from gateway.store.base import StoreDown
from gateway.store.fairness import Counters, FairBook
from gateway.store.shares import TICK

AGAIN = 1.0
"""Seconds until the next try when the store is away."""

log = logging.getLogger("spillgate.fairness")


class Fairness:
    """One per replica, on the loop of its desk. `me` must differ for every start of every process."""

    def __init__(self, desk: Desk, counters: Counters, me: str) -> None:
        self._desk = desk
        self._counters = counters
        self._book = FairBook(me)
        self._task: asyncio.Task[None] | None = None
        self.trouble = ""
        """why the store is out of reach; empty when it is not"""

    def start(self) -> None:
        """Begin to exchange. Never waits for the store."""
        broken = "sharing counters of fairness has ended; the queue goes by this replica's"
        self._task = begin(self._follow(), log, broken)

    async def aclose(self) -> None:
        """Stop; what was charged since the last exchange is not told any more. Takes the store's time-out at most."""
        if self._task is not None:
            await end([self._task])
        await self._counters.aclose()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(AGAIN if self.trouble else TICK)
            await self._exchange()

    async def _exchange(self) -> None:
        tellings = self._book.tell(self._desk.dispatcher.pools.values(), self._desk.clock())
        if not tellings:
            return
        try:
            answers = await self._counters.exchange(tellings)
        except StoreDown as error:
            self._book.failed(self._desk.clock())
            if not self.trouble:
                log.warning("counters of fairness are out of reach, the queue goes by this replica's: %s", error)
            self.trouble = str(error)
            return
        self._book.told(answers)
        if self.trouble:
            self.trouble = ""
            log.warning("counters of fairness are in reach again")
