"""Those who wait get their verdict, whenever it falls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Failed, Go, Lease, Limits, Request, Served, Wait
from gateway.pipeline.desk import Desk
from gateway.testing import plan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BROKEN = Failed("server")


class Late:
    """A desk whose loop was held up: two requests fail one after the other, and the second finds room for both."""

    def __init__(self) -> None:
        self.now = 0.0
        self.desk = Desk(
            Dispatcher(plan([["a"], ["b"]], limits={"a": Limits(streams=2), "b": Limits(rps=2)}), random.Random(1)),
            lambda: self.now,
        )
        self.first, self.second = self.asked("first"), self.asked("second")
        self.others = [self.asked(name) for name in ("third", "fourth")]

    def asked(self, name: str) -> Lease:
        verdict = self.desk.offer(Request(name, "t", "r2", "standard", 350, 100, True, self.now))
        assert isinstance(verdict, Go)
        return verdict.lease

    async def both_fail(self) -> asyncio.Task[Any]:
        """The first waits for the other backend; when the second fails, there has long been room for both."""
        assert isinstance(self.desk.settle(self.first, BROKEN), Wait)
        waiting = asyncio.create_task(self.desk.wait(self.first.request))
        await asyncio.sleep(0)
        self.now = 5.0
        assert isinstance(self.desk.settle(self.second, BROKEN), Wait)
        return waiting


def test_a_verdict_that_falls_before_its_request_waits_is_not_lost(run: Run) -> None:
    async def scenario() -> None:
        late = Late()
        waiting = await late.both_fail()
        async with asyncio.timeout(1.0):
            found = [await waiting, await late.desk.wait(late.second.request)]
        assert {verdict.lease.backend for verdict in found if isinstance(verdict, Go)} == {"b"}
        for lease in (*(verdict.lease for verdict in found), *late.others):
            late.desk.settle(lease, Served())
        totals = late.desk.dispatcher.snapshot(late.now).totals
        assert (totals.in_flight, totals.waiting) == (0, 0)
        late.desk.close()

    run(scenario())


def test_a_lease_that_is_granted_to_a_request_that_is_over_is_given_back(run: Run) -> None:
    async def scenario() -> None:
        late = Late()
        waiting = await late.both_fail()
        late.desk.leave(late.second.request)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for lease in late.others:
            late.desk.settle(lease, Served())
        totals = late.desk.dispatcher.snapshot(late.now).totals
        assert (totals.in_flight, totals.waiting) == (0, 0)
        late.desk.close()

    run(scenario())
