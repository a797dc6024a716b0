"""Sums of records: every request once, every token at its backend, no currency added to another."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.report import Report, Seen
from gateway.telemetry.usage import Try

BEIJING = timezone(timedelta(hours=8))


def line(number: int, at: str = "2026-11-24T01:00:00.000Z", **more: object) -> bytes:
    words = {"tenant": "acme", "model": "r2", "backend": "ark", "status": 200, "input": 100, "cached": 40, "output": 10}
    return msgspec.json.encode(
        {"id": f"req-a1-{number:x}", "at": at, "cost": "0.5", "currency": "CNY", **words, **more}
    )


def read(by: Iterable[str], *lines: bytes, **more: float) -> Report:
    report = Report(tuple(by), BEIJING, **more)
    report.read(lines)
    return report


def test_lost_attempts_count_at_the_backend_that_had_them() -> None:
    lost = Try("own", "x", "failed:timeout", 100, 0, 3, 0, True, "0.25", "USD")
    report = read(["backend"], line(1, lost=[lost]), line(2))
    rows = {names[0]: total for names, total in report.sorted()}
    assert (rows["ark"].requests, rows["ark"].input, rows["ark"].lost) == (2, 200, 0)
    assert (rows["own"].requests, rows["own"].input, rows["own"].lost, rows["own"].estimated) == (0, 100, 1, 1)
    assert report.total.cost == {"CNY": Decimal(1), "USD": Decimal("0.25")}


def test_a_refused_request_counts_and_is_not_answered() -> None:
    report = read(
        ["status"], line(1, backend="", status=429, input=0, cached=0, output=0, cost=None, currency=""), line(2)
    )
    rows = {names[0]: (total.requests, total.answered, total.unpriced) for names, total in report.sorted()}
    assert rows == {"200": (1, 1, 0), "429": (1, 0, 0)}


def test_tokens_without_a_price_are_told() -> None:
    assert read(["tenant"], line(1, cost=None, currency="")).total.unpriced == 1


def test_a_day_begins_at_midnight_of_the_zone() -> None:
    lines = [line(1, "2026-11-24T15:59:59.999Z"), line(2, "2026-11-24T16:00:00.000Z")]
    assert [names for names, _ in read(["day"], *lines).sorted()] == [("2026-11-24",), ("2026-11-25",)]
    report = Report(["day"], UTC)
    report.read(lines)
    assert [names for names, _ in report.sorted()] == [("2026-11-24",)]


def test_since_counts_and_until_does_not() -> None:
    moment = 1_795_737_600.0
    lines = [
        line(n, f"2026-11-2{day}T{time}Z") for n, (day, time) in enumerate([(6, "23:59:59.999"), (7, "00:00:00.000")])
    ]
    assert read([], *lines, since=moment).total.requests == 1
    assert read([], *lines, until=moment).total.requests == 1


@pytest.mark.parametrize(
    "torn", [b'{"id":"req-a1-2","at":"2026-1', b"\xff\xfe", b"[]", b'{"id":"x","at":"noon"}', b"{}"]
)
def test_a_line_that_is_no_record_is_left_out_and_counted(torn: bytes) -> None:
    report = read([], line(1), torn, b"\n", line(3))
    assert (report.total.requests, report.torn) == (2, 1)


def test_what_a_later_version_adds_does_not_disturb() -> None:
    assert read([], line(1, color="blue")).total.requests == 1


def test_parts_add_up_however_they_are_cut() -> None:
    rng = Random(1)
    lines = [
        line(n, tenant=rng.choice("ab"), backend=rng.choice("xyz"), input=rng.randrange(9999), cost=f"0.{n:06d}")
        for n in range(300)
    ]
    whole = read([], *lines).total
    for by in (["tenant"], ["backend", "tenant"], ["day", "model", "class"]):
        rows = [total for _, total in read(by, *lines).sorted()]
        assert sum(total.input for total in rows) == whole.input
        assert sum((total.cost["CNY"] for total in rows), Decimal(0)) == whole.cost["CNY"]


IDS = st.one_of(
    st.builds(lambda p, n: f"req-{p}-{n:x}", st.sampled_from(["a", "b", "a-1"]), st.integers(0, 20_000)),
    st.sampled_from(
        ["", "-", "req-a-01", "req-a-1", "req-a-+1", "req-a-0x1", "req-a--1", "req-a-1_0", "req-a-A", "x" * 99]
    ),
    st.text(max_size=20),
)


@given(st.lists(IDS, max_size=60))
def test_a_request_is_seen_for_the_first_time_once(ids: list[str]) -> None:
    seen = Seen()
    known: set[str] = set()
    for id_ in ids:
        assert seen.first(id_) == (id_ not in known)
        known.add(id_)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_records_that_come_again_through_another_sink_or_a_retry_count_once(numbers: list[int]) -> None:
    report = read(["tenant"], *(line(number) for number in numbers))
    assert report.total.requests == len(set(numbers))
    assert report.twice == len(numbers) - len(set(numbers))
    assert report.total.input == 100 * len(set(numbers))
