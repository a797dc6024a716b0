from __future__ import annotations

import json

import pytest

from gateway.core.nouns import Usage
from gateway.wire.usage import read_usage, summarise


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, 5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 8}, Usage(10, 5, cached=8)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}, Usage(10, 5, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 3}, Usage(10, 5, 3)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(0, 5, reasoning=4)),
        ({"prompt_tokens": 1, "completion_tokens_details": {}, "prompt_tokens_details": {}}, Usage(1, 0)),
        ({"total_tokens": 3}, None),
        (None, None),
    ],
)
def test_both_usage_dialects_are_read(usage: object, expected: Usage | None) -> None:
    body = json.dumps({"choices": [{"finish_reason": "stop"}], "usage": usage}).encode()
    summary = summarise(body)
    assert summary is not None
    assert summary.usage == expected


def test_no_usage_is_no_usage() -> None:
    assert read_usage(None) is None


def test_a_summary_tells_finish_and_whether_there_is_an_answer() -> None:
    assert summarise(b'{"choices":[{"finish_reason":null},{"finish_reason":"length"}]}') is not None
    summary = summarise(b'{"choices":[{"finish_reason":"length"}]}')
    assert summary is not None
    assert (summary.finish, summary.has_choices) == ("length", True)
    empty = summarise(b'{"choices":[]}')
    assert empty is not None
    assert not empty.has_choices


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"choices":3}'])
def test_what_is_not_an_answer_has_no_summary(body: bytes) -> None:
    assert summarise(body) is None
