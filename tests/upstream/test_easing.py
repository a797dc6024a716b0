"""The switches of every preset, as they arrive at the cloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.ladder import EFFORTS, Form
from gateway.upstream import presets
from gateway.wire.chat import parse

BODY = b'{"model":"r2","messages":[1],"max_tokens":9000,"reasoning_effort":"max"}'
DISABLED = {"thinking": {"type": "disabled"}}
TEMPLATE = {"chat_template_kwargs": {"thinking": False, "enable_thinking": False}}
SWITCHES: dict[str, dict[str, Any]] = {
    "deepseek": DISABLED, "volcengine-ark": DISABLED, "tencent-tokenhub": DISABLED, "ucloud": DISABLED,
    "alibaba-model-studio": {"enable_thinking": False}, "alibaba-model-studio-intl": {"enable_thinking": False},
    "siliconflow": {"enable_thinking": False},
    "vllm": TEMPLATE, "sglang": TEMPLATE, "llamacpp": TEMPLATE,
}  # fmt: skip
KNOWN = {
    "deepseek": EFFORTS, "volcengine-ark": EFFORTS, "vllm": EFFORTS, "sglang": EFFORTS,
    "alibaba-model-studio": ("high",), "alibaba-model-studio-intl": ("high",),
}  # fmt: skip


def sent(name: str, form: Form) -> tuple[dict[str, Any], tuple[str, ...]]:
    chat, easing = parse(BODY).eased(form, "")
    more, told = easing.fields(presets.load(name).dialect)
    return json.loads(chat.body(b'"id"', ask_usage=False, more=more)), told


@pytest.mark.parametrize("name", presets.names())
def test_thinking_goes_off_in_the_clouds_own_dialect_or_the_step_is_not_claimed(name: str) -> None:
    body, told = sent(name, Form(max_tokens=2000, thinking_off=True))
    switch = SWITCHES.get(name)
    reasoning: dict[str, Any] = {"reasoning_effort": "max"} if switch is None else switch
    assert body == {"model": "id", "messages": [1], "max_tokens": 2000, **reasoning}
    assert told == (() if switch is None else ("thinking=off",))


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", presets.names())
def test_effort_is_lowered_where_the_cloud_knows_the_word(name: str, effort: Any) -> None:
    body, told = sent(name, Form(effort=effort))
    known = effort in KNOWN.get(name, ())
    assert body["reasoning_effort"] == (effort if known else "max")
    assert told == ((f"reasoning_effort={effort}",) if known else ())
