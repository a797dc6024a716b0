"""The learner alone: what each signal does to the limit."""

from __future__ import annotations

from math import inf

import pytest

from gateway.core.knowledge import START
from gateway.core.lesson import Lesson, Mark
from gateway.core.limit import ANCHOR_TIME, DRAINED, SCOUT, SCOUT_SOON, Learner
from gateway.core.pace import ANCHOR, Pace
from gateway.core.quota import PATIENCE, Quota
from gateway.core.trial import EARNED, HARD_PROBE
from gateway.core.window import REQUESTS, Window


def running(learner: Learner, count: int, now: float = 0.0, first: int = 0) -> None:
    """So many streams that have begun in time."""
    for number in range(first, first + count):
        learner.sent(number, now + 1.0)
        learner.first(number, 0, now)


def anchored(learn: str = "beyond", declared: float | None = 20.0) -> Learner:
    learner = Learner(learn, declared)  # type: ignore[arg-type]
    running(learner, 1)
    learner.look(ANCHOR_TIME, 0, False)
    return learner


def test_an_unknown_limit_starts_small_and_waits_until_the_pace_of_few_is_known() -> None:
    learner = Learner("within", None)
    assert learner.cap() == START
    guessed = Learner("beyond", 20)
    running(guessed, 1)
    assert guessed.cap() == START
    running(learner, 8)
    assert (learner.limit, learner.cap()) == (START, START)
    learner.look(1.0, 0, True)
    assert learner.limit == START
    learner.look(ANCHOR_TIME, 0, True)
    assert learner.limit == START + 1
    assert repr(learner) == "<Learner 9/inf streams, 8+0, open: growing>"


def test_a_declared_limit_is_trusted_until_it_is_contradicted() -> None:
    learner = Learner("within", 50)
    assert (learner.cap(), learner.learnt, learner.gating) == (inf, None, False)
    running(learner, 40)
    learner.refused(None, 1.0)
    assert (learner.cap(), learner.why) == (40, "refused: too many at once")
    learner.declare("within", 60)
    assert learner.limit == 40, "what was learnt outlives a reload"
    learner.declare("beyond", 60)
    assert learner.limit == 60


def test_first_tokens_in_time_raise_a_limit_in_use() -> None:
    learner = anchored()
    assert learner.limit == 20
    running(learner, 14, first=10)
    assert learner.limit == 20, "not in use"
    running(learner, 3, first=30)
    assert learner.limit == 23
    learner.probe = False
    running(learner, 3, first=40)
    assert learner.limit == 23, "another replica tries"


def test_near_the_ceiling_it_grows_slowly_and_a_part_of_a_stream_is_no_lesson() -> None:
    learner = anchored()
    learner.limit, learner.ceiling = 20.0, 21.0
    marks = learner.marks()
    running(learner, 16, first=10)
    assert (learner.limit, learner.marks()["streams"].rank) == (20.5, marks["streams"].rank)


def test_below_the_ceiling_nothing_is_added_while_somebody_is_unheard() -> None:
    learner = anchored()
    learner.look(4.0, 0, True)
    assert learner.limit == 21
    learner.sent(99, 9.0)
    learner.look(5.0, 0, True)
    assert learner.limit == 21


def test_a_late_first_token_halves_the_volley_once() -> None:
    learner = anchored()
    for number in range(10, 14):
        learner.sent(number, 5.0)
    assert learner.cap() == 9
    learner.first(10, 0, 6.0)
    learner.first(11, 0, 6.0)
    assert learner.volley == 4
    learner.sent(20, 7.0)
    learner.first(20, 0, 8.0)
    assert learner.volley == 2


def test_a_queue_in_the_cloud_holds_and_its_end_tells_the_limit() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in range(20, 25):
        learner.sent(number, 2.0)
    learner.look(3.0, 0, True)
    assert (learner.holding, learner.cap(), learner.learnt) == (True, 10, 10)
    for number in range(5):
        learner.ended(number, 4.0)
    for number in range(20, 25):
        learner.first(number, 0, 5.0)
    assert (learner.holding, learner.limit, learner.ceiling) == (False, 10, 10)


def test_a_queue_that_dissolves_while_nobody_ended_was_for_prompts_and_lowers_nothing() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in range(20, 25):
        learner.sent(number, 2.0)
    learner.look(3.0, 0, True)
    for number in range(20, 25):
        learner.first(number, 0, 4.0)
    assert (learner.holding, learner.limit, learner.volley, learner.why) == (False, inf, 2, "declared")


