"""CEL conditions: what they see, what is refused when the document is read, and that they never raise."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from gateway.core.nouns import Request
from gateway.policy import conditions
from gateway.policy.conditions import ConditionError, compile_condition

REQUEST = Request("1", "acme", "r2", "interactive", prompt_bytes=7000, max_tokens=100, stream=True, arrived=0.0)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('request.class == "interactive"', True),
        ('request.class != "interactive"', False),
        ('request.model == "r2" && request.tenant in ["acme", "zeta"]', True),
        ("request.stream", True),
        ("request.prompt_tokens == 2000", True),
        ("request.max_tokens < 50", False),
        ('request.tenant.startsWith("ac") || size(request.model) > 9', True),
        ('["a", "r2"].exists(name, name == request.model)', True),
        ('request.model == "request.nothing" // request.nothing', False),
        ("!request.stream", False),
        ("true", True),
    ],
)
def test_a_condition_sees_the_request(text: str, answer: bool) -> None:
    assert compile_condition(text)(REQUEST) is answer


def test_a_condition_that_fails_for_a_request_is_false_for_it() -> None:
    condition = compile_condition("request.max_tokens > 10")
    assert condition(REQUEST) is True
    assert condition(replace(REQUEST, max_tokens=None)) is False


def test_a_condition_can_ask_whether_there_is_a_maximum() -> None:
    condition = compile_condition("request.max_tokens == null || request.max_tokens > 10")
    assert condition(replace(REQUEST, max_tokens=None)) is True


def test_conditions_with_one_text_are_equal() -> None:
    first, second = compile_condition("request.stream"), compile_condition("request.stream")
    assert first == second
    assert hash(first) == hash(second)
    assert first != compile_condition("!request.stream")
    assert first != "request.stream"


def test_the_library_is_shared_with_whoever_has_imported_it() -> None:
    compile_condition("true")
    assert conditions._library.__wrapped__() is sys.modules["cel.cel"]


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("request.class ==", "not a CEL expression: mismatched input '<EOF>' at character", ""),
        ("9" * 40, "not a CEL expression", ""),
        ("(" * 300 + "1" + ")" * 300, "not a CEL expression", ""),
        ("x" * 1001, "too long", "at most 1000"),
        ("request.klass == 'a'", "no field 'klass'", "'class'"),
        ("request", "with a field", "request.class"),
        ("request['class'] == 'a'", "with a field", "request.class"),
        ("tenant == 'a'", "unknown name 'tenant'", "'request.tenant'?"),
        ("time > 5", "unknown name 'time'", "expected one of request.model"),
        ("contain(request.model)", "unknown function 'contain'", "'contains'"),
        ("request.prompt_tokens", "gives int", "true or false"),
        ("null", "gives null", "true or false"),
        ("request.stream ? 1 : true", "gives int", "true or false"),
        ("request.model > 5", "always fails: No such overload", ""),
        ("request.model.matches('a(')", "always fails", ""),
    ],
)
def test_a_bad_condition_is_refused_when_it_is_read(text: str, says: str, hint: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert says in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 300
