"""A gateway that its platform stops in the middle of its work, and lets go on some seconds later."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
LIMIT = 20
FROZEN = 5.0
"""longer than a share holds (3 s)"""
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
HEADERS = {"authorization": "Bearer sk-acme-1"}


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    found = Clouds(HERE / "drain_fleet.yaml")
    found.set("own", limits={"streams": LIMIT})
    yield found
    assert found.stop() == 0


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


async def ask(http: httpx.AsyncClient, gateway: Gateway) -> str:
    return (await http.post(f"{gateway.base}/chat/completions", json=BODY)).text


def test_a_frozen_replica_ends_its_streams_and_breaks_no_limit(clouds: Clouds, redis: Redis, tmp_path: Path) -> None:
    env = {
        "ACME_KEY": "sk-acme-1", "USAGE_FILE": str(tmp_path / "usage.jsonl"), "STREAMS": str(LIMIT),
        "REDIS_URL": redis.url, "SPILLGATE_REPLICAS": "2",
    }  # fmt: skip
    frozen, other = (Gateway(HERE / "drain_gateway.yaml", clouds, env=env) for _ in range(2))

    async def scenario() -> None:
        async with httpx.AsyncClient(headers=HEADERS, timeout=40, limits=httpx.Limits(max_connections=None)) as http:
            await asyncio.gather(ask(http, frozen), ask(http, other))
            mine = [asyncio.create_task(ask(http, frozen)) for _ in range(LIMIT)]
            while clouds.in_flight() < LIMIT / 4:
                await asyncio.sleep(0.01)
            frozen.child.send_signal(signal.SIGSTOP)
            theirs = [asyncio.create_task(ask(http, other)) for _ in range(2 * LIMIT)]
            await asyncio.sleep(FROZEN)
            frozen.child.send_signal(signal.SIGCONT)
            thawed = time.monotonic()
            answers = await asyncio.gather(*mine, *theirs)
            assert all(answer.endswith("data: [DONE]\n\n") and '"error"' not in answer for answer in answers)
            assert (await http.get(f"{frozen.url}/readyz")).status_code == 200
            assert (await ask(http, frozen)).endswith("data: [DONE]\n\n")
            assert time.monotonic() - thawed < 20

    try:
        asyncio.run(scenario())
    finally:
        frozen.child.send_signal(signal.SIGCONT)
        assert (frozen.stop(), other.stop()) == (0, 0)
    seen = clouds.stats()["own"]
    assert seen["peak"]["streams"] <= LIMIT
    assert not any(seen["refused"].values()), seen["refused"]
