"""Latency, estimates, the retry budget: what is learnt from samples."""

from __future__ import annotations

from math import inf

import pytest

from gateway.core.budget import Budget
from gateway.core.estimate import Estimate
from gateway.core.latency import FADE, Average, Latency, Quantiles
from gateway.core.nouns import Request, RetryRules, Usage


def request(size: int = 3500, most: int | None = None) -> Request:
    return Request("q", "t", "m", "standard", size, most, True, 0.0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.95])
def test_quantiles_are_right_within_a_bucket(share: float) -> None:
    quantiles = Quantiles(1.0)
    for sample in range(1, 1001):
        quantiles.add(float(sample))
    assert quantiles.at(share) == pytest.approx(share * 1000, rel=0.06)


def test_quantiles_know_nothing_without_samples_and_bear_odd_ones() -> None:
    quantiles = Quantiles(1.0)
    assert quantiles.at(0.5) is None
    quantiles.add(0.0)
    quantiles.add(1e-9)
    assert quantiles.at(1.0) == pytest.approx(1.0, rel=0.06)
    quantiles.add(1e300)
    assert quantiles.at(1.0) == pytest.approx(1.26e11, rel=0.1)
    assert repr(quantiles) == "<Quantiles of 3>"


def test_old_samples_fade() -> None:
    quantiles = Quantiles(1.0)
    for _ in range(FADE):
        quantiles.add(10.0)
    for _ in range(FADE * 2):
        quantiles.add(1000.0)
    assert quantiles.at(0.5) == pytest.approx(1000, rel=0.06)
    assert quantiles.total < FADE


def test_first_samples_weigh_equally() -> None:
    average = Average(4)
    for sample in (2.0, 4.0, 6.0):
        average.add(sample)
    assert average.value == pytest.approx(4.0)
    for _ in range(50):
        average.add(10.0)
    assert average.value == pytest.approx(10.0, rel=0.01)


def test_a_slow_spell_is_forgotten_in_silence() -> None:
    latency = Latency()
    assert latency.predicted(5.0) == 0.0
    latency.first_token(8.0, 10.0)
    assert latency.predicted(10.5) == 8.0
    assert latency.predicted(40.0) == pytest.approx(4.0)


def test_an_estimate_starts_cautious_and_learns() -> None:
    estimate = Estimate()
    assert estimate.prompt(request()) == 1001
    assert estimate.answer(request()) == 1024
    for _ in range(200):
        estimate.learn(request(4000), Usage(2000, 100))
    assert estimate.bytes_per_token == pytest.approx(2.0, rel=0.01)
    assert estimate.answer(request()) == pytest.approx(100, rel=0.06)
    assert repr(estimate).startswith("<Estimate 2.00 bytes/token, ")


def test_max_tokens_only_ever_lowers_an_estimate() -> None:
    estimate = Estimate()
    assert estimate.answer(request(most=10)) == 10
    assert estimate.answer(request(most=100_000)) == 1024


def test_those_who_get_what_they_ask_for_are_reserved_in_full() -> None:
    estimate = Estimate()
    for most in range(64, 128):
        estimate.learn(request(most=most), Usage(10, most))
    assert estimate.answer(request(most=127)) == pytest.approx(127, rel=0.06)
    assert estimate.answer(request(most=70)) == pytest.approx(70, rel=0.06)


def test_those_who_ask_for_the_sky_are_not() -> None:
    estimate = Estimate()
    for _ in range(100):
        estimate.learn(request(most=32768), Usage(10, 1500))
        estimate.learn(request(most=100), Usage(10, 100))
    assert estimate.answer(request(most=40_000)) < 2500
    assert estimate.answer(request(most=100)) == pytest.approx(100, rel=0.06)
    assert estimate.answer(request(most=10**15)) == 1024, "nobody has asked for that much: start cautiously"


def test_uncertain_prompts_are_taken_for_longer_than_they_seem() -> None:
    estimate = Estimate()
    for size in (2000, 6000) * 100:
        estimate.learn(request(size), Usage(1000, 10))
    assert estimate.bytes_per_token == pytest.approx(4.0, rel=0.1)
    assert estimate.prompt(request(4000)) > 1500


@pytest.mark.parametrize(
    ("size", "usage", "low", "high"), [(1, 10_000, 0.2, 3.5), (10**9, 1, 3.5, 16.0), (0, 5, 3.5, 3.5)]
)
def test_absurd_usage_moves_an_estimate_a_little(size: int, usage: int, low: float, high: float) -> None:
    estimate = Estimate()
    estimate.learn(request(size), Usage(usage, 0))
    assert low <= estimate.bytes_per_token <= high


def test_a_cold_gateway_may_retry_ten_times() -> None:
    budget = Budget(RetryRules(0.1, 0.0), 0.0)
    assert [budget.withdraw(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert budget.when(0.0) == inf
    for _ in range(11):
        budget.deposit(1.0)
    assert budget.when(1.0) == 1.0
    assert budget.withdraw(1.0)
    assert not budget.none


def test_income_refills_and_says_when() -> None:
    budget = Budget(RetryRules(0.0, 2.0), 0.0)
    while budget.withdraw(0.0):
        pass
    at = budget.when(0.0)
    assert at == pytest.approx(0.5, abs=1e-3)
    assert budget.withdraw(at)


def test_savings_expire_after_the_horizon() -> None:
    budget = Budget(RetryRules(1.0, 0.0), 0.0)
    for _ in range(100):
        budget.deposit(1.0)
    assert budget.balance(1.0) == 100
    budget.deposit(7.0)
    assert budget.balance(7.0) == 101
    assert budget.balance(30.0) == 10
    assert repr(budget) == "<Budget 10.0 retries>"


@pytest.mark.parametrize("rules", [RetryRules(0.0, 0.0), RetryRules(attempts=1)])
def test_rules_can_forbid_retries(rules: RetryRules) -> None:
    assert Budget(rules).none
