"""Rate-limit headers as facts: what is there is read, what is odd is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.nouns import Advertised
from gateway.upstream import presets
from gateway.wire import rateheaders
from gateway.wire.dialect import Dialect

QIANFAN = {
    "X-Ratelimit-Limit-Requests": "300",
    "X-Ratelimit-Remaining-Requests": "299",
    "X-Ratelimit-Limit-Tokens": "20000",
    "X-Ratelimit-Remaining-Tokens": "0",
}
OPENAI = {
    "x-ratelimit-limit-requests": "60, 60;w=60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}


@pytest.mark.parametrize(
    ("preset", "headers", "expected"),
    [
        ("baidu-qianfan", QIANFAN, (Advertised("a", "rpm", 300, 299), Advertised("a", "tpm", 20000, 0))),
        ("openai", OPENAI, (Advertised("a", "rpm", 60, 59, 1.0), Advertised("a", "tpm", 150000, 149984, 360.0))),
        ("openai", {"X-RateLimit-Limit-Requests": "60"}, (Advertised("a", "rpm", 60),)),
        ("openai", {"x-ratelimit-reset-requests": "1s"}, ()),
        ("openai", {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "-1"}, ()),
        ("moonshot", {"X-RateLimit-Remaining": "2", "X-RateLimit-Reset": "7"}, (Advertised("a", "rpm", None, 2, 7.0),)),
        (
            "moonshot",
            {"X-RateLimit-Remaining": "2", "X-RateLimit-Reset": "1795492830"},
            (Advertised("a", "rpm", None, 2),),
        ),
        ("modelscope", {"modelscope-ratelimit-requests-remaining": "1999"}, ()),
        ("modelscope", {"modelscope-ratelimit-requests-remaining": "0"}, (Advertised("a", "rpm", remaining=0),)),
        ("modelscope", {"Modelscope-Ratelimit-Model-Requests-Remaining": "0"}, (Advertised("a", "rpm", remaining=0),)),
        ("deepseek", OPENAI, ()),
    ],
)
def test_headers_become_facts(preset: str, headers: dict[str, str], expected: tuple[Advertised, ...]) -> None:
    assert rateheaders.read(presets.load(preset).dialect, headers, "a") == expected


@settings(max_examples=100, deadline=None)
@given(value=st.text(max_size=30))
def test_odd_headers_never_raise(value: str) -> None:
    headers = dict.fromkeys(OPENAI, value)
    for fact in rateheaders.read(presets.load("openai").dialect, headers, "a"):
        assert fact.account == "a"


def test_every_meaning_a_preset_uses_is_known() -> None:
    for name in presets.names():
        assert set(presets.load(name).dialect.rate_headers) <= rateheaders.MEANINGS


def test_a_cloud_without_such_headers_costs_nothing() -> None:
    class Untouchable(dict[str, str]):
        def items(self) -> object:  # type: ignore[override]
            raise AssertionError

    assert rateheaders.read(Dialect("plain"), Untouchable(), "a") == ()


def test_an_answer_without_any_of_its_clouds_headers_says_nothing() -> None:
    dialect = Dialect("x", rate_headers={"limit-requests": "X-Limit"})
    assert rateheaders.read(dialect, {"content-type": "text/plain"}, "a") == ()
