"""Traces on a real OTLP endpoint, and what happens when there is none."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.core.nouns import Failed
from gateway.pipeline.faults import outcome_name
from gateway.service import Attempt, Call, Context
from gateway.telemetry.context import attempt_span
from gateway.telemetry.otlp import MOST_WAITING, Collector
from gateway.telemetry.spans import Place
from gateway.telemetry.story import Story
from gateway.testing.collector import Collector as Received
from gateway.testing.collector import attributes, below

Made = Callable[..., Call]
Tried = Callable[..., Attempt]
WALL = 1.8e9 - 100.0


def sender(endpoint: str) -> Collector:
    return Collector(endpoint, outcome_name, lambda: {"one": Place("vllm", "h", 1)}, lambda: WALL)


def story(made: Made, tried: Tried, number: int = 1, parent: int = 0, state: str = "") -> Story:
    lost = tried(1, 100.5, first_byte=100.6, ended=101.0, outcome=Failed("server"))
    won = tried(2, 101.1, first_byte=102.0, first_token=103.0, ended=109.0)
    call = made(
        f"req-{number}", reading=100.1, got=100.2, responded=103.0, ended=109.5, attempts=[lost, won],
        context=Context(0xABC000 + number, 0xDEF0000000000000 + number, parent, state=state),
    )  # fmt: skip
    return Story(call, "acme", "standard")


def test_the_tree_arrives_as_it_was(made: Made, tried: Tried, collector: Received) -> None:
    async def scenario() -> None:
        sending = sender(collector.url)
        sending.put(story(made, tried, parent=0x77, state="vendor=1"), hurry=True)
        await sending.aclose()
        assert sending.health().exported == 1

    asyncio.run(scenario())
    spans = collector.trace("req-1")
    (root,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert (root.name, root.trace_state) == ("POST /v1/chat/completions", "vendor=1")
    assert root.parent_span_id == (0x77).to_bytes(8)
    assert root.trace_id == (0xABC001).to_bytes(16)
    assert root.start_time_unix_nano == 1_800_000_000_000_000_000
    assert root.end_time_unix_nano == 1_800_000_009_500_000_000
    phases = below(spans, root)
    assert [span.name for span in phases] == [
        "authenticate", "read request", "route", "chat one-id", "route", "chat one-id", "deliver",
    ]  # fmt: skip
    clients = [span for span in phases if span.kind == Span.SPAN_KIND_CLIENT]
    context = Context(1, 0xDEF0000000000001)
    assert [int.from_bytes(span.span_id) for span in clients] == [attempt_span(context, 1), attempt_span(context, 2)]
    assert (clients[0].status.code, clients[0].status.message) == (Status.STATUS_CODE_ERROR, "failed:server")
    assert clients[1].status.code == Status.STATUS_CODE_UNSET
    assert [span.name for span in below(spans, clients[1])] == ["wait for first byte", "wait for first token", "stream"]
    assert len({span.span_id for span in spans}) == len(spans)
    assert attributes(clients[0])["gen_ai.provider.name"] == "vllm"
    assert collector.resources[0]["service.name"] == "spillgate"


def test_a_tenant_and_a_key_are_not_named_outside(made: Made, tried: Tried, collector: Received) -> None:
    async def scenario() -> None:
        sending = sender(collector.url)
        sending.put(story(made, tried), hurry=True)
        await sending.aclose()

    asyncio.run(scenario())
    assert not any("acme" in str(attributes(span)) for span in collector.trace("req-1"))


def test_many_arrive_all_with_ids_of_their_own(made: Made, tried: Tried, collector: Received) -> None:
    async def scenario() -> None:
        sending = sender(collector.url)
        for number in range(200):
            sending.put(story(made, tried, number))
        await sending.aclose(within=20.0)
        assert (sending.health().exported, sending.health().dropped) == (200, 0)

    asyncio.run(scenario())
    assert len({(span.trace_id, span.span_id) for span in collector.spans}) == len(collector.spans)
    assert len([span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]) == 200


def test_a_collector_that_is_silent_costs_bounded_memory_and_holds_up_nobody(made: Made, tried: Tried) -> None:
    threads = []

    async def scenario(url: str) -> None:
        sending = sender(url)
        one = story(made, tried)
        began = time.process_time()
        for _ in range(3 * MOST_WAITING):
            sending.put(one)
        assert time.process_time() - began < 3.0
        health = sending.health()
        assert health.waiting <= MOST_WAITING + 64
        assert health.dropped >= 2 * MOST_WAITING - 64
        began = time.monotonic()
        await sending.aclose(within=0.2)
        assert time.monotonic() - began < 2.0
        assert sending.health().waiting <= 64
        threads.append(sending._thread)

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        asyncio.run(scenario(f"http://127.0.0.1:{deaf.getsockname()[1]}"))
    for thread in threads:
        assert thread is not None
        thread.join(15.0)
        assert not thread.is_alive()


def test_a_collector_that_refuses_is_said_once_and_the_traces_counted(
    made: Made, tried: Tried, caplog: pytest.LogCaptureFixture
) -> None:
    received = Received(status=400)

    async def scenario() -> None:
        sending = sender(received.url)
        for number in range(130):
            sending.put(story(made, tried, number))
        await sending.aclose(within=20.0)
        health = sending.health()
        assert (health.exported, health.dropped, health.waiting) == (0, 130, 0)
        assert health.trouble

    asyncio.run(scenario())
    received.close()
    ours = [record for record in caplog.records if record.name == "spillgate.traces"]
    assert len(ours) == 1


def test_the_sdk_is_not_imported_on_the_way_to_the_first_answer() -> None:
    look = "import sys, gateway.cli.serve; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_no_thread_is_started_before_the_first_trace() -> None:
    async def scenario() -> None:
        sending = sender("http://127.0.0.1:1")
        assert sending._thread is None
        await sending.aclose()

    asyncio.run(scenario())
