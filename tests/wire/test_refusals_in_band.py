"""Errors inside a 200: found where they are, never where an answer only talks about them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.dialect import Dialect, Rule, SignalKind
from gateway.wire.refusals import classify, in_band

PLAIN = Dialect("plain")
TABLE = Dialect(
    "table", rules=(Rule("rpm", status=(429,), codes=("slow_*",)), Rule("tpm", status=(429,), text=("tpm",)))
)

WORDS = [
    '"error"', '{"error":{"code":429}}', '"base_resp":{"status_code":1002}', '"object":"error"', "[DONE]", "data: {}",
    '"choices":[]', "\n\ndata: ", "rate limit", '{"code":1,"message":"no"}', "\\", '"', "\u2028", "超限",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=6).map("".join)
EXTRAS = st.sampled_from(
    [{}, {"error": None}, {"base_resp": {"status_code": 0, "status_msg": ""}}, {"code": 0}, {"error": {}}]
)


def answer(text: str, extra: dict[str, Any], *, chunk: bool) -> dict[str, Any]:
    calls = [{"index": 0, "function": {"name": "error", "arguments": text}}]
    said = {"role": "assistant", "content": text, "reasoning_content": text, "tool_calls": calls}
    logprobs = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": [{"token": "error", "logprob": -0.1}]}]}
    choice = {"index": 0, "delta" if chunk else "message": said, "logprobs": logprobs, "finish_reason": None}
    kind = "chat.completion.chunk" if chunk else "chat.completion"
    return {"id": "x", "object": kind, "model": text, **extra, "choices": [choice]}


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, extra=EXTRAS, chunk=st.booleans(), ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_an_answer_may_talk_about_errors(
    text: str, extra: dict[str, Any], chunk: bool, ascii_only: bool, indent: int | None
) -> None:
    dumped = json.dumps(answer(text, extra, chunk=chunk), ensure_ascii=ascii_only, indent=indent)
    body = dumped.encode("utf-8", "replace")
    assert in_band(PLAIN, body) is None
    if indent is None:
        assert in_band(PLAIN, b": ping\n\ndata: " + body + b"\n\ndata: [DONE]\n\n") is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"  ", b"[DONE]", b"ping", b"<html>busy</html>", b"{", b"{}", b'{"type":"ping"}', b'"', b'"a',
        b"[]", b"\xff\xfe",
        b'{"id":"x","object":"chat.completion.chunk","choices":[]}',
        b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
        b'{"code":0,"message":"ok"}', b'{"code":"200","message":"Success"}', b'{"error":null}', b'{"error":""}',
        b'{"base_resp":{"status_code":0},"choices":[{}]}', b'{"base_resp":7,"choices":[{}]}', b'{"object":"list"}',
        b'{"message":"broken', b'{"error":{"message":"\xff"}}', b'{"error":' + b"[" * 3000,
        b'{"error":' + b"[" * 100000 + b"]" * 100000 + b"}", b": comment\n\n", b"data: [DONE]\n\n",
    ],
)  # fmt: skip
def test_what_is_no_error_or_not_readable_is_left_alone(body: bytes) -> None:
    assert in_band(PLAIN, body) is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"slow down","code":"slow_down"}}', "rpm"),
        (b'data: {"error":{"message":"slow down","code":"slow_down"}}\n\n', "rpm"),
        (
            b': hi\n\ndata: {"choices":[{"delta":{"role":"assistant"}}]}\n\ndata: {"object":"error","code":429}\n\n',
            "invalid",
        ),
        (b'{"error":{"message":"TPM used up"}}', "tpm"),
        (b'{"object":"error","message":"x","code":503}', "server"),
        (b'{"code":"slow_1","message":"x"}', "rpm"),
        (b'{"message":"something","data":null}', "server"),
        (b'{"error_code":"A.1","error_msg":"x"}', "server"),
        (b'{"Response":{"Error":{"Code":"slow_x","Message":"x"}}}', "rpm"),
        (b'{"id":"x","object":"chat.completion","choices":[]}', "server"),
        (b'{"id":"x","choices":null}', "server"),
        (b'{"error":{"odd":1}}', "server"),
        (b'{"choices":[{"delta":{}}],"error":{"code":"slow_"}}', "rpm"),
        (b'"tpm exceeded today"', "tpm"),
        (b' \n\n {"error":"slow_lane"}', "rpm"),
    ],
)
def test_an_error_in_a_200_is_found(body: bytes, kind: str) -> None:
    signal = in_band(TABLE, body)
    assert signal is not None
    assert signal.kind == kind


def test_an_error_in_a_200_keeps_the_status_it_names() -> None:
    for body, status in ((b'{"error":{"code":503}}', 503), (b'{"error":{"code":"busy"}}', 200)):
        signal = in_band(PLAIN, body)
        assert signal is not None
        assert signal.status == status


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "type", "base_resp", "status_code", "choices", "x"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200) | JSONS.map(lambda value: json.dumps(value).encode()), status=st.integers(0, 1000))
def test_whatever_comes_gets_a_kind_and_nothing_raises(body: bytes, status: int) -> None:
    for dialect in (PLAIN, TABLE):
        assert classify(dialect, status, {"Retry-After": body.decode("latin-1"), "x": ""}, body, wall=1e9).kind
        for signal in (in_band(dialect, body), in_band(dialect, b"data: " + body)):
            assert signal is None or signal.kind in get_args(SignalKind)