def test_a_few_overdue_streams_or_older_ones_than_who_began_last_are_no_queue() -> None:
    learner = Learner("within", 50)
    for number in range(5):
        learner.sent(number, 2.0)
    running(learner, 10, first=10)
    learner.sent(30, 2.0)
    learner.look(3.0, 0, True)
    assert not learner.holding


def test_a_scout_finds_out_that_streams_were_lost() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in (20, 21, 22):
        learner.sent(number, 2.0)
    learner.look(3.0, 0, True)
    learner.look(4.0, 0, True)
    assert learner.holding
    learner.look(3.0 + SCOUT, 0, True)
    assert learner.cap() == 14
    learner.sent(30, 9.0)
    learner.first(30, 0, 8.0)
    learner.look(8.5, 0, True)
    assert not learner.holding


def test_a_hold_that_a_crash_ends_cuts_the_limit_in_half_at_most() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in (20, 21, 22):
        learner.sent(number, 2.0)
    learner.look(3.0, 0, True)
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22):
        learner.ended(number, 4.0)
    assert (learner.holding, learner.limit) == (False, 5)


def test_refusals_name_the_limit_and_a_probe_above_it_must_be_earned() -> None:
    learner = anchored()
    running(learner, 15, first=1)
    learner.refused(None, 10.0)
    assert (learner.limit, learner.ceiling) == (16, 16)
    learner.look(20.0, 0, True)
    assert learner.cap() == 16, "not earned"
    for number in range(1000, 1000 + EARNED):
        running(learner, 1, 20.0, number)
        learner.ended(number, 20.0)
    learner.look(21.0, 0, True)
    assert (learner.cap(), learner.limit, learner.learnt) == (17, 16, 17)
    learner.refused(None, 22.0)
    assert learner.cap() == 16
    learner.look(22.0 + HARD_PROBE - 1.0, 0, True)
    assert learner.cap() == 16, "each refusal must be earned"
    learner.look(22.0 + HARD_PROBE, 0, True)
    assert learner.cap() == 17, "or be long ago"
    running(learner, 1, 700.0, 5000)
    assert (learner.limit, learner.trial.step) == (17, 1), "it was borne: more may be tried"
    learner.refused(7.0, 710.0)
    assert learner.limit == 7, "the number that the cloud names"


def test_refused_twice_with_nothing_accepted_between_means_that_the_cloud_has_shrunk() -> None:
    learner = anchored()
    running(learner, 15, first=1)
    learner.refused(None, 10.0)
    learner.refused(None, 11.5, again=True)
    assert learner.limit == 8, "half of what it had"
    for number in range(8):
        learner.ended(number, 12.0)
    learner.look(20.0, 0, True)
    assert learner.cap() == 9, "a guess need not be earned"
    learner.refused(None, 20.1)
    assert learner.limit == 8
    learner.look(40.0, 0, True)
    assert learner.cap() == 8, "now it is known"


def test_a_hold_in_which_nobody_begins_is_tested_when_most_have_left() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in range(20, 23):
        learner.sent(number, 2.0)
    learner.look(3.0, 0, True)
    for number in range(round(10 * (1 - DRAINED))):
        learner.ended(number, 3.5)
    learner.look(4.0, 0, True)
    assert learner.cap() == 4
    learner.look(3.0 + SCOUT_SOON, 0, True)
    assert (learner.holding, learner.cap()) == (False, 8), "one more than is in flight"


def test_a_volley_of_refusals_cuts_no_more_than_half() -> None:
    learner = anchored()
    running(learner, 15, first=1)
    for number in range(16):
        learner.ended(number, 5.0)
        learner.refused(None, 5.0)
    assert learner.limit == 10.5


def test_an_overloaded_platform_is_news_once_and_only_to_who_uses_it() -> None:
    learner = anchored()
    learner.overloaded(1.0, 5.0)
    assert learner.limit == 20, "one stream of twenty is not what overloads it"
    running(learner, 15, first=1)
    learner.overloaded(4.0, 6.0)
    learner.overloaded(5.0, 6.0)
    assert learner.limit == pytest.approx(0.85 * 17)
    trusted = Learner("within", 100)
    running(trusted, 3)
    trusted.overloaded(0.0, 1.0)
    assert trusted.limit == inf


