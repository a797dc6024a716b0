"""Prices that follow the clock, and what tokens cost to the last digit."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Limits, Price, Prices, Reloaded, Served, Tier, Usage
from gateway.core.tariff import DAY, Hours, Tariff, changes_after, cost, prices

BEIJING = timezone(timedelta(hours=8))
LOW, HIGH, NIGHT = Price(4.5, 13.5, 0.15), Price(9, 27, 0.3), Price(1, 2)
WEEKDAYS = frozenset(range(5))
HOLIDAY = frozenset({date(2026, 10, 1).toordinal()})
PEAK = Tariff(LOW, (Hours(HIGH, ((540, 720), (840, 1080)), WEEKDAYS, HOLIDAY),))
LATE = Tariff(LOW, (Hours(NIGHT, ((22 * 60, 30 * 60),), frozenset({4})),))


def unix(text: str, zone: tzinfo = BEIJING) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("tariff", "when", "price"),
    [
        (PEAK, "2026-11-24T08:59:59.9", LOW),
        (PEAK, "2026-11-24T09:00:00", HIGH),
        (PEAK, "2026-11-24T11:59:59", HIGH),
        (PEAK, "2026-11-24T12:00:00", LOW),
        (PEAK, "2026-11-24T14:00:00", HIGH),
        (PEAK, "2026-11-28T10:00:00", LOW),  # a Saturday
        (PEAK, "2026-10-01T10:00:00", LOW),  # a holiday, a Thursday
        (PEAK, "2026-10-02T10:00:00", HIGH),
        (LATE, "2026-11-27T22:00:00", NIGHT),  # a Friday
        (LATE, "2026-11-28T05:59:00", NIGHT),  # its night, though it is Saturday
        (LATE, "2026-11-28T06:00:00", LOW),
        (LATE, "2026-11-27T05:00:00", LOW),  # the night of Thursday
        (LATE, "2026-11-28T22:00:00", LOW),
    ],
)
def test_the_price_follows_the_clock_of_its_zone(tariff: Tariff, when: str, price: Price) -> None:
    assert tariff.at(unix(when)) == price


def test_the_first_hours_that_hold_win_and_utc_is_another_clock() -> None:
    twice = Tariff(LOW, (Hours(NIGHT, ((0, 60),)), Hours(HIGH, ((0, DAY),))), east=0)
    assert twice.at(unix("2026-11-24T00:30:00", UTC)) == NIGHT
    assert twice.at(unix("2026-11-24T01:00:00", UTC)) == HIGH


def test_a_price_without_hours_never_changes() -> None:
    assert Tariff(LOW).changes_after(0.0) is None
    assert changes_after({"a": {"m": Tariff(LOW)}}, 0.0) is None
    assert changes_after({"a": {"m": Tariff(LOW)}, "b": {"m": PEAK}}, 0.0) is not None


SPANS = st.lists(
    st.tuples(st.integers(0, DAY - 1), st.integers(1, DAY)).map(lambda s: (s[0], s[0] + s[1])), min_size=1, max_size=3
)


@given(
    st.floats(0, 4e9),
    SPANS,
    st.frozensets(st.integers(0, 6)),
    st.sampled_from([0, 480]),
)
def test_between_two_changes_the_price_stays(
    now: float, spans: list[tuple[int, int]], days: frozenset[int], east: int
) -> None:
    tariff = Tariff(LOW, (Hours(HIGH, tuple(spans), days),), east)
    change = tariff.changes_after(now)
    assert change is not None
    assert now < change <= now + 86_400
    for part in (0.0, 0.3, 0.7, 0.999):
        assert tariff.at(now + (change - now) * part) == tariff.at(now)


@pytest.mark.parametrize(
    ("price", "usage", "total"),
    [
        (Price(9, 27, 0.9), Usage(1_000_000, 1_000_000), "36"),
        (Price(9, 27, 0.9), Usage(1000, 10, cached=400), "0.00603"),
        (Price(9, 27), Usage(1000, 0, cached=400), "0.009"),
        (Price(0.1, 0.2), Usage(3, 3), "0.0000009"),
        (Price(1, 1), Usage(5, 0, cached=9), "0.000005"),
    ],
)
def test_a_cost_is_exact(price: Price, usage: Usage, total: str) -> None:
    assert cost(price, usage) == Decimal(total)


TOKENS = st.integers(0, 2_000_000)


@given(st.lists(st.tuples(TOKENS, TOKENS), max_size=20))
def test_the_parts_cost_what_the_whole_costs(parts: list[tuple[int, int]]) -> None:
    price = Price(0.044, 3.96)
    whole = Usage(sum(p for p, _ in parts), sum(c for _, c in parts))
    assert sum((cost(price, Usage(p, c)) for p, c in parts), Decimal(0)) == cost(price, whole)


def test_the_cheapest_changes_with_the_hour_and_a_lease_keeps_the_price_it_was_granted_at(
    world: Any, priced: Any
) -> None:
    plan = priced(world.plan((Tier(("a", "b"), "cheapest"),), a=Limits(), b=Limits()), a=LOW, b=Price(6, 18))
    dispatcher = Dispatcher(plan, Random(1))
    first = world.go(dispatcher)
    dispatcher.apply(prices({"a": {"a-id": PEAK}}, unix("2026-11-24T10:00:00")), 1.0)
    second = world.go(dispatcher, 1.0)
    assert (first.backend, first.price, second.backend) == ("a", LOW, "b")
    dispatcher.apply(prices({"a": {"a-id": PEAK}}, unix("2026-11-24T12:00:00")), 2.0)
    assert world.go(dispatcher, 2.0).backend == "a"
    assert first.price == LOW
    dispatcher.settle(first, Served(), 3.0)


def test_explain_and_the_snapshot_show_the_price_that_holds_now(world: Any, priced: Any) -> None:
    plan = priced(world.plan(a=Limits(), b=Limits()), a=LOW)
    dispatcher = Dispatcher(plan, Random(1))
    dispatcher.apply(Prices({"a": {"a-id": HIGH}, "gone": {"x": LOW}}), 0.0)
    told = {line.backend: line.price for line in dispatcher.explain(world.request(), 0.0)}
    assert told == {"a": HIGH, "b": None}
    assert {b.name: b.prices for b in dispatcher.snapshot(0.0).backends} == {"a": {"m": HIGH}, "b": {}}


def test_a_price_for_another_model_of_the_cloud_says_nothing_of_ours(world: Any, priced: Any) -> None:
    dispatcher = Dispatcher(priced(world.plan(a=Limits()), a=LOW), Random(1))
    dispatcher.apply(Prices({"a": {"other-id": HIGH}}), 0.0)
    assert world.go(dispatcher).price == LOW


def test_a_price_in_another_currency_is_not_compared(world: Any, priced: Any) -> None:
    tier = Tier(("a", "b", "c"), "cheapest")
    plan = priced(world.plan((tier,), a=Limits(), b=Limits(), c=Limits()), b=Price(6, 18), c=Price(5, 18))
    dispatcher = Dispatcher(plan, Random(1))
    dollars = replace(Price(0.1, 0.1), currency="USD")
    dispatcher.apply(Prices({"a": {"a-id": dollars}}), 0.0)
    lease = world.go(dispatcher)
    assert lease.backend == "c"
    dispatcher.apply(Reloaded(world.plan((tier,), a=Limits(), b=Limits(), c=Limits())), 1.0)
    assert world.go(dispatcher, 1.0).price is None, "a new plan brings its own prices"
