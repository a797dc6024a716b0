"""Any replica shows what another one left in Redis; without Redis, or with a dead one, its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from gateway.pipeline.faults import outcome_name
from gateway.pipeline.lookup import TRACES, Lookup
from gateway.service import Call
from gateway.store.stream import UsageStream
from gateway.telemetry.spans import Told
from gateway.telemetry.traces import Tracing

NOW = 1.8e9


def told(number: int, at: str, total: float = 1.0, *kept: str) -> bytes:
    return msgspec.json.encode(
        Told(id=f"req-{number}", at=f"2027-01-15T{at}.000Z", trace=f"{number:032x}", total=total, kept=list(kept))
    )


def tracing() -> Tracing:
    return Tracing(outcome_name, lambda: NOW, lambda: 0.0)


@pytest.fixture
def url(shared_redis: Any) -> str:
    shared_redis.cli("FLUSHALL")
    found: str = shared_redis.url
    return found


def go(url: str, scenario: Callable[[Lookup], Coroutine[Any, Any, None]], *lines: bytes) -> None:
    async def whole() -> None:
        if lines:
            other = UsageStream(url, 1000, stream=TRACES)
            await other.write(1, lines)
            await other.aclose()
        lookup = Lookup(tracing(), url, lambda: NOW)
        await scenario(lookup)
        await lookup.aclose()

    asyncio.run(whole())


SHARED = (
    told(1, "07:40:00", 99.0, "slow"), told(2, "07:58:00", 5.0, "failed"), told(3, "07:59:00", 9.0, "spilled"),
    told(4, "07:59:30", 2.0, "failed", "spilled"),
)  # fmt: skip


def test_a_request_of_another_replica_is_found_by_either_id(url: str) -> None:
    async def scenario(lookup: Lookup) -> None:
        for name in ("req-2", f"{2:032x}"):
            found = await lookup.find(name)
            assert found is not None
            assert found.id == "req-2"
        assert await lookup.find("req-") is None

    go(url, scenario, *SHARED, b'{"id":["of another version, req-2"]}')


def test_requests_of_all_replicas_are_picked_together(url: str) -> None:
    async def scenario(lookup: Lookup) -> None:
        async def picked(pick: Any, count: int = 9) -> list[str]:
            return [found.id for found in await lookup.pick(pick, count)]

        assert await picked("last") == ["req-4", "req-3", "req-2", "req-1"]
        assert await picked("last", 2) == ["req-4", "req-3"]
        assert await picked("failed") == ["req-4", "req-2"]
        assert await picked("spilled", 1) == ["req-4"]
        assert await picked("slow") == ["req-3", "req-2", "req-4"]  # req-1 was slower, but too long ago

    go(url, scenario, *SHARED)


def test_a_dead_redis_is_said_and_what_this_one_knows_is_shown() -> None:
    async def scenario() -> None:
        async def nothing() -> bytes:
            return b""

        own = tracing()
        call = Call("req-own", 0.0, {}, nothing)
        call.caller = type("Caller", (), {"name": "acme", "class_": "batch"})()
        own.fold(call)
        lookup = Lookup(own, "redis://127.0.0.1:1/0", lambda: NOW)
        assert [found.id for found in await lookup.pick("last", 5)] == ["req-own"]
        assert "127.0.0.1:1" in lookup.trouble
        assert await lookup.find("req-other") is None
        found = await lookup.find("req-own")
        assert found is not None
        await lookup.aclose()

    asyncio.run(scenario())
