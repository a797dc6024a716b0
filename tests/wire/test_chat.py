from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ladder import Form
from gateway.errors import BadRequest
from gateway.wire.chat import parse

MESSAGES = [{"role": "user", "content": "hi"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OURS = {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools"}


def encode(**fields: object) -> bytes:
    return json.dumps({"model": "r2", "messages": MESSAGES, **fields}, ensure_ascii=False).encode()


@given(st.dictionaries(st.text(max_size=10).filter(lambda k: k not in OURS), JSON, max_size=5))
def test_fields_we_do_not_know_pass_through_untouched(extra: dict[str, object]) -> None:
    out = json.loads(parse(encode(**extra)).body(b'"cloud-id"', ask_usage=True))
    assert out == {"model": "cloud-id", "messages": MESSAGES, **extra}


def test_a_streamed_request_asks_for_usage_when_the_cloud_needs_to_be_asked() -> None:
    chat = parse(encode(stream=True))
    assert json.loads(chat.body(b'"x"', ask_usage=True))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in json.loads(chat.body(b'"x"', ask_usage=False))
    assert not chat.include_usage


def test_stream_options_of_the_client_are_kept_and_added_to() -> None:
    chat = parse(encode(stream=True, stream_options={"include_usage": False, "other": 1}))
    assert json.loads(chat.body(b'"x"', ask_usage=True))["stream_options"] == {"include_usage": True, "other": 1}
    assert json.loads(chat.body(b'"x"', ask_usage=False))["stream_options"] == {"include_usage": False, "other": 1}


def test_a_client_that_asks_for_usage_is_remembered() -> None:
    assert parse(encode(stream=True, stream_options={"include_usage": True})).include_usage


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": 9}, 7),
        ({"max_tokens": None}, None),
        ({}, None),
    ],
)
def test_the_output_limit_is_read_from_either_field(fields: dict[str, object], limit: int | None) -> None:
    assert parse(encode(**fields)).max_tokens == limit


def test_tools_count_towards_the_prompt() -> None:
    assert parse(encode(tools=[{"type": "function"}])).prompt_bytes > parse(encode()).prompt_bytes


@pytest.mark.parametrize(("value", "stream"), [("true", True), ("false", False), ("null", False)])
def test_stream_is_true_false_or_null(value: str, stream: bool) -> None:
    body = b'{"model":"r2","messages":[1],"stream": ' + value.encode() + b"}"
    assert parse(body).stream is stream


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'{"model":"r2"', "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b'{"messages":[1]}', "missing_model", "model"),
        (b'{"model":"","messages":[1]}', "invalid_type", "model"),
        (b'{"model":7,"messages":[1]}', "invalid_type", "model"),
        (b'{"model":"\xff","messages":[1]}', "invalid_json", "model"),
        (b'{"model":"r2"}', "invalid_messages", "messages"),
        (b'{"model":"r2","messages":"hi"}', "invalid_messages", "messages"),
        (b'{"model":"r2","messages":[ ]}', "invalid_messages", "messages"),
        (encode(stream="yes"), "invalid_type", "stream"),
        (encode(stream_options=3), "invalid_type", "stream_options"),
        (encode(max_tokens=0), "invalid_value", "max_tokens"),
        (encode(max_tokens=True), "invalid_value", "max_tokens"),
        (encode(max_completion_tokens="9"), "invalid_value", "max_completion_tokens"),
    ],
)
def test_what_cannot_be_understood_names_the_field(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(body)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_null_stream_options_are_no_options() -> None:
    assert b"stream_options" not in parse(encode(stream_options=None)).body(b'"x"', ask_usage=False)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_chat_or_a_bad_request(body: bytes) -> None:
    try:
        parse(body)
    except BadRequest as error:
        assert error.http_status == 400


def test_our_word_for_the_user_takes_the_place_of_the_clients_own() -> None:
    chat = parse(encode(user_id="mine", user="also mine"))
    assert chat.user_id == b'"mine"'
    assert json.loads(chat.body(b'"x"', ask_usage=True, user_id=b'"ours"')) == {
        "model": "x", "messages": MESSAGES, "user_id": "ours", "user": "also mine",
    }  # fmt: skip


def test_a_user_who_is_told_to_no_cloud_passes_as_he_came() -> None:
    body = parse(encode(user_id={"any": 1}, stream=True)).body(b'"x"', ask_usage=True)
    assert body.count(b'"user_id"') == 1
    assert json.loads(body)["user_id"] == {"any": 1}


def test_a_request_for_many_keeps_the_usage_that_its_own_client_did_not_ask_for() -> None:
    chat = parse(b'{"model":"m","messages":[{}],"stream":true}')
    many = chat.for_many()
    assert (chat.keeps_usage, many.keeps_usage, many.include_usage) == (False, True, False)
    assert many.body(b'"x"', ask_usage=True) == chat.body(b'"x"', ask_usage=True)


def test_what_is_asked_is_the_body_without_its_model_and_stream_options() -> None:
    chat = parse(b'{"user_id":"u","model":"m","messages":[{}],"stream_options":{},"seed":1}')
    assert json.loads(chat.fields()) == {"messages": [{}], "seed": 1, "user_id": "u"}
    assert json.loads(parse(b'{"model":"m","messages":[{}]}').fields()) == {"messages": [{}]}


def test_a_lighter_request_knows_what_was_asked_in_full() -> None:
    chat = parse(b'{"model":"m","messages":[{}],"reasoning_effort":"high"}')
    form = Form(max_tokens=5, effort="low")
    lighter, easing = chat.eased(form, "")
    assert (chat.full, lighter.full, easing.form) == (None, chat, form)
