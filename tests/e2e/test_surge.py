"""A surge over real sockets: no cloud ever above its limits, upstream refusals none, nobody left hanging."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import httpx


async def one(http: httpx.AsyncClient, url: str, key: str, rng: random.Random) -> tuple[int, bool, str]:
    body = {
        "model": "r2",
        "messages": [{"role": "user", "content": "x" * rng.randint(10, 400)}],
        "max_tokens": rng.randint(5, 40),
        "stream": rng.random() < 0.7,
    }
    answer = await http.post(url, json=body, headers={"authorization": f"Bearer {key}"}, timeout=30)
    complete = answer.text.endswith("data: [DONE]\n\n") if body["stream"] else bool(answer.json().get("choices"))
    return answer.status_code, complete, answer.headers.get("retry-after", "")


def run(gateway: Any, key: str, count: int, spread: float) -> list[tuple[int, bool, str]]:
    rng = random.Random(5)

    async def scenario() -> list[tuple[int, bool, str]]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(limits=limits) as http:

            async def later() -> tuple[int, bool, str]:
                await asyncio.sleep(rng.random() * spread)
                return await one(http, f"{gateway.base}/chat/completions", key, rng)

            return await asyncio.gather(*(later() for _ in range(count)))

    return asyncio.run(scenario())


def test_no_cloud_ever_sees_more_than_its_limit(gateway: Any, key: str) -> None:
    gateway.clouds.reset()
    results = run(gateway, key, count=200, spread=2.0)
    statuses = Counter(status for status, _, _ in results)
    assert set(statuses) <= {200, 429}
    assert statuses[200] > 50
    assert statuses[429] > 10, "ten slots and twenty places cannot take this: the surge was no surge"
    assert all(complete for status, complete, _ in results if status == 200)
    assert all(1 <= int(wait) <= 60 for status, _, wait in results if status == 429)
    for name, cloud in gateway.clouds.stats().items():
        assert sum(cloud["overruns"].values()) == 0, (name, cloud)
        assert sum(cloud["refused"].values()) == 0, (name, cloud)
    gateway.quiet()


def test_a_cloud_that_crashes_in_the_surge_is_not_noticed_by_those_not_yet_begun(gateway: Any, key: str) -> None:
    gateway.clouds.set("ark", fail="crash")
    try:
        results = run(gateway, key, count=40, spread=2.0)
    finally:
        gateway.clouds.set("ark", fail="")
    assert {status for status, _, _ in results} == {200}
    gateway.quiet()
