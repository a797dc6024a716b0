"""Who may ask, how much, and what every answer says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.service import Response
from gateway.telemetry.exposition import expose, families
from gateway.telemetry.metrics import Metrics
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
WHOLE = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50},
    }
).encode()
ENV = {"ACME": "sk-acme-key", "BETA": "sk-beta-key"}
DOCUMENT = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}}}
policies: {p: {tiers: [{backends: [one]}]}}
tenants:
  acme: {keys: ["${ACME}"], limits: LIMITS}
  beta: {keys: ["${BETA}"]}
"""


def document(limits: str) -> str:
    return DOCUMENT.replace("LIMITS", limits)


def error(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["error"]


@pytest.mark.parametrize(
    ("key", "code"), [("", "missing_api_key"), ("sk-other", "invalid_api_key"), ("sk-acme-ke", "invalid_api_key")]
)
def test_a_stranger_is_refused_before_his_body_is_read(run: Run, house: Any, key: str, code: str) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, WHOLE)))}, document("{rpm: 5}"), **ENV)
        response, call = await h.ask(key=key, body=b"not even JSON")
        assert (response.status, error(response)["code"]) == (401, code)
        assert call.chat is None

    run(scenario())


def test_a_tenant_over_its_rate_is_refused_by_name_and_others_are_not(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, WHOLE)))}, document("{rpm: 2}"), **ENV)
        for _ in range(2):
            assert (await h.ask(key="sk-acme-key"))[0].status == 200
        response, _ = await h.ask(key="sk-acme-key")
        assert (response.status, error(response)["code"]) == (429, "tenant_rpm_exceeded")
        assert error(response)["limits"] == [
            {"name": "rpm", "of": "tenant", "model": None, "limit": 2, "used": 2, "needed": 1}
        ]
        assert (await h.ask(key="sk-beta-key"))[0].status == 200
        await asyncio.sleep(float(header_of(response, "retry-after")))
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        h.assert_quiet()

    run(scenario())


def test_a_tenants_streams_are_free_again_when_they_end(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((1.0, WHOLE)))}, document("{streams: 1}"), **ENV)
        first = asyncio.create_task(h.ask(key="sk-acme-key"))
        await asyncio.sleep(0.5)
        response, _ = await h.ask(key="sk-acme-key")
        assert error(response)["code"] == "tenant_streams_exceeded"
        await first
        second = asyncio.create_task(h.ask(key="sk-acme-key"))
        await asyncio.sleep(0.5)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        h.assert_quiet()

    run(scenario())


def test_tokens_are_settled_by_what_the_cloud_counted(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, WHOLE)))}, document("{tpm: 1600}"), **ENV)
        # 1024 tokens are reserved for an answer, 150 are used: the second request fits because of that.
        for _ in range(3):
            assert (await h.ask(key="sk-acme-key"))[0].status == 200
        response, _ = await h.ask(key="sk-acme-key", messages=[{"content": "x" * 4000}])
        assert error(response)["code"] == "tenant_tpm_exceeded"
        h.assert_quiet()

    run(scenario())


def test_an_unknown_model_is_refused_with_the_nearest_name(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, WHOLE)))}, document("{}"), **ENV)
        response, _ = await h.ask(key="sk-beta-key", model="r22")
        assert response.status == 404
        assert "'r2'" in error(response)["message"]
        far, _ = await h.ask(key="sk-beta-key", model="claude")
        assert "/v1/models" in error(far)["message"]
        assert header_of(response, "x-spillgate-attempts") == "0"
        assert header_of(response, "x-spillgate-backend") == ""

    run(scenario())


def test_every_ended_call_is_counted_once(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, WHOLE)))}, document("{}"), **ENV)
        metrics = Metrics(lambda outcome: type(outcome).__name__.lower(), lambda call: 0.001)
        for key in ("sk-beta-key", "sk-beta-key", "nobody"):
            await h.ask(key=key)
        for call in h.ended:
            metrics.fold(call)
        text = expose(families(metrics, h.desk.dispatcher.snapshot(h.loop.time()))).decode()
        assert 'spillgate_requests_total{class="standard",model="r2",status="200"} 2.0' in text
        assert 'spillgate_requests_total{class="",model="",status="401"} 1.0' in text
        assert 'spillgate_attempts_total{backend="one",outcome="served"} 2.0' in text
        assert 'spillgate_tokens_total{backend="one",kind="output"} 100.0' in text
        assert 'spillgate_request_duration_seconds_count{model="r2"} 2.0' in text
        assert 'spillgate_breaker{backend="one"} 0.0' in text
        assert "sk-beta" not in text

    run(scenario())
