from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

import pytest

from gateway.core.breaker import EARLIER, Breaker, Setback
from gateway.core.nouns import BreakerRules

RULES = BreakerRules(consecutive=3, share=0.5, samples=10, window=10.0, open_for=4.0, longest=10.0)


def fail(
    breaker: Breaker, now: float = 0.0, *, probe: bool = False, overload: bool = False, begun: bool = False
) -> bool:
    return breaker.failed(Setback(RULES, now, Random(1), probe, overload, begun))


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    while not fail(breaker, now):
        pass
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    assert [fail(breaker) for _ in range(3)] == [False, False, True]
    assert 4.0 * EARLIER <= breaker.until <= 4.0
    assert breaker.seen(1.0) == "open"
    assert breaker.seen(5.0) == "half-open"
    assert repr(breaker) == "<Breaker open, 3 failures in a row, 3/3 lately>"


def test_a_success_between_starts_the_row_again() -> None:
    breaker = Breaker()
    for _ in range(3):
        assert not fail(breaker)
        assert not fail(breaker)
        assert not breaker.succeeded(False, 0.0)
    assert breaker.seen(0.0) == "closed"


def test_three_overloads_in_a_row_open_it_whatever_the_rules() -> None:
    breaker = Breaker()
    patient = BreakerRules(consecutive=100)
    answers = [breaker.failed(Setback(patient, 0.0, Random(1), overload=True)) for _ in range(3)]
    assert answers == [False, False, True]


def test_the_share_of_failures_opens_it() -> None:
    breaker = Breaker()
    for second in range(4):
        breaker.succeeded(False, float(second))
        assert not fail(breaker, float(second))
    breaker.succeeded(False, 4.0)
    assert fail(breaker, 4.0), "the tenth sample, the fifth failure"


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = Breaker()
    for _ in range(4):
        fail(breaker, 0.0)
        breaker.succeeded(False, 0.0)
    for second in range(30, 34):
        breaker.succeeded(False, float(second))
    assert repr(breaker) == "<Breaker closed, 0 failures in a row, 0/4 lately>"


def test_a_stall_after_the_first_token_turns_its_success_into_a_failure() -> None:
    breaker = Breaker()
    for place in range(10):
        breaker.succeeded(False, 0.0)
        assert fail(breaker, 0.0, begun=True) == (place == 9)


@pytest.mark.parametrize("begun", [True, False])
def test_half_open_lets_one_through_and_his_fate_decides(begun: bool) -> None:
    breaker = opened()
    first = breaker.until
    breaker.probe(4.5, streamed=True)
    assert breaker.until == inf
    assert breaker.seen(9.0) == "half-open"
    assert not fail(breaker, 5.0, begun=begun), "somebody else's failure decides nothing"
    assert not breaker.succeeded(False, 5.0)
    assert fail(breaker, 5.0, probe=True)
    assert breaker.until - 5.0 > 1.5 * first
    breaker.probe(4.5, streamed=True)
    assert breaker.succeeded(True, 20.0)
    assert (breaker.state, breaker.until, breaker.opened) == ("closed", 0.0, 0)


def test_a_plain_probe_gets_company_and_the_first_to_speak_decides() -> None:
    breaker = opened()
    breaker.probe(5.0, streamed=False)
    assert breaker.until == 6.0, "a plain answer may take minutes: look again meanwhile"
    breaker.probe(6.0, streamed=True)
    assert breaker.succeeded(True, 6.5)
    assert not fail(breaker, 9.0, probe=True), "the plain one's failure is one failure like any other"
    assert breaker.state == "closed"


def test_of_two_probes_that_fail_only_the_first_prolongs_the_pause() -> None:
    breaker = opened()
    breaker.probe(5.0, streamed=False)
    breaker.probe(6.0, streamed=False)
    assert fail(breaker, 6.5, probe=True)
    until = breaker.until
    assert not fail(breaker, 6.6, probe=True)
    breaker.give_back(6.7)
    assert breaker.until == until


def test_failures_while_open_do_not_prolong_it() -> None:
    breaker = opened()
    until = breaker.until
    assert not fail(breaker, 1.0)
    assert breaker.until == until


def test_the_pause_has_a_longest() -> None:
    breaker = opened()
    for _ in range(40):
        breaker.probe(4.5, streamed=True)
        fail(breaker, 100.0, probe=True)
    assert breaker.until <= 100.0 + 10.0


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    breaker = opened()
    breaker.probe(4.5, streamed=True)
    breaker.give_back(7.0)
    assert breaker.seen(7.0) == "half-open"
    assert breaker.until == 7.0


def test_other_rules_of_the_window_start_the_share_anew() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.succeeded(False, 0.0)
    breaker.failed(Setback(BreakerRules(window=30.0), 0.0, Random(1)))
    assert "1/1 lately" in repr(breaker)


def test_the_probes_of_many_replicas_do_not_coincide() -> None:
    """Each replica has its own breaker: without chance all of them would ask in the same moment."""
    ends = []
    for replica in range(8):
        breaker = Breaker()
        for _ in range(3):
            breaker.failed(Setback(RULES, 0.0, Random(replica)))
        ends.append(breaker.until)
    assert max(ends) - min(ends) > 0.5
    assert min(b - a for a, b in pairwise(sorted(ends))) > 0.002
