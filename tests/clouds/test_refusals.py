"""The clouds' refusals, and whether the gateway's refusal tables understand them."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from gateway.clouds.profiles import DialectName, Style
from gateway.clouds.refusals import ABSURD, failure, refuse
from gateway.clouds.tickets import Kind, Refused
from gateway.upstream.presets import load
from gateway.wire.refusals import classify

DIALECTS: tuple[DialectName, ...] = get_args(DialectName)
KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "crash")
PRESETS = {
    "dashscope": "alibaba-model-studio",
    "ark": "volcengine-ark",
    "tokenhub": "tencent-tokenhub",
    "qianfan": "baidu-qianfan",
    "huawei": "huawei-maas",
}
LIMIT_OF = {"rpm": "rpm", "tpm": "tpm", "concurrency": "streams", "burst": "ramp", "quota": "daily"}

# Clouds that do not tell these apart: what is refused for the first reason reads like the second.
BLURRED: set[tuple[str, str, str]] = {
    *((dialect, "burst", "rpm") for dialect in DIALECTS if dialect not in {"dashscope", "ark", "minimax"}),
    *((dialect, "concurrency", "rpm") for dialect in ("tokenhub", "qianfan", "huawei", "zhipu")),
    *((dialect, "burst", "concurrency") for dialect in ("deepseek",)),
    *((dialect, "rpm", "concurrency") for dialect in ("deepseek", "zhipu")),
    ("zhipu", "tpm", "rpm"),
    ("qianfan", "timeout", "server"),
    ("minimax", "not_found", "invalid"),
    ("deepseek", "not_found", "invalid"),
    ("deepseek", "content", "invalid"),
    ("deepseek", "quota", "invalid"),
}


def body(dialect: DialectName, kind: Kind, **more: Any) -> Any:
    return json.loads(refuse(dialect, Refused(kind, **more), Style(), "req-1").body)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gateway_understands_what_the_cloud_meant(dialect: DialectName, kind: Kind) -> None:
    refused = Refused(kind, LIMIT_OF.get(kind, ""), 30, 30, 2.0)
    told = refuse(dialect, refused, Style(retry_after="seconds"), "req-1")
    preset = load(PRESETS.get(dialect, dialect))
    read = classify(preset.dialect, told.status, dict(told.headers), told.body).kind
    assert read == kind or (dialect, kind, read) in BLURRED


@pytest.mark.parametrize(
    ("dialect", "kind", "status", "path", "value"),
    [
        ("deepseek", "quota", 402, "error.message", "Insufficient Balance"),
        ("dashscope", "quota", 400, "error.code", "Arrearage"),
        ("dashscope", "burst", 429, "error.code", "limit_burst_rate"),
        ("ark", "overloaded", 429, "error.code", "ServerOverloaded"),
        ("ark", "concurrency", 429, "error.code", "InflightBatchsizeExceeded"),
        ("tokenhub", "rpm", 429, "error.code", "429001"),
        ("tokenhub", "overloaded", 502, "error.source", "upstream"),
        ("qianfan", "overloaded", 429, "error.code", "cluster_rate_limit_exceeded"),
        ("qianfan", "not_found", 401, "error.code", "invalid_model"),
        ("huawei", "rpm", 429, "error_msg", "The request exceeded rate limit is 30 times per minute."),
        ("siliconflow", "not_found", 400, "code", 20012),
        ("moonshot", "overloaded", 429, "error.type", "engine_overloaded_error"),
        ("minimax", "rpm", 200, "base_resp.status_code", 1002),
        ("zhipu", "quota", 429, "error.code", "1113"),
        ("vllm", "server", 500, "object", "error"),
        ("sglang", "overloaded", 503, "message", "Request queue timeout reached."),
        ("openai", "quota", 429, "error.code", "insufficient_quota"),
    ],
)
def test_every_cloud_refuses_in_its_own_words(
    dialect: DialectName, kind: Kind, status: int, path: str, value: object
) -> None:
    told = refuse(dialect, Refused(kind, number=30), Style(), "req-1")
    found = json.loads(told.body)
    for part in path.split("."):
        found = found[part]
    assert (told.status, found) == (status, value)
    assert dict(told.headers)["x-request-id"] == "req-1"


def test_a_siliconflow_429_has_no_code_at_all() -> None:
    assert "code" not in body("siliconflow", "tpm")


def test_deepseek_names_the_limit_that_it_holds_one_to() -> None:
    message = body("deepseek", "concurrency", number=39, seen=39)["error"]["message"]
    assert "concurrency is 40, which exceeds your concurrency limit of 39" in message


@pytest.mark.parametrize(("style", "told"), [("none", None), ("seconds", "3"), ("absurd", str(ABSURD))])
def test_retry_after_comes_in_three_tempers(style: Any, told: str | None) -> None:
    headers = dict(refuse("openai", Refused("rpm", retry_after=2.2), Style(retry_after=style), "r").headers)
    assert headers.get("retry-after") == told


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_frame_can_be_told_from_a_chunk(dialect: DialectName) -> None:
    frame = json.loads(failure(dialect, "req-1"))
    assert "choices" not in frame or frame["choices"] is None
    assert {"error", "error_code", "code", "base_resp"} & set(frame)
