"""What callers are limited to, by which name they are refused, and what every answer says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.service import Response
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
ENV = {"ACME": "sk-acme-key", "LAP": "sk-laptop-key", "BETA": "sk-beta-key"}
DOCUMENT = """
models: {r2: {}, r3: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, r3: y}, limits: {streams: BACKEND}}}
policies: {p: {tiers: [{backends: [one]}], queue: {max_wait: 0s}}}
tenants:
  acme: {keys: ["${ACME}", {key: "${LAP}", limits: KEY}], limits: LIMITS}
  beta: {keys: ["${BETA}"]}
"""


def document(limits: str, key: str = "{}", backend: int = 100) -> str:
    return DOCUMENT.replace("LIMITS", limits).replace("KEY", key).replace("BACKEND", str(backend))


def answered(prompt: int = 100, answer: int = 50) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": answer}
    return json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}).encode()


def error(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["error"]


@pytest.mark.parametrize(
    ("limits", "key", "code", "named"),
    [
        ("{rpm: 1}", "{}", "tenant_rpm_exceeded", "1 requests per minute of your tenant (rpm)"),
        ("{rps: 1}", "{}", "tenant_rps_exceeded", "1 requests per second of your tenant (rps)"),
        ("{tpm_in: 90}", "{}", "tenant_tpm_in_exceeded", "90 prompt tokens per minute of your tenant (tpm_in)"),
        ("{tpm_out: 40}", "{}", "tenant_tpm_out_exceeded", "40 answer tokens per minute of your tenant (tpm_out)"),
        ("{}", "{rpm: 1}", "key_rpm_exceeded", "1 requests per minute of your key (rpm)"),
        (
            "{rpm: 9, per_model: {r2: {rpm: 1}}}",
            "{}",
            "tenant_model_rpm_exceeded",
            "1 requests per minute of your tenant for r2 (rpm)",
        ),
        ("{}", "{per_model: {r2: {tpm: 9}}}", "key_model_tpm_exceeded", "9 tokens per minute of your key for r2 (tpm)"),
    ],
)
def test_every_kind_of_limit_is_refused_by_its_name(
    run: Run, house: Any, header_of: Head, limits: str, key: str, code: str, named: str
) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document(limits, key), **ENV)
        assert (await h.ask(key="sk-laptop-key"))[0].status == 200
        response, call = await h.ask(key="sk-laptop-key")
        assert (response.status, error(response)["code"]) == (429, code)
        assert error(response)["type"] == "rate_limit_error"
        assert named in error(response)["message"]
        assert int(header_of(response, "retry-after")) >= 1
        assert call.attempts == []
        if "per_model" in limits + key:
            assert (await h.ask(key="sk-laptop-key", model="r3"))[0].status == 200
        if limits == "{}":
            assert (await h.ask(key="sk-acme-key"))[0].status == 200
        await asyncio.sleep(float(header_of(response, "retry-after")))
        assert (await h.ask(key="sk-laptop-key"))[0].status == 200
        assert list(h.limit.refused.values()) == [1]

    run(scenario())


def test_answers_and_refusals_tell_the_tightest_limits_in_openais_form(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house(
            {"one": MemoryUpstream(Script((0.1, answered())))},
            document("{rpm: 60, streams: 9, tpm: 100k, per_model: {r2: {rpm: 3, tpm_in: 60k}}}"),
            **ENV,
        )
        response, _ = await h.ask(key="sk-acme-key")
        assert header_of(response, "x-ratelimit-limit-requests") == "3"
        assert header_of(response, "x-ratelimit-remaining-requests") == "2"
        assert header_of(response, "x-ratelimit-reset-requests") == "20s"
        assert header_of(response, "x-ratelimit-limit-tokens") == "60000"
        assert 59_800 < int(header_of(response, "x-ratelimit-remaining-tokens")) < 60_000
        for _ in range(2):
            await h.ask(key="sk-acme-key")
        refused, _ = await h.ask(key="sk-acme-key")
        assert refused.status == 429
        assert header_of(refused, "x-ratelimit-remaining-requests") == "0"
        assert header_of(refused, "x-ratelimit-reset-requests") == "1m0s"
        other, _ = await h.ask(key="sk-beta-key")
        assert not any(name.startswith(b"x-ratelimit") for name, _ in other.headers)

    run(scenario())


def test_a_refusal_of_the_fleet_tells_them_too_and_costs_no_tokens(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((5.0, answered())))}, document("{rpm: 9, tpm: 9k}", backend=1), **ENV)
        first = asyncio.create_task(h.ask(key="sk-beta-key"))
        await asyncio.sleep(1.0)
        response, _ = await h.ask(key="sk-acme-key")
        assert response.status in {429, 503}
        assert header_of(response, "x-ratelimit-remaining-requests") == "8"
        await first
        _, call = await h.ask(key="sk-acme-key")
        assert dict(call.tab.headers())[b"x-ratelimit-remaining-tokens"] == b"8850"

    run(scenario())


def test_tokens_count_as_they_flow_and_are_settled_by_the_clouds_count(run: Run, house: Any, header_of: Head) -> None:
    def frame(text: str, **more: Any) -> bytes:
        return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}], **more}).encode() + b"\n\n"

    usage = {"prompt_tokens": 10, "completion_tokens": 3000}
    steps = [(0.01, frame("x") * 100) for _ in range(30)]
    end = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
    last = (0.1, f"data: {end}\n\ndata: [DONE]\n\n".encode())

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script(*steps, (5.0, frame("x")), last))}, document("{tpm: 10k}"), **ENV)
        response, call = await h.ask(key="sk-acme-key", stream=True)
        before = int(header_of(response, "x-ratelimit-remaining-tokens"))
        assert 8900 < before < 9000  # the usual answer, not max_tokens
        reading = asyncio.create_task(h.drain(response, call))
        await asyncio.sleep(3.0)
        assert call.tab is not None
        flowing = int(dict(call.tab.headers())[b"x-ratelimit-remaining-tokens"])
        assert 6900 < flowing < 7100
        await reading
        assert dict(call.tab.headers())[b"x-ratelimit-remaining-tokens"] == b"6990"

    run(scenario())


def test_an_answer_that_broke_counts_what_came(run: Run, house: Any) -> None:
    frame = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, frame * 9), hang=True))}, document("{tpm_out: 5k}"), **ENV)
        response, call = await h.ask(key="sk-acme-key", stream=True)
        assert not isinstance(response.body, bytes)
        await response.body.__anext__()
        await response.body.aclose()
        h.end(call)
        assert dict(call.tab.headers())[b"x-ratelimit-remaining-tokens"] == b"4991"
        h.assert_quiet()

    run(scenario())


def test_limits_may_change_while_the_gateway_runs(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 2, tpm: 10k}"), **ENV)
        for _ in range(2):
            await h.ask(key="sk-acme-key")
        assert (await h.ask(key="sk-acme-key"))[0].status == 429
        other = type(h)({"one": MemoryUpstream(Script())}, document("{rpm: 3}"), **ENV)
        h.live.install(other.live.compiled)
        response, _ = await h.ask(key="sk-acme-key")
        assert response.status == 200
        assert header_of(response, "x-ratelimit-remaining-requests") == "0"
        assert b"x-ratelimit-limit-tokens" not in dict(response.headers)
        assert (await h.ask(key="sk-acme-key"))[0].status == 429

    run(scenario())
