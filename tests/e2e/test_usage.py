"""Every request leaves one record, and the records have the clouds' own counts, to the token."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.store.stream import UsageStream
from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
KEYS = {
    "ACME_KEY": "sk-acme-1",
    "SLOW_KEY": "sk-slow-1",
    "ARK_KEY": "sk-ark-pretend",
    "DEEPSEEK_KEY": "sk-deepseek-pretend",
}
REQUESTS = 400
AT_ONCE = 40


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    found = Clouds(HERE / "usage_fleet.yaml")
    yield found
    found.stop()


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


class Crowd:
    """Clients that ask in every way there is. They stay: whoever leaves does not know what the cloud has told."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.statuses: Counter[int] = Counter()
        self.ids: set[str] = set()
        self._rng = random.Random(5)
        self._free = asyncio.Semaphore(AT_ONCE)

    async def ask(self, http: httpx.AsyncClient, number: int) -> None:
        rng = self._rng
        messages = [{"role": "system", "content": "rules " * 80}, {"role": "user", "content": "x" * rng.randrange(500)}]
        body: dict[str, Any] = {"model": "r2", "messages": messages, "stream": rng.random() < 0.7}
        if rng.random() < 0.3:
            body["max_tokens"] = rng.randrange(20, 90)
        if body["stream"] and rng.random() < 0.3:
            body["stream_options"] = {"include_usage": True}
        key = KEYS["SLOW_KEY" if number % 20 == 0 else "ACME_KEY"]
        headers = {"authorization": f"Bearer {key}"}
        async with (
            self._free,
            http.stream("POST", f"{self._base}/chat/completions", json=body, headers=headers) as answer,
        ):
            self.statuses[answer.status_code] += 1
            self.ids.add(answer.headers["x-request-id"])
            await answer.aread()

    async def come(self, redis: Redis) -> None:
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=30) as http:
            while not self.statuses[200]:  # an empty Redis may be one that lost everything: a lease is waited for
                await self.ask(http, 1)
            first = [asyncio.create_task(self.ask(http, number)) for number in range(REQUESTS // 2)]
            await asyncio.gather(*first)
            redis.signal(signal.SIGSTOP)
            rest = [asyncio.create_task(self.ask(http, number)) for number in range(REQUESTS // 2, REQUESTS)]
            await asyncio.gather(*rest[: REQUESTS // 4])
            redis.signal(signal.SIGCONT)
            await asyncio.gather(*rest)


def parts(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every attempt of every request."""
    for record in records:
        if record["backend"]:
            yield record
        yield from record["lost"]


async def streamed(url: str) -> list[dict[str, Any]]:
    stream = UsageStream(url, 0)
    found = [json.loads(line) async for line in stream.read()]
    await stream.aclose()
    return found


def assert_matches(records: list[dict[str, Any]], clouds: Clouds) -> None:
    for name, seen in clouds.stats().items():
        tries = [part for part in parts(records) if part["backend"] == name]
        # A kept connection that is cut before the first byte is taken for a stale one, and the request sent again.
        assert 0 <= seen["requests"] - len(tries) <= seen["cut"], name
        told = [part for part in tries if part["input"] and not part["estimated"]]
        assert len(told) == seen["told"], name
        for word in ("input", "cached", "output"):
            assert sum(part[word] for part in told) == seen[f"told_{word.removesuffix('put')}"], (name, word)
        estimated = [part for part in tries if part["estimated"]]
        assert len(estimated) <= seen["cut"] + seen["disconnects"]
        # We count frames: one that opens the answer and one that ends it with an error hold no token.
        assert sum(part["output"] for part in estimated) <= seen["tokens_out"] - seen["told_out"] + 2 * len(estimated)


def test_records_equal_the_clouds_own_counts_and_none_is_missing_or_twice(
    clouds: Clouds, redis: Redis, tmp_path: Path, spillgate: Any
) -> None:
    file = tmp_path / "usage.jsonl"
    env = {**KEYS, "REDIS_URL": redis.url, "USAGE_FILE": str(file)}
    gateway = Gateway(HERE / "usage_gateway.yaml", clouds, "--workers", "2", env=env)
    try:
        crowd = Crowd(gateway.base)
        asyncio.run(crowd.come(redis))
    finally:
        assert gateway.stop() == 0
    clouds.quiet()
    records = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert Counter(record["id"] for record in records) == Counter(crowd.ids)
    assert len(records) == crowd.statuses.total() >= REQUESTS
    assert Counter(record["status"] for record in records) == crowd.statuses
    assert crowd.statuses[200] > REQUESTS / 4
    assert_matches(records, clouds)
    assert any(record["cached"] for record in records)
    assert any(record["estimated"] for record in records)
    assert {record["lost"][0]["outcome"].partition(":")[0] for record in records if record["lost"]} >= {
        "limited",
        "failed",
    }
    assert sorted(asyncio.run(streamed(redis.url)), key=lambda r: r["id"]) == sorted(records, key=lambda r: r["id"])
    text = "".join(gateway.lines) + file.read_text()
    assert not [key for key in KEYS.values() if key in text]
    told = spillgate("usage", "--from", str(file), redis.url, "--by", "backend", "--json", **os.environ)
    assert json.loads(told.stdout)["total"]["requests"] == len(records)
    assert json.loads(told.stdout)["repeated"] == len(records)


def test_what_was_answered_half_a_second_before_a_kill_is_in_the_file(clouds: Clouds, tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    document = (HERE / "usage_gateway.yaml").read_text().replace(", stream: 100k", "")
    path = tmp_path / "gateway.yaml"
    path.write_text(document)
    gateway = Gateway(path, clouds, env={**KEYS, "USAGE_FILE": str(file)})
    body = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    headers = {"authorization": f"Bearer {KEYS['ACME_KEY']}"}
    answer = httpx.post(f"{gateway.base}/chat/completions", json=body, headers=headers, timeout=10)
    status = {}
    while not status.get("usage") or not status["usage"][0]["written"]:
        status = gateway.status()
    gateway.child.kill()
    gateway.stop()
    (record,) = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert record["id"] == answer.headers["x-request-id"]
    assert record["tenant"] == "acme"
