"""Our bytes as litellm's arguments, and its answers as our bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.wire import foreign, sse
from gateway.wire.usage import summarise

STEERING = """
api_base base_url api_key api_version custom_llm_provider mock_response fallbacks extra_headers extra_body metadata
callbacks success_callback num_retries timeout aws_bedrock_runtime_endpoint vertex_credentials model_list client no-log
acompletion headers organization
"""


def test_what_openai_knows_is_passed_on_and_nothing_that_steers_litellm() -> None:
    steering = dict.fromkeys(STEERING.split(), "http://127.0.0.1:9")
    fields = {"model": "anthropic/x", "messages": [], "temperature": 0.5, "tools": [{"type": "function"}]}
    assert foreign.arguments(json.dumps({**fields, **steering}).encode()) == fields


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"content":"\xff"}]}',
        b'{"model":"m","tools":[{"type":"mcp","server_url":"litellm_proxy/x"}]}',
        b'{"model":"m","tools":["mcp"]}',
        b'{"model":"m","tools":7}',
        b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_what_must_not_reach_litellm_is_refused_in_words_for_the_client(body: bytes) -> None:
    with pytest.raises(foreign.NotForLitellm, match=r"valid JSON|'tools'"):
        foreign.arguments(body)


def test_a_whole_answer_is_openais_without_litellms_own_fields() -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "provider_specific_fields": {"a": 1}}
    answer: dict[str, Any] = {
        "id": "1",
        "system_fingerprint": None,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}, {"index": 1}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.1, "iterations": None},
    }
    body = foreign.whole(answer)
    assert json.loads(body) == {
        "id": "1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": None, "reasoning_content": "hm"},
                "finish_reason": "stop",
            },
            {"index": 1, "message": {"content": None}, "finish_reason": None},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    summary = summarise(body)
    assert summary is not None
    assert (summary.finish, summary.has_choices) == ("stop", True)


@pytest.mark.parametrize(
    ("chunk", "kind"),
    [
        ({"choices": [{"index": 0, "delta": {"content": "a"}}]}, "token"),
        ({"choices": [{"index": 0, "delta": {"reasoning_content": "a", "content": ""}}]}, "token"),
        ({"choices": ({"index": 0, "finish_reason": "stop"},)}, "finish"),
        ({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 1}}, "usage"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 1}}, "usage"),
    ],
)
def test_a_chunk_is_a_frame_that_the_relay_understands(chunk: dict[str, Any], kind: str) -> None:
    frame = foreign.frame(chunk)
    assert sse.frames(frame) == [frame]
    assert sse.read(frame).kind == kind
    assert b"cost" not in frame
    assert all("finish_reason" in choice for choice in json.loads(frame[6:])["choices"])


SAID = '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'


@pytest.mark.parametrize(
    ("said", "type_", "message"),
    [
        (SAID, "overloaded_error", "Overloaded"),
        (f"b'{SAID}'", "overloaded_error", "Overloaded"),
        (f"litellm.InternalServerError: AnthropicError - {SAID}", "overloaded_error", "Overloaded"),
        (f"litellm.A: litellm.BadRequestError: AnthropicException - b'{SAID}'", "overloaded_error", "Overloaded"),
        ("litellm.Timeout: it took too long", "", "it took too long"),
        ("", "", ""),
        ("litellm.A: it broke. Traceback (most recent call last): File /home/me", "", "it broke."),
        ("the key sk-secret-1 is wrong", "", "the key [key] is wrong"),
    ],
)
def test_a_refusal_has_litellms_name_and_the_clouds_own_words(said: str, type_: str, message: str) -> None:
    body = json.loads(foreign.refusal("SomeError", said, ("", "sk-secret-1")))
    assert body == {"error": {"code": "SomeError", "type": type_, "message": message}}
