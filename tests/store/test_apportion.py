"""Dividing a limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.apportion import Wish, apportion, fill

AMOUNTS = st.integers(0, 10_000)
WISHES = st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(1, 5000)), min_size=1, max_size=8).map(
    lambda rows: [Wish(f"r{i}", used, want, unit) for i, (used, want, unit) in enumerate(rows)]
)


@given(st.integers(-10, 20_000), WISHES, st.integers(0, 10**9))
def test_the_parts_never_exceed_the_whole_and_are_never_negative(amount: int, wishes: list[Wish], turn: int) -> None:
    parts = apportion(amount, wishes, turn)
    assert set(parts) == {w.name for w in wishes}
    assert sum(parts.values()) <= max(0, amount)
    assert min(parts.values()) >= 0


@given(st.integers(1, 20_000), WISHES, st.integers(0, 10**9))
def test_if_all_wishes_fit_all_are_met(amount: int, wishes: list[Wish], turn: int) -> None:
    if sum(w.want for w in wishes) + amount // 100 <= amount:
        parts = apportion(amount, wishes, turn)
        assert all(parts[w.name] >= w.want for w in wishes)


@given(st.integers(0, 20_000), st.lists(AMOUNTS, min_size=1, max_size=8))
def test_filling_leaves_nothing_while_somebody_wants_more(amount: int, wants: list[int]) -> None:
    parts, rest = fill(amount, wants)
    assert sum(parts) + rest == amount
    assert rest == 0 or parts == wants
    unmet = [part for part, want in zip(parts, wants, strict=True) if part < want]
    assert not unmet or max(parts) <= min(unmet) + 1, "nobody has more than one who is short, but for an odd unit"


def test_small_wishes_are_met_and_the_rest_is_even() -> None:
    parts = apportion(100, [Wish("a", 0, 10, 1), Wish("b", 0, 90, 1), Wish("c", 0, 90, 1)], 0)
    assert parts == {"a": 10, "b": 45, "c": 45}


def test_an_idle_replica_keeps_a_little_and_half_of_what_nobody_wants_is_kept_for_bursts() -> None:
    assert apportion(400, [Wish("a", 9, 400, 1), Wish("b", 0, 0, 1)], 0) == {"a": 398, "b": 2}
    assert apportion(100, [Wish("a", 0, 0, 1), Wish("b", 0, 0, 1)], 0) == {"a": 25, "b": 25}
    assert apportion(3, [Wish("a", 0, 0, 1), Wish("b", 0, 0, 1)], 0) == {"a": 1, "b": 1}


def test_when_no_even_part_holds_a_single_start_each_has_its_turn() -> None:
    wishes = [Wish(name, 0, 9000, 6000) for name in "abc"]
    winners = [max(parts, key=parts.__getitem__) for turn in range(3) if (parts := apportion(7000, wishes, turn))]
    assert sorted(winners) == ["a", "b", "c"]
    assert max(apportion(7000, wishes, 0).values()) == 6000
