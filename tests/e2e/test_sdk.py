"""The real OpenAI SDK, with nothing changed but base URL and key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

MESSAGES: Any = [{"role": "user", "content": "Why do dams have spillways?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "level", "parameters": {"type": "object", "properties": {"dam": {"type": "string"}}}},
    }
]


@pytest.fixture
def client(gateway: Any, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base, api_key=key, max_retries=0) as found:
        yield found


def test_a_plain_answer(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="deepseek-r2", messages=MESSAGES, max_tokens=20)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20
    assert raw.headers["x-spillgate-backend"] == "own"
    assert raw.headers["x-spillgate-model"] == "r2-own"
    assert raw.headers["x-spillgate-policy"] == "surge"
    assert raw.headers["x-spillgate-attempts"] == "1"
    assert raw.headers["x-request-id"].startswith("req-")
    assert float(raw.headers["x-spillgate-queue-ms"]) == 0.0
    assert 0 < float(raw.headers["x-spillgate-overhead-ms"]) < 1000


def test_a_streamed_answer_with_reasoning(client: openai.OpenAI) -> None:
    thoughts, text, finish = "", "", None
    with client.chat.completions.create(model="r2", messages=MESSAGES, stream=True) as stream:
        for chunk in stream:
            delta = chunk.choices[0].delta
            fields = delta.model_dump()
            thoughts += fields.get("reasoning") or fields.get("reasoning_content") or ""
            text += delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    assert thoughts
    assert text
    assert finish == "stop"


def test_usage_comes_when_it_is_asked_for_and_only_then(client: openai.OpenAI) -> None:
    asked = client.chat.completions.create(
        model="r2", messages=MESSAGES, stream=True, max_tokens=8, stream_options={"include_usage": True}
    )
    assert [c.usage.completion_tokens for c in asked if c.usage] == [8]
    not_asked = client.chat.completions.create(model="r2", messages=MESSAGES, stream=True, max_tokens=8)
    assert all(chunk.choices for chunk in not_asked)


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls_arrive_whole(client: openai.OpenAI, stream: bool) -> None:
    wanted: Any = {"model": "r2", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required"}
    if stream:
        name, arguments = "", ""
        for chunk in client.chat.completions.create(stream=True, **wanted):
            for call in chunk.choices[0].delta.tool_calls or ():
                if call.function:
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
    else:
        call = client.chat.completions.create(**wanted).choices[0].message.tool_calls[0]
        name, arguments = call.function.name, call.function.arguments
    assert name == "level"
    assert isinstance(json.loads(arguments), dict)


def test_the_models_are_listed_with_their_aliases(client: openai.OpenAI) -> None:
    assert {model.id for model in client.models.list()} == {"deepseek-r2", "r2"}


def test_errors_become_the_sdks_own_exceptions(client: openai.OpenAI, gateway: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="deepseek-r2"):
        client.chat.completions.create(model="deepseek-r", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="r2", messages=[])
    assert caught.value.param == "messages"
    for key in ("sk-wrong", "sk-acme-11"):
        with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=gateway.base, api_key=key) as stranger:
            stranger.chat.completions.create(model="r2", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=gateway.base, api_key="x") as stranger:
        stranger.models.list()


def test_a_tenants_limit_is_named_and_says_when(gateway: Any) -> None:
    with openai.OpenAI(base_url=gateway.base, api_key="sk-slow-1", max_retries=0) as client:
        for _ in range(2):
            client.chat.completions.create(model="r2", messages=MESSAGES, max_tokens=4)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="r2", messages=MESSAGES, max_tokens=4)
    assert caught.value.code == "tenant_rpm_exceeded"
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 61


def test_the_cloud_gets_its_own_key_and_model_and_never_the_clients(gateway: Any, clouds: Any, key: str) -> None:
    clouds.set("own", fail="crash")
    try:
        body = {"model": "r2", "messages": MESSAGES, "max_tokens": 4}
        answer = httpx.post(f"{gateway.base}/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] in {"r2-ark", "r2-deepseek"}
        assert int(answer.headers["x-spillgate-attempts"]) >= 1
    finally:
        clouds.set("own", fail="")
