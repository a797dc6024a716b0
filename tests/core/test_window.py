from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.window import GUARD, REQUESTS, TOKENS, Ramp, Window

steps = st.lists(st.tuples(st.floats(0, 2.5), st.integers(1, 40)), max_size=80)


@given(steps, st.sampled_from([1.0, 3.0, 60.0]), st.integers(40, 120))
def test_no_true_sliding_window_ever_holds_more_than_the_limit(
    moves: list[tuple[float, int]], span: float, limit: int
) -> None:
    window = Window(span, limit, TOKENS)
    sent: list[tuple[float, int]] = []
    now = 50.0
    for pause, amount in moves:
        now += pause
        window.roll(now)
        if window.used + amount <= limit:
            window.add(amount, now)
            sent.append((now, amount))
        assert sum(n for at, n in sent if now - at < span + GUARD) <= limit


@given(steps, st.sampled_from([1.0, 60.0]), st.integers(1, 60))
def test_what_is_promised_to_fit_later_fits_then_and_not_before(
    moves: list[tuple[float, int]], span: float, more: int
) -> None:
    window = Window(span, 50, TOKENS)
    now = 7.0
    for pause, amount in moves:
        now += pause
        window.add(amount, now)
    at = window.earliest(more, now)
    assert at >= now
    if at > now:
        window.roll(at - 1e-6)
        assert window.used + min(more, 50) > 50
    window.roll(at)
    assert window.used + min(more, 50) <= 50


@given(steps, st.integers(1, 6))
def test_a_ramp_never_lets_a_second_exceed_the_one_before_by_more_than_its_step(
    moves: list[tuple[float, int]], step: int
) -> None:
    ramp = Ramp(step)
    starts: list[float] = []
    now = 3.0
    for pause, tries in moves:
        now += pause / 4
        for _ in range(tries):
            if now >= ramp.turn:
                ramp.roll(now)
            if ramp.used + 1 > ramp.limit:
                break
            ramp.add(1, now)
            starts.append(now)
        if starts and starts[-1] == now:
            last = sum(now - at < 1.0 for at in starts)
            before = sum(1.0 <= now - at < 2.0 for at in starts)
            assert last <= before + step


@given(
    st.lists(st.tuples(st.floats(0, 0.6), st.integers(0, 3), st.integers(0, 30)), min_size=10, max_size=80),
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
)
def test_shares_of_a_ramp_keep_it_together_whoever_starts_when(
    moves: list[tuple[float, int, int]], steps: list[int]
) -> None:
    ramps = [Ramp(step) for step in steps]
    for ramp in ramps:
        ramp.partial = True
    starts: list[float] = []
    now = 3.0
    for pause, who, tries in moves:
        now += pause
        ramp = ramps[who % len(ramps)]
        began = len(starts)
        while len(starts) < began + tries:
            if now >= ramp.turn:
                ramp.roll(now)
            if ramp.used + 1 > ramp.limit:
                break
            ramp.add(1, now)
            starts.append(now)
        if len(starts) > began:
            last = sum(now - at < 1.0 for at in starts)
            before = sum(1.0 <= now - at < 2.0 for at in starts)
            assert last <= before + sum(steps)
            assert sum(other.rise(now) for other in ramps) <= sum(steps)


def served(ramp: Ramp, seconds: int) -> list[int]:
    """What a ramp lets through in each second when there is always more to be started."""
    counts = []
    for tick in range(seconds * 100):
        now = 3.0 + tick / 100
        if tick % 100 == 0:
            counts.append(0)
        while True:
            if now >= ramp.turn:
                ramp.roll(now)
            if ramp.used + 1 > ramp.limit:
                break
            ramp.add(1, now)
            counts[-1] += 1
    return counts


def test_a_share_of_a_ramp_grows_from_second_to_second_also_under_a_backlog() -> None:
    ramp = Ramp(10)
    ramp.partial = True
    counts = served(ramp, 10)
    assert counts[0] == 10
    assert counts[2] >= 15
    assert counts[9] >= 30


def test_a_share_of_a_ramp_that_is_lowered_stays_taken_until_its_rise_has_passed() -> None:
    ramp = Ramp(10)
    ramp.partial = True
    ramp.add(6, 1.0)
    ramp.set_step(2)
    assert ramp.rise(1.5) == 6
    assert ramp.earliest(1, 1.5) == pytest.approx(1.55), "a time to ask again"
    ramp.roll(1.5)
    assert ramp.used + 1 > ramp.limit
    assert (ramp.risen(1.5), ramp.risen(2.06)) == (6, -6), "whatever the limit is just now"
    assert ramp.rise(2.06) == 0


def test_a_window_is_empty_again_after_a_long_idle_gap() -> None:
    window = Window(60.0, 10, REQUESTS)
    for second in range(10):
        window.add(1, float(second))
    window.roll(1e6)
    assert window.used == 0
    assert window.turn == inf


def test_a_refund_leaves_with_what_it_refunds() -> None:
    window = Window(60.0, 100, TOKENS)
    window.add(80, 10.0)
    window.refund(30, 10.0)
    assert window.used == 50
    window.roll(80.0)
    window.refund(10, 10.0)
    assert window.used == 0


def test_an_amount_above_the_limit_fits_an_empty_window() -> None:
    window = Window(60.0, 100, TOKENS)
    assert window.earliest(500, 5.0) == 5.0
    window.add(1, 5.0)
    assert 65.0 < window.earliest(500, 5.0) < 65.5


def test_a_ramp_says_when_asking_again_makes_sense() -> None:
    ramp = Ramp(2)
    assert ramp.earliest(1, 1.0) == 1.0
    ramp.add(2, 1.0)
    assert ramp.earliest(1, 1.5) == pytest.approx(2.05)
    assert ramp.earliest(1, 2.5) == 2.5
    assert ramp.limit == 4
    ramp.set_step(1)
    assert ramp.limit == 3
    ramp.roll(9.0)
    assert (ramp.used, ramp.limit, ramp.turn) == (0, 1, inf)


def test_windows_introduce_themselves_shortly() -> None:
    assert repr(Window(60.0, 10, REQUESTS)) == "<Window 0/10 in 60s>"
    assert repr(Ramp(2)) == "<Ramp 0/2, step 2>"
