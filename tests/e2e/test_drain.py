"""A gateway that is told to stop: what runs ends well, what comes is sent elsewhere, and nothing is forgotten."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.collector import Collector, attributes
from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
KEY = "sk-acme-1"
HEADERS = {"authorization": f"Bearer {KEY}"}
STREAMS = 200
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
Start = Callable[..., Gateway]


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    found = Clouds(HERE / "drain_fleet.yaml")
    yield found
    assert found.stop() == 0


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@pytest.fixture
def usage(tmp_path: Path) -> Path:
    return tmp_path / "usage.jsonl"


@pytest.fixture
def begin(clouds: Clouds, usage: Path) -> Iterator[Start]:
    started: list[Gateway] = []

    def start(streams: int = 400, queue: str = "", words: tuple[str, ...] = (), **env: str) -> Gateway:
        told = {"ACME_KEY": KEY, "USAGE_FILE": str(usage), "STREAMS": str(streams), **env}
        document = usage.with_name("gateway.yaml")
        document.write_text(
            (HERE / "drain_gateway.yaml").read_text().replace("max_length: 500", f"max_length: 500{queue}")
        )
        started.append(Gateway(document, clouds, *words, env=told))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()
        assert "Traceback" not in "".join(gateway.lines)
    clouds.quiet()


class Heard:
    """What one client got."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = httpx.Headers()
        self.text = ""

    @property
    def ending(self) -> str:
        """How the answer ended: `done`, an error's code with a proper end, or `lost`."""
        if self.status != 200:
            return str(json.loads(self.text)["error"]["code"])
        frames = self.text.split("\n\n")
        if frames[-2:] != ["data: [DONE]", ""]:
            return "lost"
        last = json.loads(frames[-3].removeprefix("data: "))
        return str(last["error"]["code"]) if "error" in last else "done"


class Crowd:
    """Clients at one gateway, each on a connection of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.heard: list[Heard] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = await httpx.AsyncClient(limits=limits, timeout=30, headers=HEADERS).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._tasks)
        await self._http.aclose()

    def come(self, count: int, **fields: object) -> None:
        self._tasks += [asyncio.create_task(self._ask({**BODY, **fields})) for _ in range(count)]

    async def _ask(self, body: dict[str, object]) -> None:
        heard = Heard()
        self.heard.append(heard)
        async with self._http.stream("POST", f"{self.gateway.base}/chat/completions", json=body) as answer:
            heard.status, heard.headers = answer.status_code, answer.headers
            async for piece in answer.aiter_text():
                heard.text += piece

    async def see(self, **totals: int) -> None:
        """Wait until so many are in flight, or wait."""
        until = time.monotonic() + 15
        found: dict[str, Any] = {}
        while found != totals:
            assert time.monotonic() < until, found
            found = (await self._http.get(f"{self.gateway.url}/status")).json()["fleet"]["totals"]
            found = {name: found[name] for name in totals}
            await asyncio.sleep(0.01)

    async def ready(self) -> httpx.Response:
        return await self._http.get(f"{self.gateway.url}/readyz")

    def signal(self) -> None:
        self.gateway.child.send_signal(signal.SIGTERM)


def records(usage: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in usage.read_bytes().splitlines()]


def assert_recorded(heard: list[Heard], usage: Path) -> None:
    """Everybody's request has its record, once."""
    assert Counter(record["id"] for record in records(usage)) == Counter(one.headers["x-request-id"] for one in heard)


def test_two_hundred_streams_end_as_if_nothing_had_happened(begin: Start, usage: Path) -> None:
    gateway = begin()

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(STREAMS)
            await crowd.see(in_flight=STREAMS)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert Counter(one.ending for one in heard) == {"done": STREAMS}
    assert_recorded(heard, usage)
    assert {record["outcome"] for record in records(usage)} == {"served"}


def test_streams_that_outlast_the_deadline_end_with_an_error_that_a_client_can_read(begin: Start, usage: Path) -> None:
    gateway = begin(SPILLGATE_DRAIN_SECONDS="0.5")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(STREAMS)
            await crowd.see(in_flight=STREAMS)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert set(Counter(one.ending for one in heard)) <= {"done", "draining"}
    assert sum(one.ending == "draining" for one in heard) > STREAMS / 2
    assert_recorded(heard, usage)
    cut = [record for record in records(usage) if record["outcome"] == "abandoned"]
    assert all(record["estimated"] for record in cut)


def test_new_work_is_sent_elsewhere_while_what_runs_goes_on(begin: Start, usage: Path) -> None:
    gateway = begin()

    async def scenario() -> tuple[Heard, Heard, Heard, httpx.Response]:
        async with Crowd(gateway) as crowd:
            crowd.come(1)
            crowd.come(1, stream=False)
            await crowd.see(in_flight=2)
            assert (await crowd.ready()).status_code == 200
            crowd.signal()
            while (ready := await crowd.ready()).status_code == 200:
                pass
            crowd.come(1, stream=False)
            await crowd.see(in_flight=2)
            served, plain, refused = crowd.heard
            return served, plain, refused, ready

    served, plain, refused, ready = asyncio.run(scenario())
    assert served.ending == "done"
    assert plain.status == 200
    assert plain.headers["connection"] == "close"
    assert ready.json() == {"status": "not ready", "reason": "draining", "running": 2}
    assert (refused.status, refused.ending) == (503, "draining")
    assert refused.headers["connection"] == "close"
    assert 1 <= int(refused.headers["retry-after"]) <= 22
    assert refused.headers["x-request-id"]
    assert gateway.child.wait(10) == 0
    assert_recorded([served, plain], usage)


