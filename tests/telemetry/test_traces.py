"""Which requests are told of, to whom, and at what bounds; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import pytest

from gateway.core.nouns import Failed
from gateway.pipeline.faults import outcome_name
from gateway.policy.compiled import TelemetryRules
from gateway.service import Attempt, Call
from gateway.telemetry.spans import Told
from gateway.telemetry.traces import FLUSH, MOST_FRESH, Tracing, Ways
from gateway.testing import virtual_time
from gateway.testing.collector import Collector
from gateway.wire.traceparent import written

Run = Callable[[Coroutine[Any, Any, None]], None]
Made = Callable[..., Call]
Tried = Callable[..., Attempt]
RULES = TelemetryRules(sample=0.0, most=10)


class MemorySink:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.closed = False

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        del number
        self.lines += lines

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def run() -> Iterator[Run]:
    with virtual_time() as runner:
        yield runner


def tracing(*, idle: bool = False) -> Tracing:
    loop = asyncio.get_running_loop()
    return Tracing(outcome_name, lambda: 1.8e9 + loop.time(), loop.time, lambda: idle, "json", Random(1))


def failed(made: Made, tried: Tried, number: int = 0) -> Call:
    lost = tried(1, 100.0, ended=100.5, outcome=Failed("server"))
    return made(f"req-{number}", responded=100.5, status=502, attempts=[lost])


def served(made: Made, tried: Tried, number: int = 0) -> Call:
    won = tried(1, 100.0, first_byte=100.1, first_token=100.2, ended=101.0)
    return made(f"req-{number}", responded=100.2, ended=101.0, attempts=[won])


def test_what_failed_is_shared_with_all_replicas_and_what_went_well_is_not(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        sink, found = MemorySink(), tracing()
        found.use(RULES, Ways(stream=lambda: sink), {})
        found.fold(failed(made, tried, 1))
        found.fold(served(made, tried, 2))
        assert sink.lines == []
        await asyncio.sleep(FLUSH + 0.01)
        told = [msgspec.json.decode(line, type=Told) for line in sink.lines]
        assert [one.id for one in told] == ["req-1"]
        assert (told[0].kept, told[0].root is not None, len(told[0].trace)) == (["failed"], True, 32)
        await found.aclose()
        assert sink.closed

    run(scenario())


def test_everything_is_remembered_here_but_strangers(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        found = tracing()
        found.fold(failed(made, tried, 1))
        found.fold(served(made, tried, 2))
        found.fold(made("req-3", stranger=True, status=401))
        assert {told.id for told in found.pick("last", 9)} == {"req-1", "req-2"}
        assert [told.id for told in found.pick("failed", 9)] == ["req-1"]
        told = found.find("req-2")
        assert told is not None
        assert told.longest == "stream"
        assert found.find("req-3") is None

    run(scenario())


def test_so_many_a_second_and_the_rest_is_counted(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        sink, found = MemorySink(), tracing()
        found.use(RULES, Ways(stream=lambda: sink), {})
        for number in range(100):
            found.fold(failed(made, tried, number))
        await asyncio.sleep(1.0)
        assert 10 <= len(sink.lines) <= 12
        assert found.health()["left_out"] == 100 - len(sink.lines)
        found.use(replace(RULES, most=0), Ways(stream=lambda: sink), {})
        found.fold(failed(made, tried, 200))
        await found.aclose()
        assert len(sink.lines) <= 12

    run(scenario())


def test_every_request_has_a_line_where_that_is_wanted(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        sink, found = MemorySink(), tracing()
        found.use(RULES, Ways(lines=lambda: sink), {})
        for number in range(120):
            found.fold(served(made, tried, number))
        await asyncio.sleep(FLUSH + 0.1)
        lines = [msgspec.json.decode(line) for line in sink.lines]
        assert [line["id"] for line in lines] == [f"req-{number}" for number in range(120)]
        assert all(len(line["trace"]) == 32 for line in lines)
        found.use(RULES, Ways(), {})
        found.fold(served(made, tried, 200))
        await found.aclose()
        assert len(sink.lines) == 120

    run(scenario())


def test_when_nothing_else_goes_on_nothing_waits(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        sink, found = MemorySink(), tracing(idle=True)
        found.use(RULES, Ways(stream=lambda: sink), {})
        found.fold(failed(made, tried))
        await asyncio.sleep(0.001)
        assert len(sink.lines) == 1
        await found.aclose()

    run(scenario())


def test_what_is_on_its_way_is_bounded(run: Run, made: Made, tried: Tried) -> None:
    async def scenario() -> None:
        sink, found = MemorySink(), tracing()
        found.use(RULES, Ways(lines=lambda: sink), {})
        one = served(made, tried)
        for _ in range(MOST_FRESH + 7):
            found.fold(one)
        assert found.health()["left_out"] == 7
        await found.aclose()

    run(scenario())


def test_a_caller_we_know_goes_on_with_his_trace_and_a_stranger_does_not(run: Run, made: Made) -> None:
    async def scenario() -> None:
        found = tracing()
        headers = {b"traceparent": written(0xAB, 0xCD, True).encode(), b"tracestate": b"a=1"}
        known, stranger, silent = made(headers=headers), made(headers=headers, stranger=True), made()
        for call in (known, stranger, silent):
            found.begin(call)
        assert known.context is not None
        assert (known.context.trace, known.context.parent, known.context.sampled) == (0xAB, 0xCD, True)
        assert known.context.state == "a=1"
        assert stranger.context is not None
        assert (stranger.context.trace != 0xAB, stranger.context.sampled) == (True, False)
        assert silent.context is None

    run(scenario())


def test_a_share_of_all_is_sampled_the_same_at_every_replica(made: Made, collector: Collector) -> None:
    async def scenario() -> None:
        found = tracing()
        found.use(replace(RULES, sample=0.2), Ways(collector.url), {})
        calls = [made() for _ in range(2000)]
        for call in calls:
            found.begin(call)
        contexts = [call.context for call in calls if call.context is not None]
        assert 300 < sum(context.sampled for context in contexts) < 500
        assert all(context.sampled == (context.trace % 2**64 < 0.2 * 2**64) for context in contexts)
        await found.aclose()

    asyncio.run(scenario())


def test_sampled_and_failed_ones_reach_the_collector_and_others_do_not(
    made: Made, tried: Tried, collector: Collector
) -> None:
    async def scenario() -> None:
        found = tracing()
        found.use(RULES, Ways(collector.url), {})
        headers = {b"traceparent": written(0xAB, 0xCD, True).encode()}
        sampled, other, broken = served(made, tried, 1), served(made, tried, 2), failed(made, tried, 3)
        sampled.headers = headers
        for call in (sampled, other, broken):
            found.begin(call)
            found.fold(call)
        await found.aclose(within=20.0)

    asyncio.run(scenario())
    assert collector.trace("req-1")
    assert collector.trace("req-3")
    with pytest.raises(AssertionError, match="no trace"):
        collector.trace("req-2", within=0.0)


def test_another_collector_takes_over_and_the_first_is_told_what_waits(made: Made, tried: Tried) -> None:
    first, second = Collector(), Collector()

    async def scenario() -> None:
        found = tracing(idle=True)
        found.use(RULES, Ways(first.url), {})
        found.fold(failed(made, tried, 1))
        found.use(RULES, Ways(first.url), {})
        found.use(RULES, Ways(second.url), {})
        found.fold(failed(made, tried, 2))
        await found.aclose(within=20.0)

    asyncio.run(scenario())
    assert first.trace("req-1", within=1.0)
    assert second.trace("req-2", within=1.0)
    first.close()
    second.close()
