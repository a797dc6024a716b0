"""Numbers in refusals: waits are believed up to a day, limits only when they are of the right kind."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import hints
from gateway.wire.dialect import Dialect, Rule
from gateway.wire.refusals import classify

NOW = datetime(2026, 11, 24, 4, 0, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("headers", "message", "wait"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "1849295"}, "", 86400),
        ({"retry-after": "1.5"}, "", 1.5),
        ({"retry-after": "0"}, "try again in 9s", 0),
        ({"retry-after": "-3"}, "", None),
        ({"retry-after": "soon"}, "try again in 9s", 9),
        ({"retry-after": "Tue, 24 Nov 2026 04:01:30 GMT"}, "", 60),
        ({"retry-after": "Tue, 24 Nov 2026 04:00:00 GMT"}, "", 0),
        ({"retry-after": "Tue, 24 Nov 2026 04:01:30 -0000"}, "", 60),
        ({"retry-after": "Tue, 99 Nov 9999999999 04:01:30 GMT"}, "", None),
        ({"retry-after": "x" * 100}, "", None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, "", 1.5),
        ({}, "please try again after 1 seconds", 1),
        ({}, "Please try again in 6m0s.", 360),
        ({}, "Please retry in 500 milliseconds", 0.5),
        ({}, "try again in 20ms", 0.02),
        ({}, "wait for 2 hours", 7200),
        ({}, "try again in 1h2m3s", 3723),
        ({}, "请在 30 秒后重试", 30),
        ({}, "请 5 分钟之后重试", 300),
        ({}, "try again later", None),
        ({}, "it will reset at 2026-11-24 12:01:30", 60),
        ({}, "it will reset at 2026-11-24T04:01:30Z", 60),
        ({}, "it will reset at 2026-11-24 04:01:30 UTC", 60),
        ({}, "it will reset at 2026-11-24 12:01:30+0800", 60),
        ({}, "it will reset at 2026-11-24 12:01 +08:00", 30),
        ({}, "it will reset at 2026-13-41 12:01:30", None),
        ({}, "it will reset soon", None),
        ({}, "seen at 2026-11-24 12:01:30", None),
        ({}, "reset at 2020-01-01 00:00:00", 0),
        ({}, "reset at 2036-01-01 00:00:00", 86400),
    ],
)
def test_a_wait_is_understood(headers: dict[str, str], message: str, wait: float | None) -> None:
    assert hints.wait(headers, message, NOW) == (None if wait is None else pytest.approx(wait))


def test_without_a_clock_the_date_header_serves() -> None:
    headers = {"retry-after": "Tue, 24 Nov 2026 04:01:30 GMT", "date": "Tue, 24 Nov 2026 04:00:30 GMT"}
    assert hints.wait(headers, "", None) == 60
    assert hints.wait({"retry-after": headers["retry-after"]}, "reset at 2026-11-24 12:01:30", None) is None


@pytest.mark.parametrize(
    ("end", "wall", "wait"),
    [
        ("minute", NOW, 30),
        ("minute", None, 60),
        ("beijing-midnight", NOW, 43170),
        ("beijing-midnight", datetime(2026, 11, 24, 15, 59, 59, tzinfo=UTC).timestamp(), 1),
        ("beijing-midnight", datetime(2026, 11, 24, 16, 0, 0, tzinfo=UTC).timestamp(), 86400),
        ("beijing-midnight", None, 3600),
    ],
)
def test_an_end_by_the_clock_is_computed(end: str, wall: float | None, wait: float) -> None:
    assert hints.until(end, wall) == wait


@pytest.mark.parametrize(
    ("kind", "message", "limit"),
    [
        ("concurrency", "Your current concurrency is 40, which exceeds your concurrency limit of 39", 39),
        ("concurrency", "max organization concurrency: 1", 1),
        ("concurrency", "too many", None),
        ("rpm", "max RPM: 3", 3),
        ("rpm", "exceeded rate limit is 1,200 times per minute", 1200),
        ("rpm", "requests per day (RPD): Limit 200, Used 200", None),
        ("rpm", "requests per min (RPM): Limit 3, Used 3", 3),
        ("rpm", "max TPM: 500000", None),
        ("tpm", "max TPM: 500000", 500000),
        ("tpm", "max TPD: 1500000", None),
        ("quota", "max RPM: 3", None),
    ],
)
def test_a_limit_is_learned_only_of_its_own_kind(kind: str, message: str, limit: float | None) -> None:
    assert hints.limit(kind, message) == limit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("20ms", 0.02), ("12", 12), ("1h", 3600), ("", None), (None, None), ("soon", None)],
)
def test_a_duration_is_read(text: str | None, seconds: float | None) -> None:
    assert hints.duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_row_says_how_long_when_the_cloud_does_not() -> None:
    rules = (Rule("rpm", status=(429,), until="minute"), Rule("overloaded", status=(503,), cool=5.0))
    dialect = Dialect("x", rules=rules)
    assert classify(dialect, 429, {}, b"", wall=NOW).retry_after == 30
    assert classify(dialect, 429, {}, b"").retry_after == 60
    assert classify(dialect, 503, {}, b"").retry_after == 5
    assert classify(dialect, 503, {"RETRY-AFTER": "8"}, b"").retry_after == 8


def test_a_wait_means_nothing_where_waiting_does_not_help() -> None:
    dialect = Dialect("x", rules=(Rule("invalid", status=(400,)), Rule("auth", status=(401,))))
    for status in (400, 401):
        assert classify(dialect, status, {"retry-after": "8"}, b"").retry_after is None


YEAR, TWO = st.integers(0, 12000), st.integers(0, 99)
ZONES = st.sampled_from(["", " Z", " GMT", " UTC", "+08:00", "-0000", "+2359", "-99:99"])
DATES = st.builds("Tue, {:02d} Jan {:04d} {:02d}:{:02d}:30{}".format, TWO, YEAR, TWO, TWO, ZONES)
MOMENTS = st.builds("reset at {:04d}-{:02d}-{:02d} {:02d}:{:02d}:30{}".format, YEAR, TWO, TWO, TWO, TWO, ZONES)


@settings(max_examples=150, deadline=None)
@given(
    date=DATES,
    moment=MOMENTS | st.text("again in 0123456789.hms秒后", max_size=40),
    wall=st.none() | st.floats(0, 1e11),
)
def test_any_wait_is_none_or_within_a_day(date: str, moment: str, wall: float | None) -> None:
    for headers in ({"retry-after": date}, {"date": date}):
        found = hints.wait(headers, moment, wall)
        assert found is None or 0.0 <= found <= 86400.0
