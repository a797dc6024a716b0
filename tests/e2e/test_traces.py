"""Where the time of a request went: the same at a real OTLP endpoint, in Server-Timing, in the log, in the terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.testing.collector import Collector, attributes, below, seconds
from gateway.testing.processes import Clouds, Gateway, Redis

DOCUMENT = """
models: {r2: {}}
backends:
  own: {preset: vllm, base_url: "${OWN_URL}", serves: {r2: r2-own}, limits: {streams: 1}, learn: "off"}
  ark: {preset: volcengine-ark, base_url: "${ARK_URL}", key: "${ARK_KEY}", serves: {r2: r2-ark}, limits: {streams: 1},
        learn: "off"}
policies: {surge: {tiers: [{backends: [own]}, {backends: [ark]}], queue: {max_wait: 20s}}}
tenants: {acme: {keys: ["${ACME_KEY}"], class: interactive}}
telemetry: {sample: 0.0, requests: all}
"""
Start = Callable[..., Gateway]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "traces.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


def ask(gateway: Gateway, tokens: int, headers: dict[str, str] | None = None) -> httpx.Response:
    body = {"model": "r2", "stream": True, "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]}
    known = {"authorization": "Bearer sk-acme-1", **(headers or {})}
    return httpx.post(f"{gateway.base}/chat/completions", json=body, headers=known, timeout=30.0)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def in_flight(gateway: Gateway) -> int:
    return int(gateway.status()["fleet"]["totals"]["in_flight"])


def queued_and_spilled(gateway: Gateway) -> httpx.Response:
    """A request that waits, and then goes to the second tier, because the first one is held for longer."""
    holders = []
    for number, tokens in enumerate((200, 40), 1):
        holders.append(threading.Thread(target=ask, args=(gateway, tokens)))
        holders[-1].start()
        until(lambda number=number: in_flight(gateway) == number)  # type: ignore[misc]
    response = ask(gateway, 60)
    for holder in holders:
        holder.join()
    return response


def timing(response: httpx.Response) -> dict[str, float]:
    parts = [part.split(";dur=") for part in response.headers["server-timing"].split(", ") if ";dur=" in part]
    return {name: float(value) / 1e3 for name, value in parts}


def leaves(spans: list[Span], parent: Span) -> list[Span]:
    found = []
    for span in below(spans, parent):
        found += leaves(spans, span) or [span]
    return found


def line_of(gateway: Gateway, id_: str) -> dict[str, Any]:
    def found() -> list[str]:
        return [line for line in gateway.lines if f'"{id_}"' in line and '"event":"request"' in line]

    until(lambda: bool(found()))
    whole: dict[str, Any] = json.loads(found()[0])
    return whole


def test_a_spilled_queued_and_streamed_request_is_explained_everywhere_alike(
    start: Start, document: Path, collector: Collector
) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SPILLGATE_LOG": "json"}
    gateway = start(document, env=env)
    response = queued_and_spilled(gateway)
    assert (response.status_code, response.headers["x-spillgate-backend"]) == (200, "ark")
    id_ = response.headers["x-request-id"]
    spans = collector.trace(id_)
    (root,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    phases = leaves(spans, root)
    assert {"wait in queue", "wait for first token", "stream"} <= {span.name for span in phases}
    assert sum(map(seconds, phases)) >= 0.99 * seconds(root)
    ends = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in phases]
    assert all(one[1] <= two[0] + 1000 for one, two in zip(ends, ends[1:], strict=False))
    # Server-Timing counts until the first token.
    told = timing(response)
    (stream,) = [span for span in phases if span.name == "stream"]
    before = (stream.start_time_unix_nano - root.start_time_unix_nano) / 1e9
    assert before == pytest.approx(told["total"], abs=0.002)
    assert sum(seconds(span) for span in phases if span.name == "wait in queue") == pytest.approx(
        told["queue"], abs=0.001
    )
    assert told["read"] + told["queue"] + told["upstream"] + told["gateway"] == pytest.approx(told["total"], abs=1e-3)
    line = line_of(gateway, id_)
    assert line["total"] == pytest.approx(seconds(root), abs=1e-3)
    assert line["queued"] == pytest.approx(told["queue"], abs=1e-3)
    assert (line["trace"], line["tenant"]) == (root.trace_id.hex(), "acme")
    # Why it left its first tier.
    (route,) = [span for span in phases if span.name == "route" and "spillgate.candidates" in attributes(span)]
    assert "own (tier 1): streams 1 of 1" in str(attributes(route)["spillgate.candidates"])
    assert "sk-" not in str(spans) + "".join(gateway.lines)


def spillgate(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "gateway", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_newcomer_finds_it_in_one_command_each(start: Start, document: Path) -> None:
    gateway = start(document)
    response = queued_and_spilled(gateway)
    id_ = response.headers["x-request-id"]
    slowest = spillgate("trace", "--slow", "--url", gateway.url).splitlines()
    assert "longest phase" in slowest[0]
    assert "stream" in slowest[1]
    assert id_ in spillgate("trace", "--spilled", "--url", gateway.url)
    shown = spillgate("trace", id_, "--url", gateway.url)
    assert "own (tier 1): streams 1 of 1" in shown
    assert "wait in queue" in shown
    assert json.loads(spillgate("trace", id_, "--json", "--url", gateway.url))["backend"] == "ark"
    live = spillgate("explain", "--live", "--url", gateway.url)
    assert "own" in live
    assert "takes it" in live


def test_any_replica_shows_the_requests_of_the_others(start: Start, document: Path) -> None:
    redis = Redis()
    try:
        env = {"REDIS_URL": redis.url, "SPILLGATE_REPLICAS": "2"}
        one, two = start(document, env=env), start(document, env=env)
        crowd = [threading.Thread(target=ask, args=(one, 20)) for _ in range(4)]
        for client in crowd:
            client.start()
        for client in crowd:
            client.join()
        until(lambda: "spilled" in spillgate("trace", "--spilled", "--url", two.url))
        found = json.loads(spillgate("trace", "--spilled", "--json", "--url", two.url))["data"]
        assert spillgate("trace", found[0]["id"], "--url", two.url) == spillgate(
            "trace", found[0]["id"], "--url", two.url
        )
        assert "spilled" in found[0]["kept"]
    finally:
        redis.kill()


def test_a_gateway_that_is_stopped_sends_what_it_has(start: Start, document: Path, collector: Collector) -> None:
    gateway = start(document, env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = ask(gateway, 5, {"traceparent": parent})
    assert gateway.stop() == 0
    (root,) = [s for s in collector.trace(response.headers["x-request-id"], 1.0) if s.kind == Span.SPAN_KIND_SERVER]
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert 'traceparent;desc="00-0af7651916cd43dd8448eb211c80319c-' in response.headers["server-timing"]


def test_a_collector_that_is_away_is_no_matter(start: Start, document: Path, clouds: Clouds) -> None:
    del clouds
    gateway = start(document, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    for _ in range(3):
        assert ask(gateway, 5, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}).status_code == 200
    began = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - began < 8.0
    assert "Traceback" not in "".join(gateway.lines)
