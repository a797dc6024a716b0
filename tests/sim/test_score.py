"""What counts as a good answer, and the sums over a run."""

from __future__ import annotations

from gateway.sim.demand import Need
from gateway.sim.score import Record, Terms, good, percentile, score

TERMS = Terms(patience=3.0, first_token=1.0)
NEED = Need(0, 10.0, 100, 50)
PLAIN = Need(1, 10.0, 100, 50, stream=False)


def test_a_stream_is_good_when_its_first_token_came_in_time() -> None:
    assert good(Record(NEED, "served", 20.0, first=14.0, tokens=50), TERMS)
    assert not good(Record(NEED, "served", 20.0, first=14.1, tokens=50), TERMS)


def test_a_plain_answer_is_good_when_it_did_not_wait_too_long() -> None:
    assert good(Record(PLAIN, "served", 20.0, queued=3.0, tokens=50), TERMS)
    assert not good(Record(PLAIN, "served", 20.0, queued=3.1, tokens=50), TERMS)


def test_what_was_not_served_whole_is_never_good() -> None:
    assert not good(Record(NEED, "failed", 20.0, first=10.5, tokens=40), TERMS)
    assert not good(Record(NEED, "refused", 10.0), TERMS)


def test_a_score_adds_up() -> None:
    records = [
        Record(NEED, "served", 20.0, first=11.0, tokens=50, attempts=2),
        Record(NEED, "served", 30.0, first=29.0, tokens=70, attempts=1),
        Record(NEED, "failed", 12.0, attempts=1),
        Record(NEED, "refused", 10.0, reason="queue_full"),
    ]
    found = score(records, TERMS)
    assert (found.offered, found.served, found.good, found.failed, found.turned_away) == (4, 2, 1, 1, 1)
    assert found.goodput == 50
    assert found.refused == {"queue_full": 1}
    assert found.amplification == 4 / 3


def test_an_empty_run_scores_nothing_and_amplifies_nothing() -> None:
    assert score([], TERMS).amplification == 1.0


def test_time_spent_waiting_is_not_held_against_a_refusal() -> None:
    assert Record(NEED, "refused", 13.5, queued=3.0).decided == 0.5


def test_a_percentile_is_a_value_that_occurred() -> None:
    values = [3.0, 1.0, 2.0, 4.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.75, 0.99)] == [1.0, 2.0, 3.0, 4.0]
    assert percentile([], 0.5) is None
