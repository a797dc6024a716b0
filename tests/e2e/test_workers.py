"""`serve --workers N`: several processes, one socket, one set of limits."""

from __future__ import annotations

import os
import signal
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


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def soon_answered(gateway: Gateway, headers: dict[str, str]) -> None:
    until = time.monotonic() + 20
    while httpx.post(f"{gateway.base}/chat/completions", json=BODY, headers=headers, timeout=10).status_code != 200:
        assert time.monotonic() < until


def test_workers_are_started_again_and_end_together(start: Any, clouds: Clouds, redis: Redis, key: str) -> None:
    gateway: Gateway = start(HERE / "gateway.yaml", "--workers", "2", env={"REDIS_URL": redis.url})
    headers = {"authorization": f"Bearer {key}"}
    soon_answered(gateway, headers)  # an empty Redis may be one that lost everything: a lease is waited for first
    before = children(gateway.child.pid)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    until = time.monotonic() + 5
    while len(now := children(gateway.child.pid)) < 2 or before[0] in now:
        assert time.monotonic() < until
        time.sleep(0.05)
    for _ in range(4):
        soon_answered(gateway, headers)
    assert gateway.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in now)


def test_workers_without_shared_state_are_refused(spillgate: Any) -> None:
    names = ("ACME_KEY", "SLOW_KEY", "ARK_KEY", "DEEPSEEK_KEY")
    env = {name: f"sk-made-up-{name.lower()}" for name in names}
    urls = {f"{name}_URL": "http://127.0.0.1:1/v1" for name in ("OWN", "ARK", "DEEPSEEK")}
    found = spillgate("serve", str(HERE / "gateway.yaml"), "--workers", "2", REDIS_URL="", **env, **urls)
    assert found.returncode == 2
    assert "REDIS_URL" in found.stderr
