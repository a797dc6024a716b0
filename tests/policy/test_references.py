"""References to the environment."""

from __future__ import annotations

import pytest

from gateway.policy.references import resolve

ENV = {"KEY": "value", "EMPTY": "", "TRICK": "${KEY}"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("plain", "plain"),
        ("${KEY}", "value"),
        ("a-${KEY}-b-${KEY}", "a-value-b-value"),
        ("${KEY:-other}", "value"),
        ("${NONE:-other}", "other"),
        ("${NONE:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("$${KEY}", "${KEY}"),
        ("$KEY $ {KEY}", "$KEY $ {KEY}"),
        ("${TRICK}", "${KEY}"),
    ],
)
def test_references_are_resolved_once(written: str, value: str) -> None:
    text = resolve(written, ENV)
    assert text.value == value
    assert not text.missing
    assert not text.malformed


def test_every_missing_variable_is_named() -> None:
    assert resolve("${A} ${KEY} ${B}", ENV).missing == ("A", "B")


@pytest.mark.parametrize("written", ["${", "${}", "${1A}", "${A-B}", "${A:b}", "${A:-{}}x${"])
def test_what_looks_like_a_reference_and_is_none_is_malformed(written: str) -> None:
    assert resolve(written, ENV).malformed


def test_the_repr_shows_what_is_written_only() -> None:
    assert repr(resolve("${KEY}", ENV)) == "<Text '${KEY}'>"
