"""The dispatcher is told of prices when they change, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Price
from gateway.core.tariff import Hours, Tariff
from gateway.pipeline.desk import Desk
from gateway.pipeline.tariffs import PriceClock
from gateway.testing import plan

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOON = 1_795_737_600.0 + 4 * 3600
"""12:00 in Beijing"""
DAY, NIGHT = Price(4, 16), Price(2, 4)
TARIFF = Tariff(DAY, (Hours(NIGHT, ((30, 510),)),))


def test_prices_change_on_the_minute_and_follow_a_clock_that_is_set(run: Run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        desk = Desk(Dispatcher(plan([["a"]]), random.Random(1)), loop.time)
        ahead = 0.0
        clock = PriceClock(desk, lambda: NOON + loop.time() + ahead)

        def price() -> Price | None:
            return desk.dispatcher.snapshot(loop.time()).backends[0].prices.get("r2")

        desk.apply(clock.use({"a": {"a-id": TARIFF}}))
        assert price() == DAY
        await asyncio.sleep(12.5 * 3600 - 1)
        assert price() == DAY
        await asyncio.sleep(1.1)
        assert price() == NIGHT
        await asyncio.sleep(8 * 3600)
        assert price() == DAY
        ahead = 16 * 3600.0  # somebody sets the clock to the next night
        await asyncio.sleep(61)
        assert price() == NIGHT
        desk.apply(clock.use({"a": {"a-id": replace(TARIFF, hours=())}}))
        assert price() == DAY
        clock.close()
        desk.close()

    run(scenario())
