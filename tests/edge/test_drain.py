"""The way out, in virtual time: its phases, its patience, and who cannot take his last words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from gateway.edge.drain import CUT, Drain, Patience, Phase
from gateway.testing import virtual_time

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    with virtual_time() as runner:
        yield runner


class House:
    """A drain, and the phases that it told with their times."""

    def __init__(self, notice: float = 3.0, streams: float = 20.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.told: list[tuple[Phase, float]] = []
        self.drain = Drain(Patience(notice, streams), self.loop.time, self.hear)

    def hear(self, phase: Phase) -> None:
        self.told.append((phase, self.loop.time()))

    def work(self, *seconds: float) -> set[asyncio.Task[None]]:
        return {asyncio.create_task(asyncio.sleep(each)) for each in seconds}

    async def stop(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """All of it, as the server does it. Returns who is stuck."""
        await self.drain.asked.wait()
        await self.drain.leave()
        left = await self.drain.finish(running)
        stuck = await self.drain.cut(left) if left else set()
        self.drain.close()
        return stuck


def test_nothing_is_cut_when_all_ends_in_time(run: Run) -> None:
    async def scenario() -> None:
        h = House()
        running = h.work(5.0, 22.0)
        h.drain.ask()
        assert await h.stop(running) == set()
        assert h.told == [("leaving", 0.0), ("draining", 3.0), ("closed", 22.0)]

    run(scenario())


def test_what_outlasts_the_deadline_is_cut(run: Run) -> None:
    async def scenario() -> None:
        h = House()
        running = h.work(5.0, 99.0)
        h.drain.ask()
        assert await h.stop(running) == set()
        assert h.told == [("leaving", 0.0), ("draining", 3.0), ("cutting", 23.0), ("closed", 23.0)]
        assert sorted(task.cancelled() for task in running) == [False, True]

    run(scenario())


@pytest.mark.parametrize("second", [1.0, 10.0])
def test_a_second_signal_ends_the_waiting_wherever_it_is(run: Run, second: float) -> None:
    async def scenario() -> None:
        h = House()
        running = h.work(99.0)
        h.drain.ask()
        h.loop.call_later(second, h.drain.ask)
        await h.stop(running)
        assert h.drain.hurried
        assert h.told[-1] == ("closed", second)

    run(scenario())


def test_two_signals_at_once_leave_nothing_out(run: Run) -> None:
    async def scenario() -> None:
        h = House()
        running = h.work(99.0)
        h.drain.ask()
        h.drain.ask()
        await h.stop(running)
        assert [phase for phase, _ in h.told] == ["leaving", "draining", "cutting", "closed"]
        assert h.told[-1][1] == 0.0

    run(scenario())


def test_a_client_who_does_not_take_his_last_words_is_not_waited_for(run: Run) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(99.0)
        except asyncio.CancelledError:
            await asyncio.sleep(99.0)

    async def scenario() -> None:
        h = House(notice=0.0, streams=1.0)
        task = asyncio.create_task(stubborn())
        h.drain.ask()
        assert await h.stop({task}) == {task}
        assert h.told[-1] == ("closed", 1.0 + CUT)
        task.cancel()

    run(scenario())


def test_retry_after_is_short_where_others_serve_and_outlasts_the_drain_where_none_does(run: Run) -> None:
    async def scenario() -> None:
        h = House(notice=0.0)
        running = h.work(99.0)
        h.drain.ask()
        stopping = asyncio.ensure_future(h.stop(running))
        await asyncio.sleep(5.0)
        assert h.drain.farewell(others=True).retry_after == 1.0
        assert h.drain.farewell(others=False).retry_after == 16.0
        await stopping

    run(scenario())
