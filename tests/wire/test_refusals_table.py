"""Every refusal that is known of a cloud, with the tables that are shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.upstream import presets
from gateway.wire.dialect import Dialect, Rule, Signal
from gateway.wire.refusals import classify, failed_finish, in_band

WALL = datetime(2026, 11, 24, 4, 0, 30, tzinfo=UTC).timestamp()  # 12:00:30 in Beijing
_TABLE = Path(__file__).with_name("test_refusals_cases.yaml")


def bodies(given: Any) -> list[bytes]:
    if isinstance(given, str):
        return [given.encode()]
    if isinstance(given, dict):
        return [json.dumps(given).encode()]
    codes, message, *kind = given
    found = []
    for code in codes if isinstance(codes, list) else [codes]:
        error = {"message": message, "type": kind[0] if kind else None, "param": None, "code": code or None}
        found.append(json.dumps({"error": error}).encode())
    return found


def cases() -> list[Any]:
    found = []
    for name, rows in yaml.load(_TABLE.read_text(encoding="utf-8"), yaml.CSafeLoader).items():
        for number, (kind, status, given, *more) in enumerate(rows):
            for index, body in enumerate(bodies(given)):
                parameters = (name, kind, status, body, more[0] if more else {})
                found.append(pytest.param(*parameters, id=f"{name}-{number}.{index}-{kind}"))
    return found


def ask(name: str, status: int, body: bytes, headers: dict[str, str]) -> Signal | None:
    dialect = presets.load(name).dialect
    if status == 200:
        return in_band(dialect, body, wall=WALL)
    return classify(dialect, status, headers, body, wall=WALL)


@pytest.mark.parametrize(("name", "kind", "status", "body", "more"), cases())
def test_a_refusal_is_understood(name: str, kind: str, status: int, body: bytes, more: dict[str, Any]) -> None:
    signal = ask(name, status, body, more.get("headers", {}))
    assert signal is not None
    assert signal.kind == kind
    assert signal.limit == more.get("limit")
    assert signal.retry_after == (pytest.approx(more["wait"]) if "wait" in more else None)
    if "code" in more:
        assert signal.code == more["code"]


def test_the_token_limit_of_model_studio_is_not_a_bill_unless_the_text_speaks_of_a_plan() -> None:
    dialect = presets.load("alibaba-model-studio").dialect
    body = b'{"error":{"code":"insufficient_quota","message":"%s"}}'
    assert classify(dialect, 429, {}, body % b"You exceeded your current quota").kind == "tpm"
    assert classify(dialect, 429, {}, body % b"Quota exhausted; it will reset at 2026-12-01 00:00").kind == "quota"


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted"])
def test_a_finish_for_lack_of_capacity_is_a_failure(reason: str) -> None:
    assert failed_finish(presets.load("deepseek").dialect, reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("baidu-qianfan", "normal"), ("baidu-qianfan", "content_filter"), ("ucloud", "normal"), ("deepseek", "length")],
)
def test_an_ordinary_finish_is_none(name: str, reason: str) -> None:
    assert not failed_finish(presets.load(name).dialect, reason)


def marked(rules: tuple[Rule, ...], sign: str) -> tuple[Rule, ...]:
    return tuple(replace(rule, report_as=f"{sign}{number}") for number, rule in enumerate(rules))


def hits(dialect: Dialect, own: str) -> set[str]:
    """Which marked rows speak when the cases of preset `own` are put to a dialect."""
    found = set()
    for case in cases():
        name, _, status, body, _ = case.values
        if name == own:
            signal = in_band(dialect, body) if status == 200 else classify(dialect, status, {}, body)
            found.add(signal.code if signal else "")
    return found


@pytest.mark.parametrize("name", [name for name in presets.names() if presets.load(name).dialect.rules])
def test_every_row_of_a_preset_is_reached_by_a_case(name: str) -> None:
    dialect = presets.load(name).dialect
    like = {"alibaba-model-studio-intl": "alibaba-model-studio", "tencent-lkeap": "tencent-tokenhub"}.get(name, name)
    reached = hits(replace(dialect, rules=marked(dialect.rules, "#")), like)
    assert {f"#{number}" for number in range(len(dialect.rules))} <= reached


def test_every_shared_row_is_reached_by_a_case() -> None:
    dialect = presets.load("openai").dialect
    shared = replace(dialect, fallback=marked(dialect.fallback, "#"))
    reached = set().union(*(hits(shared, name) for name in presets.names()))
    assert {f"#{number}" for number in range(len(dialect.fallback))} <= reached
