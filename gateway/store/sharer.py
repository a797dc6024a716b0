"""The small shell around `ShareBook`: two background tasks, and no request ever waits for either.

`renew` talks to the store: every tick, at once when a share runs low (though not more often than every 20 ms), and
after a failure with growing, jittered pauses up to a ceiling. `watch` tells the book and the dispatcher the time, so
that shares end when they must also while an exchange hangs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from gateway.background import begin, end
from gateway.store.base import Store, StoreDown
from gateway.store.shares import TICK, Health, ShareBook, Standing, Usages

CEILING = 1.0
"""Longest pause between two attempts to reach the store, in seconds."""

LOOK = 1.0
"""Seconds between two looks at silent members."""

Apply = Callable[[Mapping[str, Standing]], None]
Witness = Callable[[str], Awaitable[bool]]
"""Answers whether the named replica may still be running: False only if that is certain to be false."""

log = logging.getLogger("gateway.store")


class Sharer:
    """Keeps this replica's shares. `demands` and `apply` are called on the loop and must not block."""

    def __init__(
        self,
        book: ShareBook,
        store: Store,
        demands: Callable[[], Usages],
        apply: Apply,
        witness: Witness | None = None,
    ) -> None:
        self._book = book
        self._store = store
        self._demands = demands
        self._apply = apply
        self._witness = witness
        self._nudged = asyncio.Event()
        self._hungry: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._down = False
        self._looking: asyncio.Task[None] | None = None
        self._looked = 0.0
        self.exchanges = 0
        self.reported = 0
        self.failures = 0

    def start(self) -> None:
        """Begin. Never waits for the store."""
        self._watch_once()
        broken = "the task that keeps shares broke; shares will end"
        self._tasks = [begin(self._renew(), log, broken), begin(self._watch(), log, broken)]

    def nudge(self, account: str, *, news: bool = False) -> None:
        """A request found no room in this account's share: exchange soon. Cheap; may be called for every request.

        `news`: the account's limit is another.
        """
        if account not in self._hungry or news:
            self._hungry[account] = news
            self._nudged.set()

    def health(self) -> Health:
        """See `ShareBook.health`."""
        return self._book.health(_now())

    async def aclose(self) -> None:
        """Stop, and give back what is not used. Takes its time-out and `AGAIN` at most; cancelled, it gives up."""
        await end([*self._tasks, *([self._looking] if self._looking else [])])
        self._tasks = []
        reports = self._book.reports(self._demands(), _now(), leaving=True)
        self._apply(self._book.standings())
        try:
            await self._store.exchange(reports)
        except StoreDown as error:
            log.info("shares not given back: %s", error)
        await self._store.aclose()

    # --- the tasks --------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        while True:
            attempts = AsyncRetrying(
                wait=wait_random_exponential(multiplier=0.05, max=CEILING, min=0.02),
                retry=retry_if_exception_type(StoreDown),
                after=self._note,
            )
            await attempts(self._exchange)
            await self._rest()

    async def _exchange(self) -> None:
        self.exchanges += 1
        reports = self._book.reports(self._demands(), _now())
        # In force before it is told: the store gives away what a report says is free.
        self._apply(self._book.standings())
        if not reports:
            await asyncio.sleep(TICK)  # no account has a limit: the book never says when to come again
            return
        self.reported += len(reports)
        try:
            grants = await self._store.exchange(reports)
        except StoreDown as error:
            self._book.failed(str(error), _now())
            raise
        self._book.granted(grants, _now())
        self._apply(self._book.standings())
        if self._down:
            self._down = False
            log.warning("shared state is back")

    async def _rest(self) -> None:
        """Until the next exchange is due, or sooner if nudged."""
        while (pause := min(TICK, self._book.next_at() - _now())) > 0:
            try:
                async with asyncio.timeout(pause):
                    await self._nudged.wait()
            except TimeoutError:
                break
            self._nudged.clear()
            for account, news in self._hungry.items():
                self._book.nudge(account, news=news)
            self._hungry.clear()

    def _note(self, state: RetryCallState) -> None:
        self.failures += 1
        if not self._down:
            self._down = True
            log.warning("shared state out of reach, going on with safe shares: %s", self._book.health(_now()).reason)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._watch_once()

    def _watch_once(self) -> None:
        now = _now()
        self._book.tick(self._demands(), now)
        self._apply(self._book.standings())
        suspects = self._book.suspects()
        idle = self._looking is None or self._looking.done()
        if suspects and self._witness is not None and idle and now >= self._looked + LOOK:
            self._looked = now
            self._looking = asyncio.create_task(self._look(self._witness, suspects))

    async def _look(self, witness: Witness, suspects: tuple[str, ...]) -> None:
        found = await asyncio.gather(*(witness(name) for name in suspects), return_exceptions=True)
        # A look that fails proves nothing, and only proof of the end frees a share early.
        self._book.attest([name for name, alive in zip(suspects, found, strict=True) if alive is not False])


def _now() -> float:
    return asyncio.get_running_loop().time()
