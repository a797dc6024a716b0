"""Trials: how more than the last ceiling is tried, and when it is believed."""

from __future__ import annotations

from gateway.core.limit import Learner
from gateway.core.trial import IN_TURN, Trial


def running(learner: Learner, count: int) -> None:
    """So many streams that have begun in time."""
    for number in range(count):
        learner.sent(number, 1.0)
        learner.first(number, 0, 0.0)


def queued() -> Learner:
    """Eight run, and a queue in the cloud has shown that it bears no more; two seconds later a trial is due."""
    learner = Learner("within", 40)
    running(learner, 9)
    for number in (20, 21):
        learner.sent(number, 0.5)
    learner.look(0.6, 0, True)
    for number in (7, 8):
        learner.ended(number, 0.8)
    learner.first(20, 0, 1.0)
    learner.ended(21, 1.0)
    assert (learner.limit, learner.ceiling, learner.standing) == (8, 8, 8)
    return learner


def test_one_stream_is_tried_above_a_ceiling_and_believed_when_all_hold_a_place() -> None:
    learner = queued()
    learner.look(3.0, 0, True)
    assert (learner.cap(), learner.limit) == (9, 8)
    learner.sent(50, 9.0)
    assert learner.cap() == 8, "one, until it is judged"
    learner.look(6.0, 0, True)
    learner.first(50, 0, 6.5)
    assert (learner.limit, learner.ceiling, learner.why) == (9, 9, "growing")
    learner.look(6.6, 0, True)
    assert learner.cap() == 10, "and at once one more: it was a trial of one"


def test_a_stream_on_trial_that_took_the_place_of_another_proves_nothing() -> None:
    learner = queued()
    learner.look(3.0, 0, True)
    learner.sent(50, 9.0)
    learner.ended(0, 4.0)
    learner.first(50, 0, 4.2)
    assert (learner.limit, learner.trial.tried) == (8, 0), "in time, and yet it may have queued until that one ended"
    learner.look(4.5, 0, True)
    assert learner.cap() == 8
    learner.look(5.0, 0, True)
    assert learner.cap() == 9
    learner.sent(51, 9.0)
    learner.ended(51, 5.5)
    assert learner.trial.tried == 0, "it ended before it began: no verdict"
    assert repr(learner.trial) == "<Trial at 9>"


def test_where_somebody_is_always_unheard_to_begin_in_time_is_enough() -> None:
    learner = queued()
    learner.sent(40, 99.0)
    learner.ended(0, 2.5)
    learner.look(3.0, 0, True)
    assert learner.cap() == 8, "a moment in which all have begun would be better"
    learner.look(3.0 + IN_TURN, 0, True)
    assert repr(learner.trial) == "<Trial of 9 streams, judged by 0>"
    learner.sent(50, 9.0)
    learner.first(50, 0, 8.5)
    assert learner.limit == 9
    learner.look(9.0 + IN_TURN, 0, True)
    assert learner.cap() == 10
    learner.sent(51, 20.0)
    learner.first(51, 0, 21.0)
    assert (learner.limit, learner.trial.tried) == (9, 0), "late"


def test_plain_requests_on_trial_are_believed_until_the_cloud_says_no() -> None:
    learner = queued()
    learner.look(3.0, 0, True)
    learner.sent_blind()
    assert (learner.limit, learner.ceiling, learner.trial.tried) == (9, 9, 0)


def test_a_trial_never_goes_beyond_the_knee() -> None:
    learner = queued()
    learner.trusted = False
    learner.pace.knee = 8.4
    learner.look(3.0, 0, True)
    assert learner.cap() == 8


def test_trials_that_are_borne_in_a_row_double_and_the_waits_start_anew() -> None:
    trial = Trial()
    for wait in (2.0, 4.0, 8.0):
        trial.begin(9.0, 0.0, counted=True)
        assert trial.at == wait
    steps = []
    for _ in range(5):
        steps.append(trial.step)
        trial.borne(100.0, 10.0, hard=False)
    assert steps == [1, 2, 4, 8, 16]
    trial.lowered(10.0, deep=False)
    assert (trial.step, trial.at) == (1, 12)
    trial.lowered(10.0, deep=True)
    assert trial.at == 26.0


def test_a_ceiling_that_a_queue_set_too_low_follows_those_who_begin_after_all() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in range(20, 25):
        learner.sent(number, 2.0 if number < 22 else 99.0)
    learner.look(3.0, 0, True)
    learner.ended(0, 4.0)
    learner.first(20, 0, 5.0)
    assert (learner.holding, learner.limit) == (False, 10)
    for number in range(21, 25):
        learner.first(number, 0, 5.2)
    assert (learner.limit, learner.ceiling) == (14, 14)


def test_bad_luck_in_a_row_of_trials_is_tried_again_soon_with_less() -> None:
    trial = Trial()
    trial.begin(9.0, 0.0, counted=True)
    trial.missed(1.0)
    assert (trial.step, trial.at) == (1, 2), "a single one waits as it must"
    for _ in range(2):
        trial.begin(9.0, 10.0, counted=True)
        trial.borne(50.0, 10.0, hard=False)
    trial.begin(9.0, 10.0, counted=True)
    assert trial.at > 15.0
    trial.missed(11.0)
    assert (trial.step, trial.at) == (2, 13)


def test_a_trial_that_a_hedge_has_beaten_is_called_off() -> None:
    learner = queued()
    learner.look(3.0, 0, True)
    learner.sent(50, 9.0)
    learner.forsake(50, 8.0)
    assert learner.trial.tried == 0
    learner.look(9.0, 0, True)
    assert learner.cap() == 9, "the next one does not wait for it"


def test_where_tries_cost_refusals_steps_grow_only_when_much_is_regained() -> None:
    trial = Trial()
    steps = []
    for _ in range(5):
        trial.borne(20.0, 0.0, hard=True)
        steps.append(trial.step)
    assert steps == [1.0, 1.0, 2.0, 3.0, 4.0]
