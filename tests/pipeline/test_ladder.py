"""Degradation on its way through the filters: what leaves, what is told, who is spared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.service import Response
from gateway.telemetry.metrics import Metrics
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
WHOLE = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
BUSY = json.dumps({"error": {"message": "busy", "code": 503}}).encode()
ENV = {"A": "sk-acme-key", "B": "sk-bulk-key", "C": "sk-tied-key"}
DOCUMENT = """
models: {r2: {policy: p}, lite: {policy: q}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {streams: 2}}
  two: {preset: deepseek, key: "${A}", base_url: "http://two/v1", serves: {r2: two-id}, limits: {streams: 2}}
  low: {preset: openai, base_url: "http://low/v1", serves: {lite: low-id}, limits: {streams: 9}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}]
    degrade:
      - {at: 0.25, max_tokens: 200, reasoning_effort: low}
      - {at: 0.5, thinking: off}
      - {at: 0.75, classes: [batch], model: lite}
  q:
    tiers: [{backends: [low]}]
    affinity: prefix
    degrade: [{at: 0.001, max_tokens: 1}]
tenants:
  acme: {keys: ["${A}"]}
  bulk: {keys: ["${B}"], class: batch, limits: {tpm: 1000}}
  tied: {keys: ["${C}"], class: batch, models: [r2]}
"""


def clouds(*first: Script) -> dict[str, MemoryUpstream]:
    slow = Script((50.0, WHOLE))
    return {
        "one": MemoryUpstream(*(first or (slow,))),
        "two": MemoryUpstream(slow),
        "low": MemoryUpstream(Script((0.1, WHOLE))),
    }


async def fill(h: Any, count: int) -> list[Any]:
    """So many requests run, and a new pressure is due."""
    running = [h.loop.create_task(h.ask(key="sk-acme-key", max_tokens=10)) for _ in range(count)]
    await asyncio.sleep(1.0)
    return running


def ask(h: Any, key: str = "sk-acme-key", **fields: Any) -> Any:
    return h.ask(key=key, **fields)


@pytest.mark.parametrize(
    ("running", "backend", "told", "sent"),
    [
        (0, "one", None, {}),
        (1, "one", "max_tokens=200, reasoning_effort=low", {"max_tokens": 200, "reasoning_effort": "low"}),
        (2, "two", "max_tokens=200, thinking=off", {"max_tokens": 200, "thinking": {"type": "disabled"}}),
    ],
)
def test_rungs_are_climbed_with_the_pressure_and_told_in_a_header(
    run: Run, house: Any, header_of: Head, running: int, backend: str, told: str | None, sent: dict[str, object]
) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        tasks = await fill(h, running)
        response, call = await ask(h)
        assert header_of(response, "x-spillgate-backend") == backend
        assert dict(response.headers).get(b"x-spillgate-degraded") == (told.encode() if told else None)
        assert (call.easing is None) == (told is None)
        body = json.loads(h.clouds[backend].bodies[-1])
        assert {k: v for k, v in body.items() if k not in {"model", "messages", "user_id"}} == sent
        for task in tasks:
            await task
        h.assert_quiet()

    run(scenario())


def test_another_model_answers_once_and_its_own_ladder_is_not_climbed(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        tasks = await fill(h, 3)
        response, call = await ask(h, "sk-bulk-key")
        assert header_of(response, "x-spillgate-degraded") == "model=lite, max_tokens=200"
        assert header_of(response, "x-spillgate-model") == "low-id"
        assert (call.model, call.policy) == ("lite", "q")
        assert call.affinity  # by the rules of the model that answers
        assert json.loads(h.clouds["low"].bodies[0])["max_tokens"] == 200
        for task in tasks:
            await task

    run(scenario())


def test_a_tenant_who_may_not_use_the_other_model_keeps_his(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        tasks = await fill(h, 3)
        response, call = await ask(h, "sk-tied-key")
        assert header_of(response, "x-spillgate-degraded") == "max_tokens=200, thinking=off"
        assert call.model == "r2"
        for task in tasks:
            await task

    run(scenario())


@pytest.mark.parametrize(
    ("asked", "status", "degraded"), [(b"never", 200, False), (b"allow", 200, True), (b"no", 400, False)]
)
def test_a_client_may_insist_on_its_form(run: Run, house: Any, asked: bytes, status: int, degraded: bool) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        tasks = await fill(h, 2)
        h.headers = {b"x-spillgate-degrade": asked}
        response, _ = await ask(h, max_tokens=5000)
        assert response.status == status
        assert (b"x-spillgate-degraded" in dict(response.headers)) == degraded
        if status == 200:
            assert json.loads(h.clouds["two"].bodies[-1])["max_tokens"] == (200 if degraded else 5000)
        for task in tasks:
            await task

    run(scenario())


def test_who_spills_keeps_his_rung_and_is_told_in_the_words_of_the_cloud_that_answers(
    run: Run, house: Any, header_of: Head
) -> None:
    async def scenario() -> None:
        h = house(clouds(Script((50.0, WHOLE)), Script((0.0, BUSY), status=503)), DOCUMENT, **ENV)
        tasks = await fill(h, 1)
        response, _ = await ask(h, reasoning_effort="medium")
        assert header_of(response, "x-spillgate-attempts") == "2"
        assert header_of(response, "x-spillgate-degraded") == "max_tokens=200, reasoning_effort=low"
        sent = [json.loads(h.clouds[name].bodies[-1]) for name in ("one", "two")]
        assert [(b["max_tokens"], b["reasoning_effort"]) for b in sent] == [(200, "low")] * 2
        for task in tasks:
            await task

    run(scenario())


def test_limits_and_queue_reckon_with_what_is_left_of_the_request(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        await ask(h, "sk-bulk-key", max_tokens=1)
        refused, _ = await ask(h, "sk-bulk-key", max_tokens=900, messages=[{"role": "user", "content": "x" * 800}])
        assert refused.status == 429
        tasks = await fill(h, 1)
        response, call = await ask(h, "sk-bulk-key", max_tokens=900, messages=[{"role": "user", "content": "x" * 800}])
        assert response.status == 200
        assert call.request.max_tokens == 200
        for task in tasks:
            await task

    run(scenario())


def test_what_was_given_up_is_counted_under_the_model_that_was_asked_for(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(clouds(), DOCUMENT, **ENV)
        tasks = await fill(h, 3)
        await ask(h, "sk-bulk-key")
        for task in tasks:
            await task
        metrics = Metrics(lambda outcome: "", lambda call: 0.0)
        for call in h.ended:
            metrics.fold(call)
        steps = {step: n for (model, class_, step), n in metrics.degraded.items() if (model, class_) == ("r2", "batch")}
        assert steps == {"model": 1, "max_tokens": 1}

    run(scenario())