def test_tokens_in_flight_grow_when_they_are_what_is_full() -> None:
    learner = anchored()
    before = learner.tokens
    learner.sent(5, 9.0)
    learner.first(5, round(before), 4.0)
    assert learner.tokens == pytest.approx(1.5 * before, rel=0.01)


def test_a_knee_in_the_pace_is_where_growth_ends() -> None:
    learner = Learner("beyond", 400)
    for place in range(ANCHOR):
        learner.gap(4.0, 0.024, place * 0.1)
    for place in range(40):
        learner.gap(50.0, 0.070, 10.0 + place)
    assert learner.limit == pytest.approx(31.6, rel=0.02)
    assert learner.why == "knee of its pace"
    learner._raise(1.0)
    assert learner.limit == pytest.approx(31.6, rel=0.02)
    learner.holding = True
    learner.gap(1.0, 9.0, 99.0)
    assert learner.pace.knee == pytest.approx(31.6, rel=0.02)


def told(streams: Mark | None = None, tokens: Mark | None = None, **more: object) -> Lesson:
    marks = {kind: mark for kind, mark in (("streams", streams), ("tokens", tokens)) if mark is not None}
    return Lesson(marks, **more)  # type: ignore[arg-type]


def test_lessons_are_taken_over_when_they_are_newer() -> None:
    learner = Learner("within", None)
    streams = Mark(30.0, 3, 2, 30.0, 44.0, True, False, False, "refused: too many at once")
    learner.take_over(told(streams, Mark(5e5, 0, 7), probe=False, prober="other"), 0, 1.0)
    assert learner.marks() == {"streams": streams, "tokens": Mark(5e5, 0, 7)}
    assert (learner.probe, learner.prober, learner.why) == (False, "other", "refused: too many at once")
    learner.take_over(told(Mark(90.0, 2, 9)), 0, 2.0)
    assert (learner.limit, learner.probe) == (30, True)
    learner.take_over(told(Mark(29.0, 3, 2), Mark(6e5, 0, 6)), 0, 2.0)
    assert (learner.limit, learner.tokens, learner.ceiling, learner.knee) == (29, 5e5, inf, inf)


def test_a_lease_from_before_the_learner_counts_as_running() -> None:
    learner = Learner("within", None)
    learner.begun = 1
    learner.first(1, 0, 0.0)
    learner.ended(1, 0.0)
    assert learner.begun == 0


def test_the_pace_of_few_is_remembered_and_renewed_only_by_few() -> None:
    pace = Pace()
    pace.add(5.0, 0.0)
    assert not pace.anchored
    for _ in range(ANCHOR):
        pace.add(5.0, 0.025)
    assert pace.anchored
    for _ in range(60):
        pace.add(8.0, 0.028)
    assert pace.knee == inf, "too near the anchor to tell"
    for _ in range(400):
        pace.add(50.0, 0.070)
    assert pace.knee == pytest.approx(31.6, rel=0.02)
    assert repr(pace).startswith("<Pace, 0.0700 s per token at 50 streams, knee at 3")
    for _ in range(400):
        pace.add(4.0, 0.012)
    pace.add(50.0, 0.070)
    assert pace.knee < 20


def test_a_quota_is_what_the_window_held_and_is_tried_upwards_rarely() -> None:
    quota, window = Quota(), Window(60.0, 98.0, REQUESTS)
    assert not quota.due(window, 1e9)
    assert quota.refused(100, 10.0) == 98
    window.add(97, 10.0)
    assert not quota.due(window, 11.0)
    assert not quota.due(window, 10.0 + PATIENCE), "what left the window is no use of it"
    window.add(97, 240.0)
    assert quota.due(window, 10.0 + 2 * PATIENCE)
    assert quota.limit == pytest.approx(99.96)
    assert quota.refused(0, 300.0) == 1
    assert not quota.due(window, 301.0 + PATIENCE), "more patience after each refusal"
    assert repr(quota) == "<Quota 1>"


def test_a_replica_that_may_not_probe_lets_its_volley_grow_only() -> None:
    learner = anchored()
    learner.probe = False
    learner.volley = 2.0
    running(learner, 4, first=10)
    assert (learner.limit, learner.volley) == (20, 3)
