"""Budgets: periods by a zone's clock, and parts of an amount that together never exceed it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.money import (
    AGAIN,
    IDLE,
    LOOK,
    MICRO,
    RECENT,
    Ask,
    Budget,
    Per,
    Purse,
    Told,
    dearest,
    estimate,
    micros,
    period,
    picos,
    shown,
)
from gateway.core.nouns import Price
from gateway.store.purse import MemoryPurses

NOON = datetime.fromisoformat("2026-11-24T12:30:00+08:00").timestamp()


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("per", "east", "when", "name", "start", "end"),
    [
        ("hour", 480, "2026-11-24T12:30:00+08:00", "2026-11-24T12", "2026-11-24T12:00+08:00", "2026-11-24T13:00+08:00"),
        ("day", 480, "2026-11-24T00:00:00+08:00", "2026-11-24", "2026-11-24T00:00+08:00", "2026-11-25T00:00+08:00"),
        ("day", 0, "2026-11-24T00:00:00+08:00", "2026-11-23", "2026-11-23T00:00+00:00", "2026-11-24T00:00+00:00"),
        ("month", 480, "2026-11-30T23:59:59+08:00", "2026-11", "2026-11-01T00:00+08:00", "2026-12-01T00:00+08:00"),
        ("month", 0, "2026-12-01T07:59:59+08:00", "2026-11", "2026-11-01T00:00+00:00", "2026-12-01T00:00+00:00"),
        ("month", 480, "2026-12-15T00:00:00+08:00", "2026-12", "2026-12-01T00:00+08:00", "2027-01-01T00:00+08:00"),
    ],
)
def test_a_period_is_an_hour_a_day_or_a_month_of_its_zone(
    per: Per, east: int, when: str, name: str, start: str, end: str
) -> None:
    found = period(Budget(1, per, east=east), unix(when))
    assert (found.name, found.start, found.end) == (name, unix(start), unix(end))


@given(
    st.integers(1_600_000_000, 4_000_000_000),
    st.sampled_from(["hour", "day", "month"]),
    st.sampled_from([0, 480]),
)
def test_periods_follow_each_other_without_a_gap(moment: int, per: Per, east: int) -> None:
    budget = Budget(1, per, east=east)
    found = period(budget, moment)
    assert found.start <= moment < found.end
    assert period(budget, found.end).start == found.end
    assert period(budget, found.start) == found


def test_amounts_are_exact() -> None:
    assert micros(0.1) == 100_000
    assert micros(500) == 500 * MICRO
    assert picos(Decimal("0.000000022")) == 22_000
    assert [shown(amount) for amount in (0, 500 * MICRO, 1, 830_000)] == ["0", "500", "0.000001", "0.83"]


def test_the_dearest_price_is_asked_for_and_rounded_up() -> None:
    prices = [(Price(9, 27), Decimal(1)), (Price(0.66, 4.1), Decimal("7.1"))]
    assert dearest(prices) == (9_000_000, 29_110_000)
    assert dearest([]) == (0, 0)
    assert dearest([(Price(0.0000001, 0), Decimal(1))]) == (1, 0)
    assert estimate(1000, 100, dearest(prices)) == 9000 + 2911
    assert estimate(1, 0, (1, 0)) == 1


# --- one replica ------------------------------------------------------------------------------------------


def purse(amount: int = 1000 * MICRO, now: float = 0.0, member: str = "a", **words: Any) -> Purse:
    budget = Budget(amount, **words)
    return Purse("tenant:acme", "key", member, budget, period(budget, NOON), now)


def test_nothing_is_in_hand_before_the_store_has_answered() -> None:
    found = purse()
    assert (found.room(away=False), found.room(away=True), found.blank) == (0, 1000 * MICRO, True)
    found.require(5 * MICRO, 0.0)
    found.require(2 * MICRO, 0.0)
    assert found.due(0.0)
    ask = found.ask(0.0, NOON)
    assert (ask.seq, ask.total, ask.cap, ask.need, ask.least, ask.want) == (1, 0, 0, 7 * MICRO, 2 * MICRO, 0)
    assert ask.life == pytest.approx(period(found.budget, NOON).end - NOON + 86400)
    found.told(ask, Told(cap=17 * MICRO, free=983 * MICRO, live=2), 0.1)
    assert (found.room(away=False), found.room(away=True)) == (17 * MICRO, 17 * MICRO + 983 * MICRO // 2)
    assert not found.blank


def test_what_is_reserved_and_spent_is_not_in_hand() -> None:
    found = purse()
    found.told(found.ask(0.0, NOON), Told(cap=10 * MICRO, free=990 * MICRO), 0.0)
    found.reserve(4 * MICRO, 1.0)
    assert found.room(away=False) == 6 * MICRO
    found.settle(4 * MICRO, 1_500_000_700_000, 2)
    assert (found.total, found.room(away=False), found.uncounted) == (1_500_000, 8_500_000, 2)
    assert (found.spent, found.share) == (1_500_000, 0.0015)
    assert "1.5 of 1000" in repr(found)


def test_parts_of_a_micro_add_up() -> None:
    found = purse()
    for _ in range(10):
        found.settle(0, 100_000)
    assert found.total == 1


def test_a_slice_is_asked_for_when_the_one_in_hand_runs_low() -> None:
    found = purse()
    found.told(found.ask(0.0, NOON), Told(cap=10 * MICRO, free=990 * MICRO), 0.0)
    found.reserve(4 * MICRO, 1.0)
    assert (found.low(), found.due(1.0), found.ask(1.0, NOON).want) == (False, False, 0)
    found.reserve(2 * MICRO, 1.0)
    assert (found.low(), found.due(1.0), found.ask(1.0, NOON).want) == (True, True, 6 * MICRO)
    found.told(found.ask(1.0, NOON), Told(cap=10 * MICRO, free=0), 1.0)
    assert not found.low()


def test_what_is_not_used_is_given_back() -> None:
    found = purse()
    found.told(found.ask(0.0, NOON), Told(cap=30 * MICRO, free=970 * MICRO), 0.0)
    found.reserve(15 * MICRO, 1.0)
    assert found.ask(1.0, NOON).cap == 25 * MICRO  # what runs, and a slice
    found.settle(15 * MICRO, 15 * MICRO * MICRO)
    assert found.due(1.0 + IDLE)
    assert found.ask(1.0 + IDLE, NOON).cap == 15 * MICRO == found.cap
    assert found.room(away=False) == 0
    assert found.ask(1.0, NOON, leaving=True).leaving


def test_news_are_told_within_a_second_and_silence_is_bounded() -> None:
    found = purse()
    assert found.due(0.0)
    found.told(found.ask(0.0, NOON), Told(cap=10 * MICRO, free=990 * MICRO, members={"a": 0, "b": 7}), 0.0)
    found.reserve(1, 0.0)
    assert (found.due(IDLE - 0.1), found.due(IDLE)) == (False, True)
    found.settle(1, MICRO)
    assert (found.due(AGAIN - 0.1), found.due(AGAIN)) == (False, True)
    found.told(found.ask(IDLE, NOON), Told(cap=1, free=990 * MICRO, members={"a": 1, "b": 7}), IDLE)
    assert (found.due(2 * IDLE - 0.1), found.due(2 * IDLE)) == (False, True)
    last = found.ask(RECENT, NOON)
    found.told(last, Told(cap=1, free=990 * MICRO, members={"a": 1, "b": 7}), RECENT)
    assert (found.due(RECENT + LOOK - 0.1), found.due(RECENT + LOOK)) == (False, True)
    assert (found.others, found.spent) == (7, 8)


def test_who_is_refused_is_told_news_as_soon_as_who_is_served() -> None:
    found = purse(now=0.0)
    found.require(9, 0.0)
    found.told(found.ask(0.0, NOON), Told(cap=0, free=0), 0.0)
    assert (found.due(IDLE - 0.1), found.due(IDLE)) == (False, True)
    found.ask(RECENT, NOON)
    assert (found.due(RECENT + LOOK - 0.1), found.due(RECENT + LOOK)) == (False, True)


def test_what_was_not_to_be_had_is_not_asked_for_again_at_once() -> None:
    found = purse()
    found.require(9, 0.0)
    ask = found.ask(0.0, NOON)
    assert not found.barred(9, 0.0)
    found.told(ask, Told(cap=4, free=0), 0.0)
    assert (found.barred(4, 0.5), found.barred(5, 0.5), found.barred(5, AGAIN)) == (False, True, False)


def test_an_answer_to_an_older_word_changes_nothing() -> None:
    found = purse()
    found.told(found.ask(0.0, NOON), Told(cap=99, stale=True), 0.0)
    assert found.cap == 0


def test_one_that_has_left_has_nothing_more_to_tell() -> None:
    found = purse()
    found.settle(0, 5 * MICRO)
    assert not found.blank
    ask = found.ask(0.0, NOON, leaving=True)
    found.told(ask, Told(cap=5, free=1, members={"a": 5}), 0.0)
    assert found.blank


@pytest.mark.parametrize(
    ("spent", "state", "left"), [(799, "open", 201), (800, "warning", 200), (1000, "spent", 0), (1200, "spent", 0)]
)
def test_a_view_says_how_it_stands(spent: int, state: str, left: int) -> None:
    found = purse(1000)
    found.settle(0, spent * MICRO)
    view = found.view()
    assert (view.state, view.left, view.spent, view.renews) == (state, left, spent, found.period.end)


def test_a_budget_of_nothing_is_spent() -> None:
    found = purse(0)
    assert (found.share, found.view().state, found.low()) == (1.0, "spent", False)


# --- many -------------------------------------------------------------------------------------------------


class Replicas:
    """Some replicas, one store, and calls that are lost, repeated or late."""

    def __init__(self, amount: int, count: int) -> None:
        self.now = 0.0
        self.amount = amount
        self.store = MemoryPurses(lambda: self.now)
        self.purses = [purse(amount, member=f"m{number}") for number in range(count)]
        self.running: list[list[int]] = [[] for _ in range(count)]
        self.late: list[Ask] = []

    def say(self, ask: Ask) -> Told:
        try:
            self.store.exchange([ask]).send(None)
        except StopIteration as done:
            found: Told = done.value[0]
        return found

    def do(self, what: str, who: int, amount: int) -> None:
        mine = self.purses[who]
        if what == "begin":
            if amount <= mine.room(away=False):
                mine.reserve(amount, self.now)
                self.running[who].append(amount)
            else:
                mine.require(amount, self.now)
        elif what == "end" and self.running[who]:
            reserved = self.running[who].pop(amount % len(self.running[who]))
            mine.settle(reserved, (reserved - amount % (reserved + 1)) * MICRO)
        elif what == "talk":
            ask = mine.ask(self.now, NOON)
            mine.told(ask, self.say(ask), self.now)
        elif what == "lose the answer":
            self.say(mine.ask(self.now, NOON))
        elif what == "lose the call":
            self.late.append(mine.ask(self.now, NOON))
        elif what == "late call" and self.late:
            self.say(self.late[amount % len(self.late)])
        elif what == "lose all":
            self.store.lose()

    def totals(self) -> int:
        return sum(p.total for p in self.purses)


STEPS = ["begin", "begin", "begin", "end", "end", "talk", "talk", "lose the answer", "lose the call", "late call"]


def history(steps: list[str]) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    return st.lists(st.tuples(st.sampled_from(steps), st.integers(0, 2), st.integers(1, 400)), max_size=120)


@given(st.integers(0, 2000), history(STEPS))
@settings(max_examples=300, deadline=None)
def test_all_together_never_reserve_or_spend_more_than_the_amount(
    amount: int, steps: list[tuple[str, int, int]]
) -> None:
    found = Replicas(amount, 3)
    for step in steps:
        found.do(*step)
        assert sum(p.total + p.reserved for p in found.purses) <= amount
        assert sum(p.cap for p in found.purses) <= amount
        assert all(p.others <= found.totals() for p in found.purses)


@given(st.integers(0, 2000), history([*STEPS, "lose all"]))
@settings(max_examples=300, deadline=None)
def test_whatever_is_lost_in_the_end_everybody_knows_what_all_have_spent(
    amount: int, steps: list[tuple[str, int, int]]
) -> None:
    found = Replicas(amount, 3)
    for step in steps:
        found.do(*step)
    for _ in range(2):
        for who in range(3):
            found.do("talk", who, 0)
    assert [p.spent for p in found.purses] == [found.totals()] * 3
    newcomer = purse(amount, member="new")
    newcomer.told(ask := newcomer.ask(0.0, NOON), found.say(ask), 0.0)
    assert newcomer.spent == found.totals()


def test_what_a_dead_replica_spent_is_known_though_the_store_lost_it() -> None:
    found = Replicas(1000, 2)
    for step, amount in (("begin", 30), ("talk", 0), ("begin", 30), ("end", 0), ("talk", 0)):
        found.do(step, 0, amount)
    spent = found.purses[0].total
    assert spent == 30
    found.do("talk", 1, 0)
    found.do("lose all", 0, 0)
    found.do("talk", 1, 0)
    newcomer = purse(1000, member="new")
    newcomer.told(ask := newcomer.ask(0.0, NOON), found.say(ask), 0.0)
    assert newcomer.spent == spent
