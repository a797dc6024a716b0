from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.clouds.counts import Log, Rise, Windows, declared
from gateway.core.nouns import Limits

gaps = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 3.0]), st.integers(1, 9)), max_size=60)


@given(gaps)
def test_the_peak_of_a_log_is_the_fullest_window_that_ever_was(steps: list[tuple[float, int]]) -> None:
    log, now, entries = Log(1.0), 100.0, []
    for gap, amount in steps:
        now += gap
        log.add(amount, now)
        entries.append((now, amount))
    fullest = max((sum(a for t, a in entries if end - 1.0 < t <= end) for end, _ in entries), default=0)
    assert log.peak == fullest
    assert log.total(now + 0.25) == sum(a for t, a in entries if now + 0.25 - 1.0 < t)


@given(gaps)
def test_a_rise_compares_the_last_second_with_the_one_before(steps: list[tuple[float, int]]) -> None:
    rise, now, times = Rise(), 100.0, []
    for gap, _ in steps:
        now += gap
        rise.add(now)
        times.append(now)
        last = sum(1 for t in times if now - 1.0 < t <= now)
        before = sum(1 for t in times if now - 2.0 < t <= now - 1.0)
        assert rise.total(now) == last - before


def test_an_entry_leaves_its_window_exactly_one_span_later() -> None:
    log = Log(60.0)
    log.add(5, 10.0)
    assert log.total(69.999) == 5
    assert log.frees(69.0) == 1.0
    assert log.total(70.0) == 0
    assert log.frees(70.0) == 0.0


def test_a_time_that_goes_backwards_counts_as_the_latest() -> None:
    log = Log(1.0)
    log.add(1, 10.0)
    log.add(1, 9.5)
    assert log.total(10.9) == 2


def test_every_limit_that_is_full_is_named() -> None:
    windows = Windows()
    limits = Limits(rpm=2, rps=2, tpm=10, tps=10, ramp=2)
    assert windows.exceeded(limits, 2, 5.0) == []
    for _ in range(2):
        windows.request(5.0)
        windows.tokens(5, 5.0)
    assert windows.exceeded(limits, 2, 5.0) == ["rps", "ramp", "rpm", "tps", "tpm", "daily"]
    assert windows.exceeded(limits, 2, 6.5) == ["rpm", "tpm", "daily"]
    assert windows.wait("rpm", 6.0) == 59.0
    assert windows.wait("streams", 6.0) == 1.0


def test_only_limits_that_exist_are_declared() -> None:
    assert declared(Limits(streams=3, rpm=9), None, None) == {"streams": 3, "rpm": 9}
    assert declared(Limits(), 100, 4) == {"daily": 100, "slots": 4}
