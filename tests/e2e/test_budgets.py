"""Budgets over real processes and a real Redis: shared by replicas, kept over restarts, told to everybody who asks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.testing.processes import Gateway, Redis

DOCUMENT = """
models: {r2: {}}
backends:
  ark:
    preset: volcengine-ark
    base_url: ${ARK_URL}
    key: ${ARK_KEY}
    serves: {r2: r2-ark}
    limits: {streams: 8}
    price: {input: 0, output: 1000}
policies: {p: {tiers: [{backends: [ark]}]}}
tenants:
  acme: {keys: ["${ACME_KEY}"], budget: {amount: 1, per: month}}
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    found = Redis(tmp_path / "redis")
    yield found
    found.kill()


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "money.yaml"
    path.write_text(DOCUMENT)
    return path


def ask(gateway: Gateway, key: str, tokens: int = 40) -> httpx.Response:
    body = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": tokens}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.base}/chat/completions", json=body, headers=headers, timeout=20)


def used(answer: httpx.Response) -> Decimal:
    return Decimal(answer.json()["usage"]["completion_tokens"]) / 1000


def budget(gateway: Gateway, name: str) -> dict[str, Any]:
    (found,) = [found for found in gateway.status()["budgets"] if found["name"] == name]
    return dict(found)


def until_it_says(gateway: Gateway, name: str, spent: Decimal) -> None:
    until = time.monotonic() + 10
    while Decimal(budget(gateway, name)["spent"]) != spent:
        assert time.monotonic() < until, (budget(gateway, name), spent)
        time.sleep(0.05)


def test_replicas_share_a_budget_and_it_survives_them(
    start: Any, document: Path, redis: Redis, key: str, spillgate: Any
) -> None:
    plain = {"REDIS_URL": redis.url, "SPILLGATE_REPLICAS": "2"}
    env = {**plain, "SPILLGATE_ADMIN_KEY": "sk-admin"}
    pair = [start(document, env=plain), start(document, env=plain)]
    spent, warned, number = Decimal(0), False, 0
    while (answer := ask(pair[number % 2], key)).status_code == 200:
        spent += used(answer)
        number += 1
        said = answer.headers.get("x-spillgate-budget")
        assert said is None or said.startswith("warning; spent=0.")
        warned = warned or said is not None
    assert warned
    assert Decimal("0.93") < spent <= 1
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["budget"]["of"]) == (429, "insufficient_quota", "tenant")
    assert 1 <= int(answer.headers["retry-after"]) <= 3600
    with (
        openai.OpenAI(base_url=pair[0].base, api_key=key, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model="r2", messages=[{"role": "user", "content": "hi"}], max_tokens=90)
    assert caught.value.code == "insufficient_quota"
    for replica in pair:
        until_it_says(replica, "tenant:acme", spent)
        assert replica.stop() == 0
    redis.kill()
    redis.start()
    late = start(document, env=env)
    assert ask(late, key, 90).status_code == 429
    admin = httpx.Client(base_url=f"{late.url}/admin/v1", headers={"authorization": "Bearer sk-admin"}, trust_env=False)
    told = admin.get("/tenants/acme").json()["budget"]
    assert (Decimal(told["spent"]), Decimal(told["left"])) == (spent, 1 - spent)
    shown = spillgate("status", "--url", late.url, SPILLGATE_ADMIN_KEY="sk-admin").stdout
    assert f"budget of tenant:acme per month: {told['spent']} of 1 CNY spent, {told['left']} left" in shown
    metrics = httpx.get(f"{late.url}/metrics", headers={"authorization": "Bearer sk-admin"}).text
    assert f'spillgate_budget_spent{{budget="tenant:acme"}} {float(spent)}' in metrics
    at_run_time(late, admin)
    admin.close()


def at_run_time(gateway: Gateway, admin: httpx.Client) -> None:
    """A tenant and a key that come later have budgets like the document's."""
    assert admin.post("/tenants", json={"name": "omega", "budget": {"per": "day"}}).status_code == 400
    made = admin.post("/tenants", json={"name": "omega", "budget": {"amount": 5, "per": "day"}}).json()
    assert (made["budget"]["amount"], made["budget"]["state"]) == ("5", "open")
    given = admin.post("/keys", json={"tenant": "omega", "budget": {"amount": 0.1, "per": "hour"}}).json()
    spent = Decimal(0)
    while (answer := ask(gateway, given["key"])).status_code == 200:
        spent += used(answer)
    assert answer.json()["error"]["budget"]["of"] == "key"
    assert Decimal("0.05") < spent <= Decimal("0.1")
    assert Decimal(admin.get(f"/keys/{given['id']}").json()["budget"]["spent"]) == spent
    assert Decimal(admin.get("/tenants/omega").json()["budget"]["spent"]) == spent


def test_a_gateway_without_redis_says_that_it_counts_alone(start: Any, document: Path, key: str) -> None:
    gateway = start(document)
    said = httpx.get(f"{gateway.url}/readyz").json()
    assert (said["status"], said["budgets"]) == (
        "ready", "counted by this process alone, and forgotten when it ends: REDIS_URL is not set",
    )  # fmt: skip
    answer = ask(gateway, key)
    until_it_says(gateway, "tenant:acme", used(answer))


def test_a_redis_that_is_away_holds_nobody_up_and_is_told_later(
    start: Any, document: Path, redis: Redis, key: str
) -> None:
    gateway = start(document, env={"REDIS_URL": redis.url, "SPILLGATE_REPLICAS": "1"})
    spent = used(ask(gateway, key))
    redis.kill()
    for _ in range(3):
        answer = ask(gateway, key)
        assert answer.status_code == 200
        spent += used(answer)
    until = time.monotonic() + 10
    while "budgets" not in (said := httpx.get(f"{gateway.url}/readyz").json()):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert said["budgets"].startswith("cannot be shared, going on with what was last known")
    redis.start()
    while "budgets" in httpx.get(f"{gateway.url}/readyz").json():
        assert time.monotonic() < until + 10
        time.sleep(0.05)
    assert gateway.stop() == 0
    late = start(document, env={"REDIS_URL": redis.url})
    assert ask(late, key, 900).status_code == 429
    assert Decimal(json.loads(ask(late, key, 900).content)["error"]["budget"]["spent"]) == spent
    assert "Traceback" not in "".join(late.lines)
