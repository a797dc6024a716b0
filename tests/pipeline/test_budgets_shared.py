"""Budgets of several replicas, and of one whose store is away, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.core.money import MICRO

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Till = Any


def test_replicas_together_stay_within_the_amount(run: Run, house: Any, till: Any) -> None:
    async def story() -> None:
        store = till.shared()
        tills = [till(house, store=store) for _ in range(3)]
        seen = [await tills[number % 3].answers() for number in range(15)]
        assert 9 <= seen.count(200) <= 10  # the last may be short of what others hold
        await asyncio.sleep(6)
        while await tills[0].answers() == 200:
            seen.append(200)
        assert seen.count(200) == 10
        await asyncio.sleep(31)
        assert [one.view.spent for one in tills] == [MICRO] * 3
        for one in tills:
            await one.aclose()

    run(story())


def test_a_replica_that_starts_later_knows_what_was_spent(run: Run, house: Any, till: Any) -> None:
    async def story() -> None:
        store = till.shared()
        first = till(house, store=store)
        assert [await first.answers() for _ in range(7)] == [200] * 7
        await first.aclose()
        second = till(house, store=store)
        assert [await second.answers() for _ in range(4)] == [200, 200, 200, 429]
        await second.aclose()

    run(story())


def test_while_the_store_is_away_each_goes_on_with_an_even_part_and_tells_it_later(
    run: Run, house: Any, till: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        store = till.shared()
        tills = [till(house, store=store) for _ in range(2)]
        for one in tills:
            assert await one.answers() == 200
        await asyncio.gather(*(one.answers() for one in tills))
        store.away = True
        seen = [await tills[number % 2].answers() for number in range(12)]
        assert all(one.purser.away for one in tills)
        assert 4 <= seen.count(200) <= 6
        store.away = False
        await asyncio.sleep(8)
        assert not any(one.purser.away or one.purser.trouble for one in tills)
        spent = (4 + seen.count(200)) * 100_000
        assert [one.view.spent for one in tills] == [spent] * 2
        for one in tills:
            await one.aclose()

    with caplog.at_level(logging.WARNING):
        run(story())
    told = [r.getMessage() for r in caplog.records if r.name == "spillgate.budgets"]
    assert sum("cannot be shared" in text for text in told) == 2
    assert sum("shared again" in text for text in told) == 2


def test_a_store_that_was_never_reached_does_not_stop_anybody(scenario: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def story(till: Till) -> None:
        till.store.away = True
        assert [await till.answers() for _ in range(11)] == [200] * 10 + [429]

    scenario(story)
    assert "could not be told: it is away" in caplog.text


def test_a_request_that_nobody_answers_is_refused_in_the_end(scenario: Any) -> None:
    async def story(till: Till) -> None:
        till.store.pause = 60.0
        assert await till.answers() == 429
        assert till.loop.time() < 6
        till.store.pause = 0.0

    scenario(story)