def test_a_notice_lets_balancers_look_before_work_is_refused(begin: Start) -> None:
    gateway = begin(SPILLGATE_DRAIN_NOTICE="1")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.signal()
            while (await crowd.ready()).status_code == 200:
                pass
            crowd.come(1)
            return crowd.heard

    assert [one.ending for one in asyncio.run(scenario())] == ["done"]
    assert gateway.child.wait(10) == 0


@pytest.mark.parametrize(("word", "waiting"), [("finish", "done"), ("refuse", "draining")])
def test_who_waits_is_served_or_sent_away_as_the_operator_says(begin: Start, word: str, waiting: str) -> None:
    gateway = begin(1, SPILLGATE_DRAIN_QUEUE=word)

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(1)
            await crowd.see(in_flight=1, waiting=0)
            crowd.come(1)
            await crowd.see(in_flight=1, waiting=1)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert [one.ending for one in heard] == ["done", waiting]
    assert heard[1].status == (200 if word == "finish" else 503)


def test_who_waits_aloud_is_told_in_the_stream_that_he_has(begin: Start, usage: Path) -> None:
    gateway = begin(1, ", comment_after: 100ms")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(1)
            await crowd.see(in_flight=1, waiting=0)
            crowd.come(1)
            while ": waiting" not in crowd.heard[-1].text:
                await asyncio.sleep(0.01)
            crowd.signal()
            while (await crowd.ready()).status_code == 200:
                pass
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert [one.ending for one in heard] == ["draining", "draining"]
    assert [one.status for one in heard] == [200, 200]


def test_who_waits_aloud_and_is_sent_away_is_told_so_in_his_stream(begin: Start) -> None:
    gateway = begin(1, ", comment_after: 100ms", SPILLGATE_DRAIN_QUEUE="refuse")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(1)
            await crowd.see(in_flight=1, waiting=0)
            crowd.come(1)
            while ": waiting" not in crowd.heard[-1].text:
                await asyncio.sleep(0.01)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert [one.ending for one in heard] == ["done", "draining"]


def test_a_second_signal_ends_it_at_once_and_still_in_order(begin: Start, usage: Path) -> None:
    gateway = begin(1)

    async def scenario() -> tuple[list[Heard], float]:
        async with Crowd(gateway) as crowd:
            crowd.come(1)
            await crowd.see(in_flight=1, waiting=0)
            crowd.come(1, stream=False)
            await crowd.see(in_flight=1, waiting=1)
            crowd.signal()
            while (await crowd.ready()).status_code == 200:
                pass
            crowd.signal()
            return crowd.heard, time.monotonic()

    heard, asked = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert time.monotonic() - asked < 2.5
    assert [one.ending for one in heard] == ["draining", "draining"]
    assert [one.status for one in heard] == [200, 503]
    assert_recorded(heard, usage)


def test_a_request_that_never_arrives_does_not_hold_up_the_end(begin: Start) -> None:
    gateway = begin(SPILLGATE_DRAIN_SECONDS="0.5")
    host, port = gateway.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 500\r\n\r\n{{"
    )
    with socket.create_connection((host, int(port))) as before:
        before.sendall(head.encode())
        until = time.monotonic() + 5
        while not gateway.status()["active"]:
            assert time.monotonic() < until
        gateway.child.send_signal(signal.SIGTERM)
        while httpx.get(f"{gateway.url}/readyz").status_code == 200:
            pass
        with socket.create_connection((host, int(port))) as after:
            after.sendall(head.encode())
            assert before.recv(65536).startswith(b"HTTP/1.1 503")
            assert gateway.child.wait(8) == 0


def test_a_redis_that_is_away_does_not_hold_up_the_end(begin: Start, usage: Path, redis: Redis) -> None:
    gateway = begin(REDIS_URL=redis.url, SPILLGATE_REPLICAS="1")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(5)
            await crowd.see(in_flight=5)
            redis.signal(signal.SIGSTOP)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(8) == 0
    assert {one.ending for one in heard} == {"done"}
    assert_recorded(heard, usage)


def test_traces_of_what_ended_last_are_told_before_the_end(begin: Start) -> None:
    collector = Collector()
    gateway = begin(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="always_on")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(5)
            await crowd.see(in_flight=5)
            crowd.signal()
            return crowd.heard

    try:
        heard = asyncio.run(scenario())
        assert gateway.child.wait(10) == 0
        told = {attributes(span).get("spillgate.request_id") for span in collector.spans}
        assert {one.headers["x-request-id"] for one in heard} <= told
    finally:
        collector.close()


def test_workers_drain_together(begin: Start, usage: Path, redis: Redis) -> None:
    gateway = begin(words=("--workers", "2"), REDIS_URL=redis.url, SPILLGATE_REPLICAS="2")

    async def scenario() -> list[Heard]:
        async with Crowd(gateway) as crowd:
            crowd.come(40)
            while sum(bool(one.text) for one in crowd.heard) < 40:
                await asyncio.sleep(0.01)
            crowd.signal()
            return crowd.heard

    heard = asyncio.run(scenario())
    assert gateway.child.wait(10) == 0
    assert {one.ending for one in heard} == {"done"}
    assert_recorded(heard, usage)


def test_a_signal_while_it_starts_is_obeyed(begin: Start, redis: Redis) -> None:
    redis.signal(signal.SIGSTOP)  # so that it has something to wait for
    gateway = begin(REDIS_URL=redis.url)
    gateway.child.send_signal(signal.SIGTERM)
    assert gateway.child.wait(10) in {0, -signal.SIGTERM}
    assert "Traceback" not in "".join(gateway.lines)
