"""Conversations over real sockets: each keeps to the cloud that has its beginning in its cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
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
  deepseek:
    preset: deepseek
    base_url: ${DEEPSEEK_URL}
    key: ${DEEPSEEK_KEY}
    serves: {deepseek-r2: r2-deepseek}
    limits: {streams: 3}
policies:
  p: {tiers: [{backends: [own, ark, deepseek]}], affinity: AFFINITY}
"""


Start = Callable[[str], Gateway]


@pytest.fixture
def begin(start: Callable[..., Gateway], clouds: Clouds, tmp_path: Path) -> Iterator[Start]:
    def with_affinity(word: str) -> Gateway:
        document = tmp_path / "affinity.yaml"
        document.write_text(DOCUMENT.replace("AFFINITY", word))
        return start(document)

    yield with_affinity
    clouds.reset()


def converse(gateway: Gateway, about: str) -> tuple[list[set[str]], float]:
    """Eight conversations of five turns, one request at a time: where each was, and the share of tokens cached."""
    cached = prompt = 0
    homes: list[set[str]] = []
    system = "You watch over {} dams. Today is 2026-11-{:02}. " + "Be brief and exact. " * 60
    with openai.OpenAI(base_url=gateway.base, api_key="any", max_retries=0, timeout=30) as client:
        for number in range(8):
            messages: list[Any] = [{"role": "system", "content": system.format(about, number + 1)}]
            homes.append(set())
            for turn in range(5):
                messages.append({"role": "user", "content": f"Dam {number}, day {turn}: how high is the water? " * 20})
                raw = client.chat.completions.with_raw_response.create(model="r2", messages=messages, max_tokens=4)
                homes[-1].add(raw.headers["x-spillgate-backend"])
                answer = raw.parse()
                messages.append({"role": "assistant", "content": answer.choices[0].message.content or "-"})
                assert answer.usage is not None
                details = answer.usage.prompt_tokens_details
                cached += (details.cached_tokens or 0) if details else 0
                prompt += answer.usage.prompt_tokens
    return homes, cached / prompt


def test_a_conversation_keeps_to_the_cloud_that_knows_it(begin: Start) -> None:
    gateway = begin("prefix")
    homes, cached = converse(gateway, "prefix")
    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) > 1, "different ones have different homes"
    assert cached > 0.5
    assert gateway.status()["fleet"]["affinity"]["deepseek-r2"]["known"] >= 32


def test_without_affinity_the_clouds_find_less(begin: Start) -> None:
    gateway = begin("none")
    homes, cached = converse(gateway, "other")
    assert any(len(home) > 1 for home in homes)
    assert cached < 0.5
    assert gateway.status()["fleet"]["affinity"] == {}
