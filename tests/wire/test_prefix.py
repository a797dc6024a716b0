"""Marks: the same for the same beginning, other for any other."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.affinity import rules
from gateway.policy.schema import AffinityWord
from gateway.wire.prefix import BLOCK, MOST, VOLATILE, marks, pattern

found = rules(AffinityWord())
assert found is not None
USUAL = pattern(found.ignore)

MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=40)}),
    min_size=1,
    max_size=8,
)


def body(messages: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": messages, **more})


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content} for content in contents]


@given(MESSAGES, MESSAGES)
def test_a_longer_conversation_has_all_marks_of_the_shorter_and_more(first: Any, more: Any) -> None:
    short, long = marks(body(first), "t", None), marks(body([*first, *more]), "t", None)
    assert long[: len(short)] == short
    assert len(long) > len(short)


@given(MESSAGES, st.integers(0, 7), st.text(min_size=1, max_size=5))
def test_marks_differ_from_the_first_difference_on(messages: Any, place: int, word: str) -> None:
    place %= len(messages)
    other = [dict(message) for message in messages]
    other[place]["content"] += word
    one, two = marks(body(messages), "t", None), marks(body(other), "t", None)
    assert one[:place] == two[:place]
    assert not set(one[place:]) & set(two[place:])


def test_other_fields_do_not_matter_but_tools_do() -> None:
    plain = marks(body(said("a")), "t", USUAL)
    assert marks(body(said("a"), temperature=1, stream=True), "t", USUAL) == plain
    assert not set(marks(body(said("a"), tools=[{"type": "function"}]), "t", USUAL)) & set(plain)


def test_tenants_have_nothing_in_common() -> None:
    assert not set(marks(body(said("a", "b")), "t", None)) & set(marks(body(said("a", "b")), "u", None))


def test_long_messages_have_marks_within_and_all_is_bounded() -> None:
    one, two = (marks(body(said("x" * 3 * BLOCK + end)), "t", None) for end in "ab")
    assert one[:3] == two[:3]
    assert one[3:] != two[3:]
    assert len(marks(body(said("x" * BLOCK * 2 * MOST)), "t", None)) == MOST
    assert len(marks(body(said(*["x"] * 2 * MOST)), "t", None)) == MOST


def test_what_changes_from_request_to_request_is_ignored_in_the_beginning_alone() -> None:
    day = "You are helpful. Today is {}. Session {}."
    first, second = (
        said(day.format(date, session), "hi")
        for date, session in [
            ("2026-11-24", "0b8f1c1e-7c1f-4a53-9a68-ffb0a6f64d10"),
            ("2026-11-25T08:00:00Z", "5f0c9b7e-1111-4a53-9a68-ffb0a6f64d11"),
        ]
    )
    assert marks(body(first), "t", USUAL) == marks(body(second), "t", USUAL)
    assert marks(body(first), "t", None) != marks(body(second), "t", None)
    assert marks(body(said("a", "2026-11-24")), "t", USUAL) != marks(body(said("a", "2026-11-25")), "t", USUAL)
    late = ("y" * VOLATILE + date for date in ("2026-11-24", "2026-11-25"))
    assert len({marks(body(said(text)), "t", USUAL) for text in late}) == 2


def test_nothing_to_ignore_is_no_pattern() -> None:
    assert USUAL is not None
    assert pattern("") is None


def test_what_is_no_request_has_no_marks() -> None:
    assert marks(b"{}", "t", None) == marks(b"[", "t", None) == marks(b'{"messages": 3}', "t", None) == ()
