from __future__ import annotations

from collections import Counter
from random import Random
from statistics import median

import pytest

from gateway.clouds import laws
from gateway.clouds.profiles import Answer, Laws


def test_a_token_takes_longer_in_a_larger_batch() -> None:
    assert laws.per_token(Laws(t0=0.0214, k=0.00091), 48) == pytest.approx(0.0651, abs=1e-4)


def test_prefill_goes_at_its_rate() -> None:
    assert laws.prefill(Laws(prefill=16_500), 33_000) == 2.0


def test_jitter_spreads_to_both_sides_and_not_further() -> None:
    drawn = [laws.spread(Laws(jitter=0.2), Random(seed)) for seed in range(300)]
    assert 0.8 <= min(drawn) < 0.85
    assert 1.15 < max(drawn) <= 1.2
    assert laws.spread(Laws(jitter=0), Random(0)) == 1.0


def test_answers_are_lognormal_around_their_median() -> None:
    rng = Random(3)
    drawn = [laws.length(Answer(median=100, sigma=0.5, most=300), None, rng)[0] for _ in range(800)]
    assert 93 < median(drawn) < 107
    assert max(drawn) == 300
    assert laws.length(Answer(median=7, sigma=0), None, rng) == (7, False)


def test_max_tokens_only_ever_shortens() -> None:
    assert laws.length(Answer(median=10, sigma=0), 4, Random(0)) == (4, True)
    assert laws.length(Answer(median=10, sigma=0), 10, Random(0)) == (10, False)


def test_thoughts_leave_a_token_for_the_answer() -> None:
    assert laws.thoughts(Answer(reasoning=0.5), 10) == 5
    assert laws.thoughts(Answer(reasoning=1.0), 10) == 9
    assert laws.thoughts(Answer(reasoning=1.0), 1) == 0


def test_exclusive_chances_happen_as_often_as_they_should() -> None:
    rng = Random(1)
    found = Counter(laws.pick((("a", 0.5), ("b", 0.25)), rng) for _ in range(2000))
    assert 900 < found["a"] < 1100
    assert 400 < found["b"] < 600
    assert 400 < found[None] < 600
