"""What follows from a refusal: the dispatcher's outcome, and what a client may see of it."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.nouns import Failed, Limited, Outcome, Overloaded, Rejected, Unusable
from gateway.wire import complaint
from gateway.wire.dialect import Dialect, Rule, Signal, SignalKind
from gateway.wire.refusals import classify, client_error, outcome


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rpm", Limited("rpm", 3.0, 9.0)),
        ("tpm", Limited("tpm", 3.0, 9.0)),
        ("burst", Limited("burst", 3.0, 9.0)),
        ("concurrency", Limited("concurrency", 3.0, 9.0)),
        ("quota", Limited("quota", 3.0, 9.0)),
        ("overloaded", Overloaded(3.0)),
        ("timeout", Failed("timeout")),
        ("server", Failed("server")),
        ("auth", Unusable("auth")),
        ("not_found", Unusable("not_found")),
        ("content", Rejected("content")),
        ("invalid", Rejected("invalid")),
    ],
)
def test_each_kind_has_its_outcome(kind: SignalKind, expected: Outcome) -> None:
    assert outcome(Signal(kind, 429, retry_after=3.0, limit=9.0)) == expected


def test_code_comes_before_text_and_text_before_status_in_each_table() -> None:
    dialect = Dialect(
        "x",
        rules=(
            Rule("rpm", status=(429,)),
            Rule("tpm", text=("tokens",), status=(429,)),
            Rule("quota", codes=("bill",)),
        ),
        fallback=(
            Rule("auth", codes=("key",)),
            Rule("burst", text=("ramp",), status=(429,)),
            Rule("server", status=(500,)),
        ),
    )
    said = b'{"error":{"code":"%s","message":"%s"}}'
    for code, message, status, kind in [
        (b"bill", b"tokens ramp", 429, "quota"),
        (b"other", b"tokens ramp", 429, "tpm"),
        (b"key", b"tokens", 429, "tpm"),
        (b"key", b"ramp", 429, "auth"),
        (b"other", b"ramp", 429, "burst"),
        (b"other", b"other", 429, "rpm"),
        (b"other", b"tokens", 500, "server"),
        (b"other", b"tokens", 404, "invalid"),
    ]:
        assert classify(dialect, status, {}, said % (code, message)).kind == kind


def test_the_code_counts_before_the_type() -> None:
    dialect = Dialect("x", rules=(Rule("invalid", codes=("bad",)), Rule("auth", codes=("key",))))
    assert classify(dialect, 400, {}, b'{"error":{"type":"bad","code":"key"}}').kind == "auth"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"code":1,"type":"t","message":"m"}}', "1", "m"),
        (b'{"error":{"type":"t","message":"m"}}', "t", "m"),
        (b'{"error":"some_code","message":"m"}', "some_code", "m"),
        (b'{"error":"a sentence"}', "", "a sentence"),
        (b'{"error_code":"A.1","error_msg":"m"}', "A.1", "m"),
        (b'[{"error":{"code":400.0,"message":"m"}}]', "400", "m"),
        (b'{"code":true,"message":["x"],"msg":"m"}', "", "m"),
        (b'{"code":["x"],"message":" ","type":"t"}', "t", "t"),
        (b'"only words here"', "", "only words here"),
        (b"<html><h1>502</h1>\n Bad <b>Gateway</b></html>", "", "502 Bad Gateway"),
        (b"", "", ""),
        (b"[]", "", ""),
        (b"7", "", "7"),
        (b'{"error":[]}', "", ""),
    ],
)
def test_code_and_message_are_found_in_every_shape(body: bytes, code: str, message: str) -> None:
    said = complaint.read(body)
    assert (said.code, said.message) == (code, message)


def test_a_content_refusal_goes_back_as_one() -> None:
    status, type_, code, message = client_error(Signal("content", 451, "1026", "secret words"))
    assert (status, type_, code) == (400, "invalid_request_error", "content_filter")
    assert "secret" not in message


@pytest.mark.parametrize(("given", "status"), [(400, 400), (413, 413), (422, 422), (405, 400), (200, 400)])
def test_an_invalid_request_keeps_a_status_that_says_more(given: int, status: int) -> None:
    assert client_error(Signal("invalid", given, "x", "y"))[0] == status


def test_an_invalid_request_is_told_in_the_clouds_words() -> None:
    said = client_error(Signal("invalid", 400, "invalid_top_p", "top_p must be below 1"))
    assert said == (400, "invalid_request_error", "invalid_top_p", "top_p must be below 1")
    bare = client_error(Signal("invalid", 400, "1214", ""))
    assert bare[2:] == ("invalid_request", "The cloud says that this request is not valid.")


@pytest.mark.parametrize("kind", sorted(set(get_args(SignalKind)) - {"content", "invalid"}))
def test_other_troubles_are_never_told_in_the_clouds_words(kind: SignalKind) -> None:
    status, _, code, message = client_error(Signal(kind, 402, "Arrearage", "account 1234 of ACME is overdue"))
    assert status in {429, 502, 503, 504}
    assert "Arrearage" not in code
    assert "ACME" not in message


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("bad key sk-abcdef0123456789", "sk-abc"),
        ("Bearer abc.def was refused", "abc.def"),
        ("api_key=hunter2 is wrong", "hunter2"),
        ("see https://user:pass@host/x?y=1 now", "user:pass"),
        ("at http://10.0.0.5:8000/v1 it failed", "10.0.0.5"),
        ("<script>alert(1)</script> no", "<script"),
        ("a < b > c", "<"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIi is old", "eyJ"),
        ("id 0123456789abcdef0123456789abcdef", "0123456789abcdef"),
        ("line\r\nSet-Cookie: x\x00\x1b[31m", "\n"),
    ],
)
def test_a_message_for_a_client_is_cleaned(text: str, gone: str) -> None:
    assert gone not in complaint.presentable(text)


def test_ordinary_words_stay() -> None:
    for text in ("Unsupported value: continue_final_message_with_add_generation_prompt.", "参数top_p超过1，请检查" * 5):
        assert complaint.presentable(text) == text


def test_a_message_made_to_be_slow_is_cleaned_quickly() -> None:
    for text in ("a-" * 2000, "<" * 4000, "sk-" * 1300, "a://" * 1000):
        assert len(complaint.presentable(text)) <= complaint.MAX_SHOWN


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=900) | st.text("<>a:/ sk-", max_size=900))
def test_a_cleaned_message_is_short_and_plain(text: str) -> None:
    clean = complaint.presentable(text)
    assert len(clean) <= complaint.MAX_SHOWN
    assert clean.isprintable()
    assert not {"<", ">"} & set(clean)
