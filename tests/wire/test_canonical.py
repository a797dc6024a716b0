"""What is the same question, and what is another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.canonical import IRRELEVANT, canonical, key

IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FULL: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "café 漢字"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ],
    "temperature": 0, "top_p": 0.9, "max_tokens": 100, "max_completion_tokens": 200, "n": 2, "stop": ["a", "b"],
    "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logit_bias": {"50256": -100}, "logprobs": True,
    "top_logprobs": 3, "response_format": {"type": "json_object"}, "reasoning_effort": "high",
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "enable_thinking": True, "thinking_budget": 512,
    "parallel_tool_calls": True, "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "user_id": "u1", "repetition_penalty": 1.05, "top_k": 20, "min_p": 0.1, "chat_template_kwargs": {"x": 1},
    "prediction": {"type": "content", "content": "x"}, "modalities": ["text"], "verbosity": "low",
}  # fmt: skip


def text(fields: Any) -> bytes:
    found = canonical(fields if isinstance(fields, bytes) else json.dumps(fields).encode())
    assert found is not None
    return found.text


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*path, name))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def changed(path: tuple[Any, ...], act: str, other: Any) -> dict[str, Any]:
    fresh: dict[str, Any] = json.loads(json.dumps(FULL))
    home = at(fresh, path[:-1])
    if act == "drop":
        del home[path[-1]]
    elif act == "wrap":
        home[path[-1]] = [home[path[-1]]]
    elif act == "text":
        home[path[-1]] = json.dumps(home[path[-1]])
    else:
        home[path[-1]] = other
    return fresh


PLACES = places(FULL)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return (type(left) is type(right) and left == right) or (
        isinstance(left, int | float) and isinstance(right, int | float) and left == right
    )


@given(st.sampled_from(PLACES), st.sampled_from(["drop", "wrap", "text", "replace"]), values)
def test_a_change_anywhere_is_another_question(path: tuple[Any, ...], act: str, other: Any) -> None:
    mutant = changed(path, act, other)
    if not same(mutant, FULL):
        assert text(mutant) != text(FULL), path


@pytest.mark.parametrize("path", PLACES, ids=str)
def test_every_field_counts(path: tuple[Any, ...]) -> None:
    assert text(changed(path, "drop", None)) != text(FULL)
    assert text(changed(path, "replace", "something else")) != text(FULL)
    assert text(changed(path, "replace", None)) != text(FULL) or at(FULL, path) is None


def shuffled(value: Any, draw: Any) -> Any:
    if isinstance(value, dict):
        return {name: shuffled(value[name], draw) for name in draw(st.permutations(list(value)))}
    return [shuffled(inner, draw) for inner in value] if isinstance(value, list) else value


@given(st.data())
def test_order_spacing_and_escapes_do_not_count(data: st.DataObject) -> None:
    other = shuffled(FULL, data.draw)
    escaped = data.draw(st.booleans())
    spaced = json.dumps(other, ensure_ascii=escaped, indent=data.draw(st.sampled_from([None, 1])))
    assert text(spaced.encode()) == text(FULL)


@given(values, values)
def test_two_values_share_a_form_only_if_they_are_equal(left: Any, right: Any) -> None:
    forms = [canonical(json.dumps({"messages": value}).encode()) for value in (left, right)]
    if None not in forms:
        assert (forms[0] == forms[1]) == same(left, right)


@pytest.mark.parametrize("name", sorted(IRRELEVANT))
def test_what_is_irrelevant_does_not_count(name: str) -> None:
    assert text({**FULL, name: "whatever"}) == text(FULL)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b'{"temperature":1}', b'{"temperature":1.0}'),
        (b'{"temperature":0}', b'{"temperature":-0.0}'),
        (b'{"max_tokens":100}', b'{"max_tokens":1e2}'),
        (b'{"top_p":0.9}', b'{"top_p":0.90}'),
        (b'{"a":"\\u00e9"}', '{"a":"é"}'.encode()),
        (b'{"a":"\\ud83d\\ude00"}', '{"a":"😀"}'.encode()),
        (b'{"a":"\\/"}', b'{"a":"/"}'),
        (b'{"\\u0061":1}', b'{"a":1}'),
        (b'{"n":1,"logprobs":false,"stop":null,"response_format":{"type":"text"}}', b"{}"),
    ],
)  # fmt: skip
def test_ways_to_say_the_same(left: bytes, right: bytes) -> None:
    assert text(left) == text(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b'{"temperature":1}', b"{}"),  # engines have defaults of their own
        (b'{"top_p":1}', b"{}"),
        (b'{"presence_penalty":0}', b"{}"),
        (b'{"parallel_tool_calls":true}', b"{}"),
        (b'{"n":true}', b'{"n":1}'),
        (b'{"logprobs":0}', b'{"logprobs":false}'),
        (b'{"seed":1}', b'{"seed":"1"}'),
        (b'{"seed":9007199254740993}', b'{"seed":9007199254740992}'),
        (b'{"seed":123456789012345678901234567890}', b'{"seed":123456789012345678901234567891}'),
        (b'{"a":"\\u00e9"}', b'{"a":"e\\u0301"}'),
        (b'{"a":"\\ud83d"}', b'{"a":"\\ud83e"}'),
        (b'{"unknown":null}', b"{}"),
        (b'{"messages":[{"content":null}]}', b'{"messages":[{}]}'),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":[]}', b'{"a":{}}'),
    ],
)  # fmt: skip
def test_ways_to_say_something_else(left: bytes, right: bytes) -> None:
    assert text(left) != text(right)


@pytest.mark.parametrize(
    "fields",
    [
        b'{"messages":[{"content":"a","content":"b"}]}',  # parsers disagree about the second one
        b'{"a":1,"\\u0061":1}',
        b'{"temperature":NaN}',
        b'{"temperature":-Infinity}',
        b'{"temperature":1e999}',
        b'{"a":"\xff"}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":"line\nbreak"}',
        b'{"a":',
    ],
    ids=range(10),
)
def test_what_may_be_read_in_two_ways_has_no_form(fields: bytes) -> None:
    assert canonical(fields) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [(b'{"temperature":0}', True), (b'{"temperature":0.0}', True), (b'{"temperature":-0.0}', True), (b"{}", False),
     (b'{"temperature":null}', False), (b'{"temperature":false}', False), (b'{"temperature":0.1}', False),
     (b'{"messages":[{"temperature":0}]}', False)],
)  # fmt: skip
def test_temperature_zero_is_deterministic(fields: bytes, expected: bool) -> None:
    found = canonical(fields)
    assert found is not None
    assert found.deterministic is expected


def test_the_key_tells_all_its_parts_apart() -> None:
    parts = ["1", "tenant a", "r2", "{}"]
    first = key(parts[0], parts[1], parts[2], parts[3].encode())
    assert len(first) == 32
    for index in range(4):
        other = [*parts]
        other[index] += "x"
        assert key(other[0], other[1], other[2], other[3].encode()) != first
    assert key("1", "tenant ar", "2", b"{}") != first
