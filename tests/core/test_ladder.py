"""What a pressure costs a request, and that it does not flap."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ladder import EFFORTS, FULL_FORM, SLACK, Form, Rung, form_at, height
from gateway.core.nouns import ServiceClass

LADDER = (
    Rung(0.9, frozenset({"batch", "standard"}), max_tokens=2000, effort="low"),
    Rung(1.2, max_tokens=800, thinking_off=True),
    Rung(1.5, frozenset({"batch"}), max_tokens=1000, effort="high", model="lite"),
    Rung(2.0, model="lighter"),
)


@pytest.mark.parametrize(
    ("class_", "pressure", "form"),
    [
        ("batch", 0.89, Form()),
        ("batch", 0.9, Form(2000, "low")),
        ("interactive", 1.19, Form()),
        ("interactive", 1.2, Form(800, None, thinking_off=True)),
        ("standard", 1.9, Form(800, "low", thinking_off=True)),
        ("batch", 1.5, Form(800, "low", thinking_off=True, model="lite")),
        ("batch", 9.0, Form(800, "low", thinking_off=True, model="lighter")),
        ("interactive", 9.0, Form(800, None, thinking_off=True, model="lighter")),
    ],
)
def test_rungs_add_up_by_class_and_the_highest_names_the_model(
    class_: ServiceClass, pressure: float, form: Form
) -> None:
    assert form_at(LADDER, class_, pressure) == form


def test_a_form_that_asks_nothing_is_the_full_form_itself() -> None:
    assert form_at(LADDER, "batch", 0.5) is form_at((), "batch", 9.0) is FULL_FORM


rungs = st.builds(
    Rung,
    at=st.floats(0.1, 3.0),
    classes=st.frozensets(st.sampled_from(["interactive", "standard", "batch"])),
    max_tokens=st.none() | st.integers(1, 5000),
    effort=st.none() | st.sampled_from(EFFORTS),
    thinking_off=st.booleans(),
)
classes: Any = st.sampled_from(["interactive", "standard", "batch"])


@given(st.lists(rungs, max_size=5), classes, st.floats(0, 4), st.floats(0, 4))
def test_more_pressure_never_gives_more(ladder: list[Rung], class_: ServiceClass, one: float, other: float) -> None:
    less, more = sorted((one, other))
    calm, pressed = form_at(tuple(ladder), class_, less), form_at(tuple(ladder), class_, more)
    if calm.max_tokens is not None:
        assert pressed.max_tokens is not None
        assert pressed.max_tokens <= calm.max_tokens
    if calm.effort is not None:
        assert pressed.effort is not None
        assert EFFORTS.index(pressed.effort) <= EFFORTS.index(calm.effort)
    assert pressed.thinking_off >= calm.thinking_off


@given(st.permutations(LADDER), classes, st.floats(0, 4))
def test_the_order_in_which_rungs_are_written_says_nothing(
    ladder: list[Rung], class_: ServiceClass, pressure: float
) -> None:
    assert form_at(tuple(ladder), class_, pressure) == form_at(LADDER, class_, pressure)


@given(st.lists(rungs, max_size=5), st.lists(st.floats(0, 4), max_size=30))
def test_a_rung_is_climbed_at_once_and_left_late(ladder: list[Rung], pressures: list[float]) -> None:
    held = 0.0
    for pressure in pressures:
        before, held = held, height(tuple(ladder), pressure, held)
        reached = [rung.at for rung in ladder if rung.at <= pressure]
        assert held >= max(reached, default=0.0)
        assert held - SLACK <= pressure
        if held > max(reached, default=0.0):
            assert held <= before


def test_a_pressure_that_trembles_around_a_rung_does_not_flap() -> None:
    held, seen = 0.0, []
    for pressure in (0.89, 0.91, 0.86, 0.9, 0.87, 0.849, 0.89, 0.9):
        held = height(LADDER, pressure, held)
        seen.append(held)
    assert seen == [0.0, 0.9, 0.9, 0.9, 0.9, 0.0, 0.0, 0.9]
