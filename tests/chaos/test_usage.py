"""Records and budgets while clouds crash, a replica is ended and another begins, and Redis is frozen and restarted.

The records have the clouds' own counts, to the token; none is missing and none is there twice; and what budgets say
was spent is what the records say. That holds for replicas that are ended (SIGTERM). One that is killed (SIGKILL)
loses what it had not written yet, half a second's worth, and what was under way: nothing is claimed of that here.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.store.stream import UsageStream
from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
FLEET = HERE.parent / "e2e" / "usage_fleet.yaml"
KEYS = {"ACME_KEY": "sk-acme-1", "ZETA_KEY": "sk-zeta-1", "PRETEND": "pretend"}
RATE = 25.0
"""requests per second"""
RATES = {"CNY": Decimal(1), "USD": Decimal("7.1")}
MICRO = Decimal("0.000001")


class Trouble:
    """Two replicas that write to one file and one Redis, and clients that stay until they are answered."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "usage.jsonl"
        kept = folder / "redis"
        kept.mkdir()
        self.clouds = Clouds(FLEET)
        self.redis = Redis(kept)
        self.replicas: list[Gateway] = []
        self.ids: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.cut = 0
        self._rng = random.Random(7)

    def start(self) -> None:
        env = {**KEYS, "USAGE_FILE": str(self.file), "REDIS_URL": self.redis.url, "SPILLGATE_REPLICAS": "3"}
        self.replicas.append(Gateway(HERE / "usage_gateway.yaml", self.clouds, "--no-reload", env=env))

    def close(self) -> None:
        for replica in self.replicas:
            replica.stop()
        self.clouds.stop()
        self.redis.kill()

    async def ask(self, http: httpx.AsyncClient, number: int) -> None:
        rng = self._rng
        messages = [{"role": "system", "content": "rules " * 80}, {"role": "user", "content": "x" * rng.randrange(500)}]
        body = {"model": "r2", "messages": messages, "stream": rng.random() < 0.7, "max_tokens": rng.randrange(20, 90)}
        headers = {"authorization": f"Bearer {KEYS['ZETA_KEY' if number % 3 == 0 else 'ACME_KEY']}"}
        while True:
            url = f"{rng.choice(self.replicas).base}/chat/completions"
            try:
                async with http.stream("POST", url, json=body, headers=headers) as answer:
                    self.ids.append(answer.headers["x-request-id"])
                    self.statuses[answer.status_code] += 1
                    text = await answer.aread()
                    if answer.status_code == 429:
                        self.codes[json.loads(text)["error"]["code"]] += 1
                    return
            except httpx.ConnectError:
                await asyncio.sleep(0.05)  # that replica has gone; the next one may be another
            except httpx.TransportError:
                self.cut += 1
                return

    async def story(self) -> None:
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=30) as http:
            tasks: list[asyncio.Task[None]] = []

            async def keep_coming() -> None:
                while True:
                    await asyncio.sleep(self._rng.expovariate(RATE))
                    tasks.append(asyncio.create_task(self.ask(http, len(tasks))))

            source = asyncio.create_task(keep_coming())
            await self.troubles()
            source.cancel()
            await asyncio.gather(source, *tasks, return_exceptions=True)
            for task in tasks:
                task.result()

    async def troubles(self) -> None:
        await asyncio.sleep(2)
        self.clouds.set("ark", fail="crash")
        await asyncio.sleep(0.7)
        self.clouds.set("ark", fail="")
        self.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        self.redis.signal(signal.SIGCONT)
        await asyncio.sleep(0.5)
        leaver = self.replicas.pop(0)
        stopping = asyncio.create_task(asyncio.to_thread(leaver.stop))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(self.start)
        assert await stopping == 0
        self.redis.kill()
        await asyncio.sleep(0.7)
        self.clouds.set("deepseek", fail="crash")
        await asyncio.to_thread(self.redis.start)
        await asyncio.sleep(0.7)
        self.clouds.set("deepseek", fail="")
        await asyncio.sleep(1.5)

    def spent(self) -> dict[str, Decimal]:
        """What every replica says of every budget; they must come to agree."""
        until = time.monotonic() + 20
        while True:
            said = [{b["name"]: Decimal(b["spent"]) for b in one.status()["budgets"]} for one in self.replicas]
            reserved = [Decimal(b["reserved"]) for one in self.replicas for b in one.status()["budgets"]]
            if all(one == said[0] for one in said) and not any(reserved):
                time.sleep(1.2)  # until the last was told to all, and once more
                again = [{b["name"]: Decimal(b["spent"]) for b in one.status()["budgets"]} for one in self.replicas]
                if again == said:
                    return said[0]
            assert time.monotonic() < until, said
            time.sleep(0.1)


@pytest.fixture
def trouble(tmp_path: Path) -> Iterator[Trouble]:
    found = Trouble(tmp_path)
    try:
        yield found
    finally:
        found.close()


def parts(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every attempt of every request."""
    for record in records:
        if record["backend"]:
            yield record
        yield from record["lost"]


def paid(records: list[dict[str, Any]], tenant: str) -> Decimal:
    mine = parts([record for record in records if record["tenant"] == tenant])
    return sum((Decimal(part["cost"]) * RATES[part["currency"]] for part in mine if part["cost"]), Decimal(0))


async def streamed(url: str) -> list[dict[str, Any]]:
    stream = UsageStream(url, 0)
    found = [json.loads(line) async for line in stream.read()]
    await stream.aclose()
    return found


def test_records_and_budgets_agree_with_the_clouds_whatever_happens(trouble: Trouble) -> None:
    trouble.start()
    trouble.start()
    asyncio.run(trouble.story())
    for replica in trouble.replicas:
        replica.quiet()
    spent = trouble.spent()
    for replica in trouble.replicas:
        assert replica.stop() == 0
    records = [json.loads(line) for line in trouble.file.read_bytes().splitlines()]
    ids = Counter(record["id"] for record in records)
    assert max(ids.values()) == 1
    assert max(Counter(trouble.ids).values()) == 1
    assert set(trouble.ids) <= ids.keys()
    assert len(ids) - len(trouble.ids) <= trouble.cut == 0
    assert trouble.statuses[200] > 100
    for name, seen in trouble.clouds.stats().items():
        told = [part for part in parts(records) if part["backend"] == name and part["input"] and not part["estimated"]]
        assert len(told) == seen["told"], name
        for word in ("input", "cached", "output"):
            assert sum(part[word] for part in told) == seen[f"told_{word.removesuffix('put')}"], (name, word)
    assert sorted(asyncio.run(streamed(trouble.redis.url)), key=lambda r: r["id"]) == sorted(
        records, key=lambda r: r["id"]
    )
    for tenant in ("acme", "zeta"):
        assert abs(spent[f"tenant:{tenant}"] - paid(records, tenant)) <= 3 * MICRO, tenant
    assert trouble.codes["insufficient_quota"] > 0
    assert spent["tenant:zeta"] <= Decimal("0.04")  # of 0.03, and what lost attempts of the last ones cost
    command = [sys.executable, "-m", "gateway", "usage", "--from", str(trouble.file), "--by", "tenant", "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True, env={**os.environ}).stdout)
    for row in shown["rows"]:
        cost = sum((Decimal(amount) * RATES[unit] for unit, amount in row["cost"].items()), Decimal(0))
        assert abs(cost - spent[f"tenant:{row['tenant']}"]) <= 3 * MICRO
