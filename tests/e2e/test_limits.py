"""Callers' limits by the real SDK, over two processes, and while Redis is frozen or dead."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.testing.processes import Gateway, Redis

DOCUMENT = Path(__file__).parent / "limits_gateway.yaml"
MESSAGES: Any = [{"role": "user", "content": "Why do dams have spillways?"}]
BODY = {"model": "r2", "messages": MESSAGES, "max_tokens": 2}


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


def ask(gateway: Gateway, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.base}/chat/completions", json=BODY, headers=headers, timeout=20)


def admitted(answers: list[httpx.Response]) -> int:
    assert {answer.status_code for answer in answers} <= {200, 429}
    return sum(answer.status_code == 200 for answer in answers)


def soon_shared(gateway: Gateway, shared: bool) -> None:
    until = time.monotonic() + 10
    while bool(gateway.status()["limits"]["reason"]) == shared:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_sdk_understands_the_headers_and_the_refusal(start: Any) -> None:
    gateway = start(DOCUMENT)
    with openai.OpenAI(base_url=gateway.base, api_key="sk-slow-1", max_retries=0) as client:
        for left in (2, 1, 0):
            raw = client.chat.completions.with_raw_response.create(model="r2", messages=MESSAGES, max_tokens=2)
            assert raw.headers["x-ratelimit-limit-requests"] == "3"
            assert raw.headers["x-ratelimit-remaining-requests"] == str(left)
            assert raw.headers["x-ratelimit-reset-requests"] == ["1m0s", "40s", "20s"][left]
            assert raw.headers["x-ratelimit-limit-tokens"] == "500000"
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="r2", messages=MESSAGES)
    error = refused.value
    assert error.code == "key_rpm_exceeded"
    assert "3 requests per minute of your key (rpm)" in error.message
    assert 50 <= int(error.response.headers["retry-after"]) <= 61
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    with openai.OpenAI(base_url=gateway.base, api_key="sk-acme-1", max_retries=0) as client:
        stream = client.chat.completions.with_raw_response.create(
            model="r2", messages=MESSAGES, max_tokens=2, stream=True
        )
        assert stream.headers["x-ratelimit-remaining-requests"] == "36"  # the tenant's, both keys count
        assert list(stream.parse())
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'spillgate_caller_limit_refusals_total{limit="rpm",of="key"} 1.0' in metrics


def test_two_processes_admit_one_limit_and_a_dead_redis_leaves_each_its_own(
    start: Any, clouds: Any, redis: Redis
) -> None:
    env = {"REDIS_URL": redis.url, "SPILLGATE_REPLICAS": "2"}
    first, second = start(DOCUMENT, env=env), start(DOCUMENT, env=env)
    until = time.monotonic() + 20
    for gateway in (first, second):  # shares of the clouds' limits come first
        while ask(gateway, "sk-slow-1").status_code not in {200, 429}:
            assert time.monotonic() < until
    with ThreadPoolExecutor(8) as pool:
        places = [first, second, first, first] * 20  # uneven
        answers = list(pool.map(lambda gateway: ask(gateway, "sk-acme-1"), places))
    assert 37 <= admitted(answers) <= 38  # two of forty were asked with the other key
    least = [int(a.headers["x-ratelimit-remaining-requests"]) for a in answers if a.status_code == 429]
    assert set(least) == {0}
    redis.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        ask(first, "sk-acme-1")
        assert time.monotonic() - began < 3.0
        soon_shared(first, False)
        assert "alone" in httpx.get(f"{first.url}/readyz").json()["limits"]
    finally:
        redis.signal(signal.SIGCONT)
    soon_shared(first, True)
    redis.kill()
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda gateway: ask(gateway, "sk-acme-1"), [second] * 60))
    alone = admitted(again) + sum(a.status_code == 200 for a, g in zip(answers, places, strict=True) if g is second)
    assert 35 <= alone <= 40  # its own whole limit, what it had used counted
    metrics = httpx.get(f"{second.url}/metrics").text
    assert "spillgate_caller_limits_alone 1.0" in metrics
