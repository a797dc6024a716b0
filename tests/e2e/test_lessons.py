"""Two gateways, a real Redis, and a cloud that told nobody how many streams it bears: they learn it as one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.processes import Clouds, Gateway, Redis

STREAMS = 24
FLEET = f"""
control: 0
seed: 4
clouds:
  own:
    port: 0
    dialect: vllm
    models: [r2-own]
    limits: {{streams: {STREAMS}}}
    laws: {{t0: 10ms, k: 0.02ms, net: 2ms}}
    answer: {{median: 100, sigma: 0}}
    style: {{tokens_per_event: 8}}
"""
DOCUMENT = """
models: {r2: {}}
backends: {own: {preset: vllm, base_url: "${OWN_URL}", serves: {r2: r2-own}}}
policies: {p: {tiers: [{backends: [own]}], queue: {max_wait: 20s, max_length: 500}}}
"""
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 100}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clouds, list[Gateway]]]:
    fleet, document = tmp_path / "fleet.yaml", tmp_path / "gateway.yaml"
    fleet.write_text(FLEET)
    document.write_text(DOCUMENT)
    redis, clouds = Redis(), Clouds(fleet)
    gateways: list[Gateway] = []
    try:
        gateways.extend(Gateway(document, clouds, "--no-reload", env={"REDIS_URL": redis.url}) for _ in range(2))
        yield clouds, gateways
    finally:
        for gateway in gateways:
            gateway.stop()
        clouds.stop()
        redis.kill()


def view(gateway: Gateway) -> dict[str, Any]:
    (account,) = gateway.status()["fleet"]["accounts"]
    found: dict[str, Any] = account
    return found


async def press(gateways: list[Gateway], seconds: float) -> int:
    """More than the cloud bears, on both, for a while; how many were served."""
    until, served, rng = time.monotonic() + seconds, 0, random.Random(2)

    async def client(http: httpx.AsyncClient) -> None:
        nonlocal served
        while time.monotonic() < until:
            answer = await http.post(f"{rng.choice(gateways).base}/chat/completions", json=BODY, timeout=30)
            served += answer.status_code == 200

    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=100)) as http:
        await asyncio.gather(*(client(http) for _ in range(2 * STREAMS)))
    return served


def test_two_gateways_learn_one_limit_and_one_of_them_probes(pair: Any, spillgate: Any) -> None:
    clouds, gateways = pair
    served = asyncio.run(press(gateways, 20.0))
    views = [view(gateway) for gateway in gateways]
    stats = clouds.stats()["own"]
    assert all(abs(seen["learnt"] / STREAMS - 1.0) <= 0.1 for seen in views), views
    assert sum(seen["probes"] for seen in views) == 1
    assert all(seen["prober"] for seen in views)
    assert len({seen["prober"] for seen in views}) == 1
    assert served >= 100
    assert sum(stats["refused"].values()) <= max(3, 0.01 * stats["requests"]), stats
    shown = spillgate("status", "--url", gateways[0].url, COLUMNS="160").stdout
    assert "2 replicas share the limits" in shown
    assert f"own: streams {views[0]['learnt']:g}" in shown
    assert "tries for more" in shown
    metrics = httpx.get(f"{gateways[0].url}/metrics").text
    assert 'spillgate_account_limit{account="own",limit="streams",source="learned"}' in metrics
    assert 'spillgate_account_limit{account="own",limit="streams",source="share"}' in metrics
    assert sum('spillgate_probes{account="own"} 1.0' in httpx.get(f"{g.url}/metrics").text for g in gateways) == 1
