"""Records reach every sink once, in the background; what cannot is counted and told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from gateway.errors import SpillgateError
from gateway.pipeline.authenticate import LOCAL
from gateway.pipeline.faults import outcome_name
from gateway.service import Call
from gateway.telemetry import recorder
from gateway.telemetry.recorder import FLUSH, MOST_BYTES, MOST_FRESH, MOST_RECORDS, Recorder
from gateway.testing import virtual_time

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class MemorySink:
    """Keeps what it is given; fails, or hangs, when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Sequence[bytes]]] = []
        self.trouble: Exception | None = None
        self.pause = 0.0
        self.tries = 0
        self.closed = False

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        self.tries += 1
        await asyncio.sleep(self.pause)
        if self.trouble is not None:
            raise self.trouble
        self.batches.append((number, lines))

    async def aclose(self) -> None:
        self.closed = True

    @property
    def ids(self) -> list[str]:
        return [msgspec.json.decode(line)["id"] for _, lines in self.batches for line in lines]


@pytest.fixture
def run() -> Iterator[Run]:
    with virtual_time() as runner:
        yield runner


async def _no_body() -> bytes:
    return b""


def call(number: int, *, stranger: bool = False) -> Call:
    found = Call(f"req-a-{number:x}", 0.0, {}, _no_body)
    found.caller = None if stranger else LOCAL
    found.status = 200
    return found


def made(*sinks: MemorySink) -> Recorder:
    loop = asyncio.get_running_loop()
    found = Recorder(outcome_name, lambda: 1.8e9 + loop.time(), loop.time)
    found.use({f"sink {place}": (lambda sink=sink: sink) for place, sink in enumerate(sinks)})  # type: ignore[misc]
    return found


def test_records_are_written_together_and_soon(run: Run) -> None:
    async def scenario() -> None:
        sink, other = MemorySink(), MemorySink()
        found = made(sink, other)
        for number in range(5):
            found.fold(call(number))
        found.fold(call(99, stranger=True))
        assert sink.batches == []
        await asyncio.sleep(FLUSH + 0.01)
        assert sink.ids == other.ids == [f"req-a-{number:x}" for number in range(5)]
        assert len(sink.batches) == 1
        await found.aclose()
        assert sink.closed

    run(scenario())


def test_many_records_leave_in_batches_whose_numbers_rise(run: Run) -> None:
    async def scenario() -> None:
        sink = MemorySink()
        found = made(sink)
        for number in range(3 * recorder.BATCH + 1):
            found.fold(call(number))
        await asyncio.sleep(FLUSH + 0.01)
        assert [(n, len(lines)) for n, lines in sink.batches] == [(1, 250), (2, 250), (3, 250), (4, 1)]
        await found.aclose()

    run(scenario())


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), SpillgateError("down"), TimeoutError()])
def test_a_sink_that_is_down_holds_up_nobody_and_gets_everything_later_once(
    run: Run, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        good, bad = MemorySink(), MemorySink()
        bad.trouble = trouble
        found = made(good, bad)
        for number in range(60):
            found.fold(call(number))
            await asyncio.sleep(0.5)
        assert len(good.ids) >= 59
        fine, sick = found.health()
        assert (fine.trouble, fine.waiting, sick.written) == ("", 0, 0)
        assert sick.trouble
        assert sick.waiting >= 59
        assert 5 < bad.tries < 120, "it is tried again and again, with pauses"
        bad.trouble = None
        await asyncio.sleep(recorder.CEILING + 1)
        assert good.ids == bad.ids == [f"req-a-{number:x}" for number in range(60)]
        assert found.health()[1].trouble == ""
        await found.aclose()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"], "once down, once up"


def test_a_moment_of_trouble_is_not_worth_a_word(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        sink = MemorySink()
        sink.trouble = BlockingIOError(11, "locked")
        found = made(sink)
        found.fold(call(1))
        await asyncio.sleep(FLUSH + 0.03)
        sink.trouble = None
        await found.aclose()
        assert sink.ids == ["req-a-1"]

    run(scenario())
    assert caplog.records == []


def test_what_a_full_backlog_cannot_take_is_counted_and_told_now_and_then(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        good, bad = MemorySink(), MemorySink()
        bad.trouble = OSError("gone")
        found = made(good, bad)
        for number in range(MOST_RECORDS + 2000):
            found.fold(call(number))
            if number % 10_000 == 0:
                await asyncio.sleep(FLUSH * 2)
        await asyncio.sleep(FLUSH * 2)
        fine, sick = found.health()
        assert (fine.written, fine.dropped) == (MOST_RECORDS + 2000, 0)
        assert sick.waiting + sick.dropped == MOST_RECORDS + 2000
        assert sick.waiting <= MOST_RECORDS
        await found.aclose(within=1.0)

    run(scenario())
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "lost to the sink 1" in text]) == 1
    assert f"{MOST_RECORDS} usage records could not be written to the sink 1: gone" in told


def test_the_backlog_is_bounded_in_bytes_too(run: Run) -> None:
    async def scenario() -> None:
        feed = recorder.Feed("x", sink := MemorySink(), asyncio.get_running_loop().time)
        sink.trouble = OSError()
        feed.put(recorder.Batch(1, (b"x",), MOST_BYTES))
        feed.put(recorder.Batch(2, (b"y",), 1))
        assert (feed.waiting, feed.dropped) == (1, 1)
        await feed.aclose(0.0)

    run(scenario())


def test_more_than_fits_between_two_flushes_is_counted(run: Run) -> None:
    async def scenario() -> None:
        found = made(sink := MemorySink())
        for number in range(MOST_FRESH + 3):
            found.fold(call(number))
        await found.aclose()
        assert len(sink.ids) == MOST_FRESH

    run(scenario())


def test_at_the_end_everything_is_written_or_it_is_said_what_was_not(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        good, stuck = MemorySink(), MemorySink()
        stuck.pause = 1e6
        found = made(good, stuck)
        for number in range(3):
            found.fold(call(number))
        began = asyncio.get_running_loop().time()
        await found.aclose(within=2.0)
        assert asyncio.get_running_loop().time() - began < 2.1
        assert len(good.ids) == 3
        assert good.closed
        assert stuck.closed

    run(scenario())
    assert [r.getMessage() for r in caplog.records] == [
        "3 usage records could not be written to the sink 1: it is too slow"
    ]


def test_a_reload_keeps_the_sinks_that_stay_and_empties_those_that_go(run: Run) -> None:
    async def scenario() -> None:
        stays, goes, comes = MemorySink(), MemorySink(), MemorySink()
        loop = asyncio.get_running_loop()
        found = Recorder(outcome_name, loop.time, loop.time)
        found.fold(call(0))
        found.use({"stays": lambda: stays, "goes": lambda: goes})
        found.fold(call(1))
        found.use({"stays": MemorySink, "comes": lambda: comes})
        found.fold(call(2))
        await found.aclose()
        assert (stays.ids, goes.ids, comes.ids) == (["req-a-1", "req-a-2"], ["req-a-1"], ["req-a-2"])
        assert goes.closed
        found.fold(call(3))

    run(scenario())
