"""Answers given again by real processes: two replicas, one Redis, the real SDK."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.testing.processes import Clouds, Gateway, Redis

HERE = Path(__file__).parent
KEYS = {"ACME_KEY": "sk-acme-1", "SLOW_KEY": "sk-slow-1"}
SAY = [{"role": "user", "content": "Why do dams need spillways? 溢洪道"}]
CROWD = 1000


class Town:
    """Clouds, a Redis and two replicas."""

    def __init__(self) -> None:
        self.clouds = Clouds(HERE / "cache_fleet.yaml")
        self.redis = Redis()
        env = {**KEYS, "REDIS_URL": self.redis.url, "SPILLGATE_REPLICAS": "2"}
        self.replicas = [Gateway(HERE / "cache_gateway.yaml", self.clouds, env=env) for _ in range(2)]
        for replica in self.replicas:
            self.warm(replica)

    def warm(self, replica: Gateway) -> None:
        """Until it has its shares and has met the store."""
        until = time.monotonic() + 20
        while self.ask(replica, seed=time.monotonic_ns(), max_tokens=4).status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.05)

    def ask(self, replica: Gateway, key: str = "ACME_KEY", headers: Any = None, **fields: Any) -> httpx.Response:
        body = {"model": "r2", "messages": SAY, "temperature": 0, **fields}
        given = {"authorization": f"Bearer {KEYS[key]}", **(headers or {})}
        return httpx.post(f"{replica.base}/chat/completions", json=body, headers=given, timeout=20)

    def calls(self) -> int:
        return sum(int(cloud["requests"]) for cloud in self.clouds.stats().values())

    def stop(self) -> None:
        for replica in self.replicas:
            assert replica.stop() == 0
            assert "Traceback" not in "".join(replica.lines)
        self.clouds.stop()
        self.redis.kill()


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    found = Town()
    yield found
    found.stop()


def served(answer: httpx.Response) -> str:
    return answer.headers["x-spillgate-cache"].partition(";")[0]


def kept_at(town: Town, replica: Gateway, seed: int) -> httpx.Response:
    """Ask until it is a hit: what has just been made is kept in the background."""
    until = time.monotonic() + 5
    while served(answer := town.ask(replica, seed=seed)) != "hit":
        assert time.monotonic() < until
    return answer


def test_an_answer_made_at_one_replica_is_given_by_the_other(town: Town) -> None:
    one, two = town.replicas
    first = town.ask(one, seed=1)
    assert served(first) == "miss"
    again = kept_at(town, two, 1)
    made, given = first.json(), again.json()
    assert given["choices"] == made["choices"]
    assert given["usage"]["prompt_tokens_details"]["cached_tokens"] == made["usage"]["prompt_tokens"]
    assert again.headers["x-spillgate-backend"] == ""
    assert served(town.ask(two, "SLOW_KEY", seed=1)) == "miss", "another tenant's answer is not his"
    assert "x-spillgate-cache" not in town.ask(two, model="r2-alone").headers
    assert served(town.ask(one, temperature=1)) == "bypass"


def test_the_sdk_reads_stored_answers_in_both_forms(town: Town) -> None:
    async def talk() -> None:
        async with openai.AsyncOpenAI(base_url=town.replicas[0].base, api_key=KEYS["ACME_KEY"]) as sdk:
            ask: dict[str, Any] = {"model": "r2", "messages": SAY, "temperature": 0, "seed": 2}
            text, usage = "", None
            async for chunk in await sdk.chat.completions.create(
                **ask, stream=True, stream_options={"include_usage": True}
            ):
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                usage = chunk.usage or usage
            whole = await sdk.chat.completions.create(**ask)
            assert text == whole.choices[0].message.content == kept
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens

    before = town.calls()
    town.ask(town.replicas[0], seed=2, stream=True)
    kept = kept_at(town, town.replicas[0], 2).json()["choices"][0]["message"]["content"]
    assert kept
    asyncio.run(talk())
    assert town.calls() <= before + 2, "the second only where the machine was too busy to keep the first answer in time"


def test_a_crowd_with_one_question_makes_one_call(town: Town) -> None:
    async def reader(http: httpx.AsyncClient, number: int, slow: bool) -> tuple[str, str, float]:
        replica = town.replicas[number % 2]
        stream = number % 10 != 9
        body = {"model": "r2", "messages": SAY, "temperature": 0, "seed": 3, "stream": stream}
        began = time.monotonic()
        headers = {"authorization": f"Bearer {KEYS['ACME_KEY']}"}
        async with http.stream("POST", f"{replica.base}/chat/completions", json=body, headers=headers) as answer:
            assert answer.status_code == 200
            found = b""
            async for piece in answer.aiter_raw():
                found += piece
                if slow:
                    await asyncio.sleep(0.3)
        result = answer.headers["x-spillgate-cache"].partition(";")[0]
        return result, _text(found, stream), time.monotonic() - began

    async def crowd() -> list[tuple[str, str, float]]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=60) as http:
            return await asyncio.gather(*(reader(http, number, number == 7) for number in range(CROWD)))

    before = town.calls()
    found = asyncio.run(crowd())
    results = Counter(result for result, _, _ in found)
    # One call; a second one where Redis could not be heard within a look's 5 ms because the machine was busy.
    assert before + 1 <= town.calls() <= before + 2, results
    assert len({text for _, text, _ in found}) == 1
    assert results["joined"] > CROWD / 4
    assert results["miss"] <= 2
    for replica in town.replicas:
        replica.quiet(10)


def _text(body: bytes, stream: bool) -> str:
    if not stream:
        message = json.loads(body)["choices"][0]["message"]
        return f"{message.get('reasoning_content') or ''}|{message['content']}"
    assert body.endswith(b"data: [DONE]\n\n")
    thought = text = ""
    for frame in body.split(b"\n\n"):
        if frame.startswith(b"data: {"):
            for choice in json.loads(frame[6:])["choices"]:
                thought += choice["delta"].get("reasoning_content") or ""
                text += choice["delta"].get("content") or ""
    return f"{thought}|{text}"


def test_a_frozen_redis_is_a_miss_and_costs_no_error(town: Town) -> None:
    one = town.replicas[0]
    town.ask(one, seed=4)
    kept_at(town, one, 4)
    town.redis.signal(signal.SIGSTOP)
    try:
        answers = [town.ask(one, seed=100 + number, max_tokens=4) for number in range(20)]
    finally:
        town.redis.signal(signal.SIGCONT)
    assert {answer.status_code for answer in answers} == {200}
    assert {served(answer) for answer in answers} == {"miss"}
    overhead = sorted(float(answer.headers["x-spillgate-overhead-ms"]) for answer in answers)
    assert overhead[-2] < 50, overhead
    town.warm(one)
    town.ask(one, seed=5)
    kept_at(town, one, 5)


def test_operators_count_and_purge(town: Town, spillgate: Any) -> None:
    one, two = town.replicas
    for replica in (one, two):
        kept_at(town, replica, 6)
    url = town.redis.url
    listed = json.loads(spillgate("cache", "stats", "--json", REDIS_URL=url).stdout)
    assert listed["answers"] >= 1
    assert {(row["policy"], row["model"]) for row in listed["rows"]} == {("cached", "r2")}
    assert "acme" in spillgate("cache", "stats", REDIS_URL=url).stdout
    assert spillgate("cache", "purge", REDIS_URL=url).returncode == 2
    assert spillgate("cache", "purge", "--older", "soon", REDIS_URL=url).returncode == 2
    assert spillgate("cache", "stats", REDIS_URL="").returncode == 2
    assert spillgate("cache", "stats", REDIS_URL="redis://127.0.0.1:1/0").returncode == 1
    assert spillgate("cache", "purge", "--tenant", "nobody", REDIS_URL=url).stdout.startswith("removed 0;")
    removed = json.loads(spillgate("cache", "purge", "--tenant", "acme", "--json", REDIS_URL=url).stdout)["removed"]
    assert removed >= 1
    until = time.monotonic() + 5
    for replica in (one, two):
        while served(town.ask(replica, seed=6, headers={"cache-control": "max-age=3600"})) == "hit":
            assert time.monotonic() < until
            time.sleep(0.3)
            break
    metrics = httpx.get(f"{one.url}/metrics").text
    assert 'spillgate_cache_requests_total{model="r2",result="hit"}' in metrics
    assert "spillgate_cache_saved_cost_total" in metrics
    assert spillgate("cache", "purge", "--all", REDIS_URL=url).returncode == 0
    assert "no answers" in spillgate("cache", "stats", REDIS_URL=url).stdout
