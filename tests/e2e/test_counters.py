"""Two processes and one Redis: what a tenant was charged at one is known at the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


def test_processes_with_one_redis_share_their_counters_of_fairness(
    start: Any, clouds: Clouds, redis: Redis, key: str
) -> None:
    import redis as client

    gateways: list[Gateway] = [start(HERE / "gateway.yaml", env={"REDIS_URL": redis.url}) for _ in range(2)]
    until = time.monotonic() + 20
    for gateway in gateways:
        headers = {"authorization": f"Bearer {key}"}
        while httpx.post(f"{gateway.base}/chat/completions", json=BODY, headers=headers).status_code != 200:
            assert time.monotonic() < until
    with client.Redis.from_url(redis.url) as server:
        while len(names := {f for k in server.scan_iter("*:counters:1") for f in server.hkeys(k) if f[:1] == b"="}) < 3:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert b"=h" in names
    for gateway in gateways:
        assert gateway.status()["shared_counters"] == {"trouble": ""}
        assert gateway.stop() == 0
