"""Hedges over real sockets: a cloud that is slow to its first token now and then, and one with room beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.processes import Clouds, Gateway

DOCUMENT = """
models: {deepseek-r2: {aliases: [r2]}}
backends:
  own: {preset: vllm, base_url: "${OWN_URL}", serves: {deepseek-r2: r2-own}, limits: {streams: 4}}
  ark:
    preset: volcengine-ark
    base_url: ${ARK_URL}
    key: ${ARK_KEY}
    serves: {deepseek-r2: r2-ark}
    limits: {streams: 3}
policies:
  p: {tiers: [{backends: [own]}, {backends: [ark]}], first_token_timeout: 20s, hedge: {budget: 1, after: 300ms}}
"""
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6, "stream": True}


@pytest.fixture
def gateway(start: Callable[..., Gateway], clouds: Clouds, tmp_path: Path) -> Iterator[Gateway]:
    document = tmp_path / "hedge.yaml"
    document.write_text(DOCUMENT)
    yield start(document)
    clouds.reset()


def ask(gateway: Gateway, **fields: Any) -> tuple[httpx.Response, str]:
    answer = httpx.post(f"{gateway.base}/chat/completions", json={**BODY, **fields}, timeout=30)
    found = ""
    for line in answer.text.splitlines():
        if line.startswith("data: {"):
            choices = json.loads(line.removeprefix("data: "))["choices"]
            found += "".join(c["delta"].get("content") or c["delta"].get("reasoning_content") or "" for c in choices)
    return answer, found


def test_a_slow_cloud_is_hung_up_on_and_the_client_never_knows(gateway: Gateway, clouds: Clouds) -> None:
    calm, text = ask(gateway)
    assert (calm.headers["x-spillgate-backend"], calm.headers["x-spillgate-attempts"]) == ("own", "1")
    assert text
    before = clouds.stats()["own"]["disconnects"]
    clouds.set("own", fail="slow", drag=400)
    answer, text = ask(gateway)
    assert (answer.headers["x-spillgate-backend"], answer.headers["x-spillgate-attempts"]) == ("ark", "2")
    assert answer.headers["x-spillgate-model"] == "r2-ark"
    assert answer.elapsed.total_seconds() < 3.0, "the slow one takes more than that to its first token"
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert text
    gateway.quiet(within=2.0)
    assert clouds.stats()["own"]["disconnects"] == before + 1
    clouds.set("own", fail=None)
    again, _ = ask(gateway)
    assert (again.headers["x-spillgate-backend"], again.headers["x-spillgate-attempts"]) == ("own", "1")
    totals = gateway.status()["fleet"]["totals"]
    assert (totals["hedged"], totals["hedges_won"]) == (1, 1)
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'spillgate_attempts_total{backend="own",outcome="beaten"} 1.0' in metrics
    assert "spillgate_hedges_won_total 1.0" in metrics


def test_a_client_who_leaves_a_hedged_request_ends_both(gateway: Gateway, clouds: Clouds) -> None:
    for name in ("own", "ark"):
        clouds.set(name, fail="slow", drag=1000)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{gateway.base}/chat/completions", json=BODY, timeout=1.0)
    assert gateway.status()["fleet"]["totals"]["hedged"] == 1
    gateway.quiet(within=2.0)
    for name in ("own", "ark"):
        clouds.set(name, fail=None)
