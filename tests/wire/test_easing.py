"""A lighter request: what is lowered, in whose words, and that nothing is ever raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ladder import EFFORTS, Form
from gateway.wire.chat import parse
from gateway.wire.dialect import Dialect

MESSAGES = [{"role": "user", "content": "hi"}]
SWITCH = Dialect("switch", thinking_off={"thinking": {"type": "disabled"}}, efforts=frozenset({"low", "high"}))
TEMPLATE = Dialect("template", thinking_off={"chat_template_kwargs": {"enable_thinking": False}})
PLAIN = Dialect("plain")


def eased(form: Form, dialect: Dialect = PLAIN, **fields: object) -> tuple[dict[str, Any], int | None, tuple[str, ...]]:
    """The body that leaves, the limit that is reckoned with, and what the client is told."""
    raw = json.dumps({"model": "r2", "messages": MESSAGES, **fields}).encode()
    chat, easing = parse(raw).eased(form, "")
    more, easing.told["cloud"] = easing.fields(dialect)
    body = chat.body(b'"id"', ask_usage=False, more=more)
    assert body.count(b'"max_tokens"') <= 1
    sent = json.loads(body)
    assert (sent.pop("model"), sent.pop("messages")) == ("id", MESSAGES)
    return sent, chat.max_tokens, easing.words("cloud", "r2")


@pytest.mark.parametrize(
    ("fields", "sent", "limit", "told"),
    [
        ({}, {"max_tokens": 100}, 100, ("max_tokens=100",)),
        ({"max_tokens": None}, {"max_tokens": 100}, 100, ("max_tokens=100",)),
        ({"max_tokens": 101}, {"max_tokens": 100}, 100, ("max_tokens=100",)),
        ({"max_tokens": 100}, {"max_tokens": 100}, 100, ()),
        ({"max_tokens": 7}, {"max_tokens": 7}, 7, ()),
        ({"max_completion_tokens": 900}, {"max_completion_tokens": 100}, 100, ("max_tokens=100",)),
        ({"max_completion_tokens": 50}, {"max_completion_tokens": 50}, 50, ()),
        (
            {"max_completion_tokens": 50, "max_tokens": 900},
            {"max_completion_tokens": 50, "max_tokens": 100},
            50,
            ("max_tokens=100",),
        ),
    ],
)
def test_the_answer_is_capped_by_whichever_name_its_limit_has(
    fields: dict[str, object], sent: dict[str, object], limit: int, told: tuple[str, ...]
) -> None:
    assert eased(Form(100), **fields) == (sent, limit, told)


@pytest.mark.parametrize(
    ("dialect", "fields", "effort", "sent", "told"),
    [
        (SWITCH, {}, "low", {"reasoning_effort": "low"}, True),
        (SWITCH, {"reasoning_effort": None}, "low", {"reasoning_effort": "low"}, True),
        (SWITCH, {"reasoning_effort": "max"}, "high", {"reasoning_effort": "high"}, True),
        (SWITCH, {"reasoning_effort": "low"}, "low", {"reasoning_effort": "low"}, False),
        (SWITCH, {"reasoning_effort": "minimal"}, "low", {"reasoning_effort": "minimal"}, False),
        (SWITCH, {"reasoning_effort": "high"}, "medium", {"reasoning_effort": "high"}, False),
        (SWITCH, {"reasoning_effort": "odd"}, "low", {"reasoning_effort": "odd"}, False),
        (SWITCH, {"reasoning_effort": 3}, "low", {"reasoning_effort": 3}, False),
        (PLAIN, {"reasoning_effort": "high"}, "low", {"reasoning_effort": "high"}, False),
        (SWITCH, {"thinking": {"type": "disabled"}}, "low", {"thinking": {"type": "disabled"}}, False),
    ],
)
def test_effort_is_lowered_where_the_word_is_known_and_never_raised(
    dialect: Dialect, fields: dict[str, object], effort: Any, sent: dict[str, object], told: bool
) -> None:
    assert eased(Form(effort=effort), dialect, **fields) == (
        sent,
        None,
        (f"reasoning_effort={effort}",) if told else (),
    )


@pytest.mark.parametrize(
    ("dialect", "fields", "sent", "told"),
    [
        (SWITCH, {}, {"thinking": {"type": "disabled"}}, True),
        (
            SWITCH,
            {"thinking": {"type": "enabled", "budget": 9}, "reasoning_effort": "high", "thinking_budget": 4},
            {"thinking": {"type": "disabled", "budget": 9}},
            True,
        ),
        (SWITCH, {"thinking": "odd"}, {"thinking": {"type": "disabled"}}, True),
        (SWITCH, {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, False),
        (
            SWITCH,
            {"chat_template_kwargs": {"a": 1}},
            {"chat_template_kwargs": {"a": 1}, "thinking": {"type": "disabled"}},
            True,
        ),
        (
            TEMPLATE,
            {"chat_template_kwargs": {"enable_thinking": True, "a": 1}},
            {"chat_template_kwargs": {"enable_thinking": False, "a": 1}},
            True,
        ),
        (PLAIN, {"enable_thinking": True}, {"enable_thinking": True}, False),
    ],
)
def test_thinking_is_switched_off_where_there_is_a_switch(
    dialect: Dialect, fields: dict[str, object], sent: dict[str, object], told: bool
) -> None:
    form = Form(thinking_off=True)
    assert eased(form, dialect, **fields) == (sent, None, ("thinking=off",) if told else ())


def test_where_thinking_cannot_be_switched_off_its_effort_is_lowered() -> None:
    low_only = Dialect("low", efforts=frozenset({"low"}))
    assert eased(Form(effort="low", thinking_off=True), low_only)[2] == ("reasoning_effort=low",)


def test_a_model_that_answers_instead_is_named_first() -> None:
    chat, easing = parse(json.dumps({"model": "r2", "messages": MESSAGES}).encode()).eased(Form(5, model="lite"), "r2")
    assert easing.words("", "lite") == ("model=lite", "max_tokens=5")
    assert (chat.model, chat.max_tokens) == ("r2", 5)
    assert "Form" in repr(easing)


def test_what_is_no_text_gives_way_where_the_word_is_known_and_passes_where_it_is_not() -> None:
    chat, easing = parse(b'{"model":"r2","messages":[1],"reasoning_effort":"\xff"}').eased(Form(effort="low"), "")
    assert easing.fields(SWITCH) == (b',"reasoning_effort":"low"', ("reasoning_effort=low",))
    assert easing.fields(PLAIN) == (b',"reasoning_effort":"\xff"', ())
    assert chat.body(b'"id"', ask_usage=False) == b'{"model":"id","messages":[1]}'


forms = st.builds(
    Form,
    max_tokens=st.none() | st.integers(1, 300),
    effort=st.none() | st.sampled_from(EFFORTS),
    thinking_off=st.booleans(),
)
words = st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"])
RANKS = ["none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"]


@given(
    forms,
    st.sampled_from([SWITCH, TEMPLATE, PLAIN]),
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.none() | st.integers(1, 400),
            "max_completion_tokens": st.none() | st.integers(1, 400),
            "reasoning_effort": words,
            "temperature": st.floats(0, 2),
            "tools": st.just([{"type": "function"}]),
        },
    ),
)
def test_nothing_is_raised_lost_or_changed_untold(form: Form, dialect: Dialect, fields: dict[str, Any]) -> None:
    sent, limit, told = eased(form, dialect, **fields)
    before = [fields[n] for n in ("max_tokens", "max_completion_tokens") if fields.get(n) is not None]
    after = [sent[n] for n in ("max_tokens", "max_completion_tokens") if sent.get(n) is not None]
    if before:
        assert min(after) <= min(before)
        assert limit is not None
        assert limit <= before[-1]
    if form.max_tokens is not None:
        assert all(value <= form.max_tokens for value in after)
    if "reasoning_effort" in fields and "reasoning_effort" in sent:
        assert RANKS.index(sent["reasoning_effort"]) <= RANKS.index(fields["reasoning_effort"])
    assert {n: sent.get(n) for n in ("temperature", "tools")} == {n: fields.get(n) for n in ("temperature", "tools")}
    assert bool(told) == (sent != fields)
