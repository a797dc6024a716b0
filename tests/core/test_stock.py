"""One limit on one replica: alone it is a window, with a pool it is units in hand."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caps import UNLIMITED, Allowance, CapKind, Caps
from gateway.core.stock import CALM_AHEAD, FORGET, KEEP, MARGIN, TICK, TTL, Answer, Stock


def shared(kind: CapKind = "rpm", limit: int = 100) -> Stock:
    return Stock(kind, limit, pooled=True, shared=True)


def in_hand(units: int, *, calm: bool = False, kind: CapKind = "rpm", limit: int = 100) -> Stock:
    stock = shared(kind, limit)
    stock.wait(units)
    stock.ask(0.0)
    stock.waited(units)
    stock.granted(Answer(units, units, calm=calm), 0.0, 0.0)
    return stock


def test_alone_the_limit_holds_in_any_span_and_opens_when_its_window_says() -> None:
    stock = Stock("rpm", 2)
    stock.take(1, 0.0)
    stock.take(1, 10.0)
    assert not stock.has(1, 20.0)
    assert stock.left(20.0) == 0
    assert 40.0 < stock.opening(1, 20.0) < 40.5
    assert stock.has(1, 60.4)
    assert stock.left(60.4) == 1
    assert repr(stock) == "<Stock rpm 2, alone>"
    stock.refund(1, 10.0)
    assert stock.left(60.4) == 2
    assert stock._pending == {}  # nobody will be told


def test_alone_streams_are_counted_until_they_end() -> None:
    stock = Stock("streams", 1)
    stock.take(1, 0.0)
    assert not stock.has(1, 1.0)
    assert stock.opening(1, 1.0) == inf
    stock.end()
    assert (stock.has(1, 1.0), stock.balance) == (True, 0)


def test_what_is_larger_than_the_limit_goes_when_nothing_else_is_in_it() -> None:
    stock = Stock("tpm", 100)
    assert stock.has(500, 0.0)
    stock.take(1, 0.0)
    assert not stock.has(500, 1.0)
    stock = in_hand(100, kind="tpm")
    assert stock.has(500, 1.0)
    stock.take(500, 1.0)
    assert stock.balance == 0


def test_with_a_pool_nothing_goes_but_what_is_in_hand() -> None:
    stock = shared()
    assert not stock.has(1, 0.0)
    stock = in_hand(2)
    assert repr(stock) == "<Stock rpm 100, 2 in hand>"
    for _ in range(2):
        assert stock.has(1, 1.0)
        stock.take(1, 1.0)
    assert not stock.has(1, 1.0)
    assert stock.left(1.0) == 98


def test_units_end_before_the_pool_gives_them_to_others() -> None:
    assert in_hand(2).has(1, TTL - MARGIN - 0.01)
    assert not in_hand(2).has(1, TTL - MARGIN)
    late = in_hand(2)
    assert late.ask(TTL).hold == 0


def test_every_use_is_told_with_a_time_that_is_not_before_it() -> None:
    stock = in_hand(9)
    stock.take(1, 1.01)
    stock.take(1, 1.02)
    stock.more(1, 1.21)
    stock.refund(1, 1.02)
    assert stock.ask(2.0).uses == ((1050, 1), (1250, 1))
    stock.granted(Answer(0, 9), 2.0, 2.0)
    stock.refund(1, 1.21)
    assert stock.ask(3.0).uses == ((1250, -1),)


def test_what_may_not_have_been_heard_is_told_again_and_what_is_old_is_not() -> None:
    stock = in_hand(9)
    stock.take(1, 1.01)
    stock.ask(2.0)
    stock.failed()
    stock.take(1, 1.02)
    assert stock.ask(3.0).uses == ((1050, 2),)
    stock.failed()
    assert stock.ask(70.0).uses == ()


def test_refused_ones_wait_for_the_next_tick_and_are_told_when_it_opens() -> None:
    stock = shared()
    stock.wait(1)
    stock.ask(0.0)
    stock.granted(Answer(0, 100, 2000), 0.0, 0.1)
    stock.waited(1)
    assert stock.closed == 0.1 + TICK
    assert stock.opening(1, 0.1) == pytest.approx(2.0)
    assert stock.left(0.1) == 0
    stock.wait(1)
    stock.ask(1.0)
    stock.granted(Answer(0, 100), 1.0, 1.0)
    assert stock.opening(1, 1.0) == inf


def test_pieces_that_let_nobody_in_are_given_back_at_once() -> None:
    stock = in_hand(30, kind="tpm")
    stock.wait(50)
    asked = stock.ask(1.0)
    assert (asked.hold, asked.need, asked.unit) == (0, 50, 50)


def test_who_waits_is_counted_until_the_last_has_gone() -> None:
    stock = shared("tpm")
    stock.wait(50)
    stock.wait(20)
    stock.waited(50)
    assert (stock.waiting, stock.unit) == (20, 20)
    stock.waited(20)
    assert (stock.waiting, stock.unit) == (0, inf)


def test_what_nobody_needed_lately_is_given_back() -> None:
    stock = in_hand(30)
    assert stock.ask(1.0).hold == 0
    stock = in_hand(30, calm=True)
    assert stock.ask(10.0).hold == 0


def test_in_calm_it_is_kept_for_a_while_since_nobody_misses_it() -> None:
    stock = in_hand(30, calm=True)
    stock.take(1, 1.0)
    for at in (5.0, 10.0, 15.0):
        assert stock.ask(at).hold == 29
        stock.granted(Answer(0, 29, calm=True), at, at)
    assert stock.ask(5.0 + FORGET).hold == 0


def test_what_comes_is_held_ahead_in_whole_requests() -> None:
    stock = in_hand(100, kind="tpm", limit=10_000)
    for _ in range(20):
        stock.missed(100)
    asked = stock.ask(1.0)
    assert asked.need % 100 == 0
    assert 300 <= asked.need <= 1000
    assert asked.like >= asked.need
    slow = shared("tpm", 10_000)
    slow.missed(100)
    slow.ask(0.0)
    slow.granted(Answer(0, 0), 0.0, 0.0)
    slow.missed(100)
    assert slow.ask(10.0).need == 0  # one in ten seconds: it waits for the pool when it comes


def test_in_calm_more_is_held_and_kept_longer() -> None:
    stock = in_hand(40, calm=True)
    assert stock.due() == KEEP
    for _ in range(20):
        stock.take(1, 0.1)
    assert stock.due() == KEEP
    asked = stock.ask(2.0)
    assert asked.like >= 5 * CALM_AHEAD
    assert asked.hold == 20
    stock.granted(Answer(0, 60, calm=True), 2.0, 2.0)
    for _ in range(19):
        stock.take(1, 2.1)
    assert stock.due() == 2.0 + TICK  # it runs low


def test_when_the_pool_is_told() -> None:
    stock = shared()
    assert stock.due() == inf
    stock.wait(1)
    assert stock.due() == -inf
    stock.waited(1)
    busy = in_hand(3)
    assert busy.due() == TICK
    calm = in_hand(1, calm=True)
    calm.ask(10.0)
    calm.granted(Answer(0, 0, calm=True), 10.0, 10.0)
    assert calm.due() == inf
    held = in_hand(1, kind="streams")
    held.take(1, 0.0)
    held.ask(1.0)
    held.granted(Answer(0, 1), 1.0, 1.0)
    assert held.due() == 1.0 + KEEP


def test_a_stream_that_ends_leaves_its_place_in_hand_and_who_leaves_gives_all_back() -> None:
    stock = in_hand(2, kind="streams")
    stock.take(1, 0.0)
    assert (stock.held, stock.balance) == (1, 1)
    asked = stock.ask(0.5, leaving=True)
    assert (asked.hold, asked.need, asked.like) == (1, 1, 1)
    stock.end()
    assert (stock.held, stock.balance) == (0, 1)


def test_alone_and_back_again() -> None:
    stock = in_hand(5)
    stock.take(1, 1.0)
    stock.join(False)
    assert stock.has(99, 1.0)
    assert not stock.has(100, 1.0)
    stock.take(1, 1.0)
    stock.join(True)
    assert not stock.has(1, 1.0)
    assert stock.ask(2.0).uses == ((1050, 2),)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=40), st.integers(1, 20))
def test_alone_no_span_holds_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    stock, now, uses = Stock("tpm", limit), 0.0, []
    for pause, amount in steps:
        now += pause
        if stock.has(amount, now):
            stock.take(min(amount, limit), now)
            uses.append((now, min(amount, limit)))
        assert sum(used for at, used in uses if at > now - 60.0) <= limit


def test_limits_are_told_in_the_documents_words() -> None:
    found = Allowance(Caps(rpm=5), {"r2": Caps(tpm_in=7)})
    assert found.words() == {"rpm": 5, "per_model": {"r2": {"tpm_in": 7}}}
    assert UNLIMITED.words() == {}
    assert [bool(UNLIMITED), bool(found), bool(Allowance(Caps(streams=1)))] == [False, True, True]
