"""One limit on one replica: alone it is a window, with a pool it is units in hand."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.caps import UNLIMITED, Allowance, CapKind, Caps
from gateway.core.purse import CALM_AHEAD, FORGET, KEEP, MARGIN, TICK, TTL, Answer, Purse


def shared(kind: CapKind = "rpm", limit: int = 100) -> Purse:
    return Purse(kind, limit, pooled=True, shared=True)


def in_hand(units: int, *, calm: bool = False, kind: CapKind = "rpm", limit: int = 100) -> Purse:
    purse = shared(kind, limit)
    purse.wait(units)
    purse.ask(0.0)
    purse.waited(units)
    purse.granted(Answer(units, units, calm=calm), 0.0, 0.0)
    return purse


def test_alone_the_limit_holds_in_any_span_and_opens_when_its_window_says() -> None:
    purse = Purse("rpm", 2)
    purse.take(1, 0.0)
    purse.take(1, 10.0)
    assert not purse.has(1, 20.0)
    assert purse.left(20.0) == 0
    assert 40.0 < purse.opening(1, 20.0) < 40.5
    assert purse.has(1, 60.4)
    assert purse.left(60.4) == 1
    assert repr(purse) == "<Purse rpm 2, alone>"
    purse.refund(1, 10.0)
    assert purse.left(60.4) == 2
    assert purse._pending == {}  # nobody will be told


def test_alone_streams_are_counted_until_they_end() -> None:
    purse = Purse("streams", 1)
    purse.take(1, 0.0)
    assert not purse.has(1, 1.0)
    assert purse.opening(1, 1.0) == inf
    purse.end()
    assert (purse.has(1, 1.0), purse.balance) == (True, 0)


def test_what_is_larger_than_the_limit_goes_when_nothing_else_is_in_it() -> None:
    purse = Purse("tpm", 100)
    assert purse.has(500, 0.0)
    purse.take(1, 0.0)
    assert not purse.has(500, 1.0)
    purse = in_hand(100, kind="tpm")
    assert purse.has(500, 1.0)
    purse.take(500, 1.0)
    assert purse.balance == 0


def test_with_a_pool_nothing_goes_but_what_is_in_hand() -> None:
    purse = shared()
    assert not purse.has(1, 0.0)
    purse = in_hand(2)
    assert repr(purse) == "<Purse rpm 100, 2 in hand>"
    for _ in range(2):
        assert purse.has(1, 1.0)
        purse.take(1, 1.0)
    assert not purse.has(1, 1.0)
    assert purse.left(1.0) == 98


def test_units_end_before_the_pool_gives_them_to_others() -> None:
    assert in_hand(2).has(1, TTL - MARGIN - 0.01)
    assert not in_hand(2).has(1, TTL - MARGIN)
    late = in_hand(2)
    assert late.ask(TTL).hold == 0


def test_every_use_is_told_with_a_time_that_is_not_before_it() -> None:
    purse = in_hand(9)
    purse.take(1, 1.01)
    purse.take(1, 1.02)
    purse.more(1, 1.21)
    purse.refund(1, 1.02)
    assert purse.ask(2.0).uses == ((1050, 1), (1250, 1))
    purse.granted(Answer(0, 9), 2.0, 2.0)
    purse.refund(1, 1.21)
    assert purse.ask(3.0).uses == ((1250, -1),)


def test_what_may_not_have_been_heard_is_told_again_and_what_is_old_is_not() -> None:
    purse = in_hand(9)
    purse.take(1, 1.01)
    purse.ask(2.0)
    purse.failed()
    purse.take(1, 1.02)
    assert purse.ask(3.0).uses == ((1050, 2),)
    purse.failed()
    assert purse.ask(70.0).uses == ()


def test_refused_ones_wait_for_the_next_tick_and_are_told_when_it_opens() -> None:
    purse = shared()
    purse.wait(1)
    purse.ask(0.0)
    purse.granted(Answer(0, 100, 2000), 0.0, 0.1)
    purse.waited(1)
    assert purse.closed == 0.1 + TICK
    assert purse.opening(1, 0.1) == pytest.approx(2.0)
    assert purse.left(0.1) == 0
    purse.wait(1)
    purse.ask(1.0)
    purse.granted(Answer(0, 100), 1.0, 1.0)
    assert purse.opening(1, 1.0) == inf


def test_pieces_that_let_nobody_in_are_given_back_at_once() -> None:
    purse = in_hand(30, kind="tpm")
    purse.wait(50)
    asked = purse.ask(1.0)
    assert (asked.hold, asked.need, asked.unit) == (0, 50, 50)


def test_who_waits_is_counted_until_the_last_has_gone() -> None:
    purse = shared("tpm")
    purse.wait(50)
    purse.wait(20)
    purse.waited(50)
    assert (purse.waiting, purse.unit) == (20, 20)
    purse.waited(20)
    assert (purse.waiting, purse.unit) == (0, inf)


def test_what_nobody_needed_lately_is_given_back() -> None:
    purse = in_hand(30)
    assert purse.ask(1.0).hold == 0
    purse = in_hand(30, calm=True)
    assert purse.ask(10.0).hold == 0


def test_in_calm_it_is_kept_for_a_while_since_nobody_misses_it() -> None:
    purse = in_hand(30, calm=True)
    purse.take(1, 1.0)
    for at in (5.0, 10.0, 15.0):
        assert purse.ask(at).hold == 29
        purse.granted(Answer(0, 29, calm=True), at, at)
    assert purse.ask(5.0 + FORGET).hold == 0


def test_what_comes_is_held_ahead_in_whole_requests() -> None:
    purse = in_hand(100, kind="tpm", limit=10_000)
    for _ in range(20):
        purse.missed(100)
    asked = purse.ask(1.0)
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
    purse = in_hand(40, calm=True)
    assert purse.due() == KEEP
    for _ in range(20):
        purse.take(1, 0.1)
    assert purse.due() == KEEP
    asked = purse.ask(2.0)
    assert asked.like >= 5 * CALM_AHEAD
    assert asked.hold == 20
    purse.granted(Answer(0, 60, calm=True), 2.0, 2.0)
    for _ in range(19):
        purse.take(1, 2.1)
    assert purse.due() == 2.0 + TICK  # it runs low


def test_when_the_pool_is_told() -> None:
    purse = shared()
    assert purse.due() == inf
    purse.wait(1)
    assert purse.due() == -inf
    purse.waited(1)
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
    purse = in_hand(2, kind="streams")
    purse.take(1, 0.0)
    assert (purse.held, purse.balance) == (1, 1)
    asked = purse.ask(0.5, leaving=True)
    assert (asked.hold, asked.need, asked.like) == (1, 1, 1)
    purse.end()
    assert (purse.held, purse.balance) == (0, 1)


def test_alone_and_back_again() -> None:
    purse = in_hand(5)
    purse.take(1, 1.0)
    purse.join(False)
    assert purse.has(99, 1.0)
    assert not purse.has(100, 1.0)
    purse.take(1, 1.0)
    purse.join(True)
    assert not purse.has(1, 1.0)
    assert purse.ask(2.0).uses == ((1050, 2),)


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=40), st.integers(1, 20))
def test_alone_no_span_holds_more_than_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    purse, now, uses = Purse("tpm", limit), 0.0, []
    for pause, amount in steps:
        now += pause
        if purse.has(amount, now):
            purse.take(min(amount, limit), now)
            uses.append((now, min(amount, limit)))
        assert sum(used for at, used in uses if at > now - 60.0) <= limit


def test_limits_are_told_in_the_documents_words() -> None:
    found = Allowance(Caps(rpm=5), {"r2": Caps(tpm_in=7)})
    assert found.words() == {"rpm": 5, "per_model": {"r2": {"tpm_in": 7}}}
    assert UNLIMITED.words() == {}
    assert [bool(UNLIMITED), bool(found), bool(Allowance(Caps(streams=1)))] == [False, True, True]
