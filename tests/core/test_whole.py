"""The account as a whole: what other replicas use and learn changes what this one decides."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.dispatcher import Dispatcher
from gateway.core.gauges import whole_of
from gateway.core.growth import FIRST_VOLLEY
from gateway.core.lesson import Learned, Lesson, Mark, Others, Use, join, others, ranks
from gateway.core.limit import ANCHOR_TIME, SCOUT, Learner
from gateway.core.nouns import Limited, Limits, Shares
from gateway.core.pace import ANCHOR
from gateway.core.quota import PATIENCE, Quota
from gateway.core.trial import EARNED, LONGEST_PROBE, PROBE
from gateway.core.window import REQUESTS, Window


def running(learner: Learner, count: int, now: float = 0.0, first: int = 0) -> None:
    """So many streams that have begun in time."""
    for number in range(first, first + count):
        learner.sent(number, now + 1.0)
        learner.first(number, 0, now)


def anchored(learn: str = "beyond", declared: float = 20.0) -> Learner:
    """A learner that knows the pace of few."""
    learner = Learner(learn, declared)  # type: ignore[arg-type]
    running(learner, 1)
    learner.look(ANCHOR_TIME, 0, False)
    return learner


def learning(world: Any, **limits: Limits) -> Dispatcher:
    plan = world.plan(None, None, **limits)
    accounts = {name: replace(given, learn="within") for name, given in plan.accounts.items()}
    return Dispatcher(replace(plan, accounts=accounts), Random(7))


def account(dispatcher: Dispatcher, now: float) -> Any:
    return dispatcher.snapshot(now).accounts[0]


MARKS = st.builds(Mark, st.sampled_from([1.0, 4.0, 30.0]), st.integers(0, 3), st.integers(0, 3))
KNOWN = st.dictionaries(st.sampled_from(["streams", "rpm"]), MARKS)


def told(learner: Learner, now: float = 1.0, here: int = 0, probe: bool = True, **more: Any) -> None:
    learner.take_over(Lesson({}, probe, others=Others(**more)), here, now)


@given(KNOWN, KNOWN, KNOWN)
def test_marks_merge_the_same_in_any_order_and_however_often(a: Any, b: Any, c: Any) -> None:
    one, other = join(join(a, b), c), join(c, join(b, join(a, b)))
    assert ranks(one) == ranks(other)
    assert join(one, one) == one


def test_a_cut_beats_any_raise_made_in_ignorance_of_it_and_of_two_cuts_the_lower_holds() -> None:
    assert Mark(10.0, 2).beats(Mark(50.0, 1, 99))
    assert Mark(9.0, 2).beats(Mark(10.0, 2))
    assert Mark(11.0, 2, 1).beats(Mark(9.0, 2))
    assert not Mark(9.0, 2).beats(Mark(9.0, 2))


def test_rows_of_others_add_up_and_a_new_one_has_done_nothing_yet() -> None:
    before = {"b": Use(4, 1, begins=10, timely=9, ends=6, samples=4, gaps=100, crowd=50)}
    now = {"b": Use(5, 0, 0, 700, 12, 10, 7, 3, 90, 6, 160, 70), "c": Use(2, 3, 1, 300, 99, 99, 99), "idle": Use()}
    assert others(before, now) == Others(2, 7, 3, 1, 1000, 3, 90, 2, 1, 1, 2, 60, 20)
    assert others(now, {"b": Use()}) == Others(), "a counter that went back is another process"


def test_what_others_have_in_flight_is_theirs_and_an_even_part_is_ours() -> None:
    learner = anchored()
    learner.volley = inf
    told(learner, active=1, begun=8)
    assert learner.cap() == 12
    told(learner, active=1, begun=19)
    assert learner.cap() == 10, "they have too many: not our loss"
    new = Learner("beyond", 40)
    told(new, active=1, begun=5)
    assert new.cap() == 4, "eight together while the pace of few is measured"


def test_a_refusal_says_what_the_whole_account_may_have() -> None:
    learner = anchored("within", 50)
    running(learner, 9, first=1)
    told(learner, active=2, begun=18, unheard=2)
    learner.refused(None, 2.0)
    assert (learner.limit, learner.standing) == (30, 30)
    assert learner.marks()["streams"] == Mark(30.0, 1, 0, 30.0, None, True, why="refused: too many at once")


def test_only_the_prober_grows_and_it_counts_what_others_saw_begin_in_time() -> None:
    learner = anchored()
    told(learner, active=1, begun=19, timely=2)
    assert learner.limit == 21
    told(learner, active=1, begun=19, timely=9)
    told(learner, active=1, begun=19, timely=9)
    assert learner.limit == 22, "no further ahead of what is in flight than shares can follow"
    told(learner, probe=False, active=1, begun=21, timely=5)
    running(learner, 2, first=1)
    learner.look(9.0, 0, True)
    assert learner.limit == 22
    told(learner, active=1, begun=3, timely=5)
    assert learner.limit == 22, "not in use"
    told(learner, active=1, begun=99, timely=5)
    assert learner.limit == 27, "those that were in flight before it was cut, say"


def test_somebody_idle_sees_through_others_that_the_limit_is_in_use() -> None:
    learner = anchored()
    told(learner, active=1, begun=20)
    learner.look(9.0, 0, False)
    assert learner.limit == 21
    told(learner, active=1, begun=20, unheard=1)
    learner.look(9.6, 0, False)
    assert learner.limit == 21, "one of theirs is unheard: wait for it"


def test_a_queue_is_noticed_from_what_several_replicas_wait_for() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    learner.sent(20, 2.0)
    learner.look(3.0, 0, True)
    assert not learner.holding, "one is none"
    told(learner, 3.0, active=2, begun=20, unheard=1, overdue=1)
    learner.look(3.0, 0, True)
    assert (learner.holding, learner.cap(), learner.learnt) == (True, 10, 30)
    told(learner, 4.0, active=2, begun=21, begins=1, ends=1, overdue=2)
    learner.first(20, 0, 5.0)
    assert learner.holding, "others still wait"
    told(learner, 6.0, active=2, begun=20, begins=1, ends=2)
    learner.look(6.0, 0, True)
    assert (learner.holding, learner.limit) == (False, 31)


def test_who_is_told_the_limit_during_its_hold_does_not_cut_again() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    told(learner, 3.0, active=2, begun=20, overdue=3)
    learner.look(3.0, 0, True)
    assert learner.holding
    learner.look(3.0 + 9 * SCOUT, 0, True)
    assert learner.holding, "only who sent them can find out whether they were lost"
    mark = Mark(25.0, 1, 0, 25.0, why="queue in the cloud", measured=True)
    learner.take_over(Lesson({"streams": mark}, False, others=Others(2, 12)), 0, 50.0)
    learner.look(50.0, 0, True)
    assert (learner.holding, learner.marks()["streams"]) == (False, mark)
    assert learner.volley == pytest.approx(FIRST_VOLLEY / 3)


def test_a_cut_that_another_made_puts_the_next_trial_off() -> None:
    learner = anchored()
    told(learner, active=1, begun=20)
    for number, at in enumerate((5.0, 5.1, 5.2)):
        mark = Mark(19.0 - number, 1 + number, 0, 19.0)
        learner.take_over(Lesson({"streams": mark}, others=Others(1, 19)), 0, at)
    assert learner.trial.at == pytest.approx(5.2 + PROBE)
    learner.take_over(Lesson({"streams": Mark(9.0, 5, 0, 9.0)}, others=Others(1, 19)), 0, 6.0)
    assert learner.trial.at == 6.0 + LONGEST_PROBE, "much has been lost: it will not be back at once"


def trying() -> Learner:
    """At its ceiling of twenty, half of it here, half elsewhere, and a trial of one more."""
    learner = anchored()
    running(learner, 9, first=1)
    learner.volley = inf
    told(learner, active=1, begun=10)
    learner._lower(20.0, 5.0, hard=False, why="queue in the cloud")
    learner.look(5.0 + 2 * PROBE, 0, True)
    return learner


def test_a_limit_that_a_queue_set_is_no_further_corrected_than_the_pace_is_worth() -> None:
    learner = trying()
    learner._measured, learner._knee_told = True, 20.0
    running(learner, 12, 10.0, first=50)
    assert learner.limit == 20
    learner._knee_told = 21.0
    running(learner, 1, 10.0, first=90)
    assert (learner.limit, learner.begun) == (21, 23)


def test_a_trial_is_counted_with_the_least_that_others_had_meanwhile() -> None:
    learner = trying()
    assert (learner.cap(), learner.learnt) == (11, 21)
    learner.sent(50, 12.0)
    assert learner.cap() == 10, "no other until it is judged"
    learner.first(50, 0, 10.0)
    assert learner.limit == 20, "the others are to be heard first"
    told(learner, 10.2, active=1, begun=11)
    assert (learner.limit, learner.ceiling, learner.trial.tried) == (21, 21, 0)
    left = trying()
    left.sent(50, 12.0)
    left.first(50, 0, 10.0)
    told(left, 10.2, active=1, begun=9, ends=1)
    assert (left.limit, left.trial.tried) == (20, 0), "one of theirs had made room"


def test_a_trial_is_called_off_by_what_another_learnt_and_by_the_loss_of_the_right_to_try() -> None:
    learner = trying()
    learner.take_over(Lesson({"streams": Mark(18.0, 9, 0, 18.0)}, others=Others(1, 8)), 0, 10.0)
    assert (learner.trial.tried, learner.cap(), learner.marks()["streams"].limit) == (0, 10, 18)
    other = trying()
    told(other, 10.0, probe=False, active=1, begun=10)
    assert (other.trial.tried, other.cap()) == (0, 10)
    weighed = trying()
    weighed.sent(50, 12.0)
    weighed.first(50, 0, 10.0)
    told(weighed, 10.2, probe=False, active=1, begun=10)
    assert weighed.limit == 20, "its count is void too"


def test_only_a_trial_exceeds_a_share_and_never_what_is_known(world: Any) -> None:
    for declared, room in ((Limits(), 2), (Limits(streams=21), 2), (Limits(streams=20), 1)):
        dispatcher = learning(world, a=declared)
        meter = dispatcher.meters["a"]
        learner = meter.learner
        assert learner is not None
        world.go(dispatcher)
        meter.heard(1, 0.0)
        learner.look(ANCHOR_TIME, 0, False)
        learner._lower(20.0, 5.0, hard=False, why="queue in the cloud")
        dispatcher.apply(Learned({"a": Lesson({}, others=Others(2, 19))}), 5.0)
        dispatcher.apply(Shares({"a": Limits(streams=1)}), 5.0)
        assert meter.settled(5.0, again=True) == 1
        learner.look(9.5, 0, True)
        assert meter.settled(9.5, again=True) == room


def test_a_hold_counts_the_places_that_others_have_and_the_next_word_corrects_it() -> None:
    learner = Learner("within", 50)
    running(learner, 10)
    for number in range(20, 24):
        learner.sent(number, 2.0)
    told(learner, 3.0, active=1, begun=10, overdue=3, unheard=3)
    learner.look(3.0, 0, True)
    for number in range(8):
        learner.ended(number, 3.5)
    learner.first(20, 0, 4.0)
    told(learner, 4.2, active=1, begun=6, overdue=2, unheard=2, ends=5, begins=1)
    assert learner.holding
    for number in range(21, 24):
        learner.first(number, 0, 4.3)
    told(learner, 4.5, active=1, begun=6)
    learner.look(4.5, 0, True)
    assert (learner.holding, learner.limit, learner.marks()["streams"].measured) == (False, 12, True)
    told(learner, 5.0, active=1, begun=9)
    assert learner.limit == 12, "they may have sent these after ours had ended"
    told(learner, 5.2, active=1, begun=8)
    assert (learner.limit, learner.marks()["streams"].raises) == (14, 1), "it bears them for longer than a moment"


def test_a_halving_is_told_by_a_refusal_of_what_was_sent_when_all_had_heard_of_one() -> None:
    learner = anchored()
    running(learner, 7, first=1)
    told(learner, active=1, begun=8)
    for at in (10.0, 10.9):
        learner.refused(None, at, sent=at - 0.1, again=True)
        assert learner.limit == 16, "it may have been under way"
    learner.refused(None, 11.2, sent=11.1)
    assert (learner.limit, learner._guessed) == (8, True)
    learner.refused(None, 12.9, sent=12.8)
    assert (learner.limit, learner._guessed) == (8, True), "too many were there: no news of the half"


def test_what_anybody_accepts_meanwhile_says_that_the_cloud_is_merely_full() -> None:
    def refused() -> Learner:
        learner = anchored()
        running(learner, 7, first=1)
        told(learner, active=1, begun=8)
        learner.refused(None, 10.0, sent=9.9)
        learner.sent(50, 12.0)
        return learner

    here, elsewhere, early = (refused() for _ in range(3))
    here.first(50, 0, 11.0)
    told(elsewhere, 11.0, active=1, begun=9, begins=1)
    told(early, 10.5, active=1, begun=9, begins=1)
    for learner, limit in ((here, 16), (elsewhere, 16), (early, 8)):
        learner.refused(None, 11.5, sent=11.4)
        assert learner.limit == limit


def test_the_pause_of_a_refusal_is_everybodys(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=50))
    soft, hard = Mark(30.0, 1), Mark(20.0, 2, hard=True)
    dispatcher.apply(Learned({"a": Lesson({"streams": soft}, others=Others(1, 29))}), 5.0)
    assert account(dispatcher, 5.0).cooling_until is None
    dispatcher.apply(Learned({"a": Lesson({"streams": hard}, others=Others(1, 19))}), 6.0)
    assert 7.0 <= account(dispatcher, 6.0).cooling_until <= 7.2
    dispatcher.apply(Learned({"a": Lesson({"streams": hard}, others=Others(1, 19))}), 9.0)
    assert account(dispatcher, 9.0).cooling_until is None


def test_a_prober_that_takes_over_goes_on_where_the_last_one_was() -> None:
    learner = Learner("beyond", 200)
    mark = Mark(40.0, 2, 7, None, 55.0, False, "growing")
    learner.take_over(Lesson({"streams": mark}, others=Others(1, 40)), 0, 1.0)
    assert (learner.limit, learner.ceiling, learner.knee, learner._anchoring) == (40, inf, 55, False)
    learner._raise(30.0)
    assert learner.limit == 55, "the knee that it was told"
    hard = Mark(40.0, 3, 0, 40.0, None, True)
    learner.take_over(Lesson({"streams": hard}, others=Others(1, 40)), 0, 9.0)
    told(learner, 9.2, active=1, begun=40, begins=EARNED)
    learner.look(14.0, 0, True)
    assert (learner.trial.tried, learner.bonus(None), learner.bonus(40.0)) == (41, 1, 0), "others' streams earn it too"


def test_the_pace_is_measured_by_all() -> None:
    learner = Learner("beyond", 400)
    told(learner, active=1, begun=4, samples=ANCHOR, gaps=ANCHOR * 24_000, crowd=ANCHOR * 4)
    assert learner.pace.anchored
    for place in range(4):
        told(learner, 10.0 + 2 * place, active=1, begun=50, samples=99, gaps=99 * 70_000, crowd=99 * 50)
    assert learner.limit == pytest.approx(31.6, rel=0.02)
    cuts = learner.marks()["streams"].cuts
    assert cuts > 0
    learner.limit = 31.9
    told(learner, 30.0, active=1, begun=50, samples=9, gaps=9 * 70_000, crowd=9 * 50)
    assert (learner.limit < 31.9, learner.marks()["streams"].cuts) == (True, cuts), "less than a stream is no news"
    other = Learner("beyond", 400)
    for place in range(9):
        told(other, place, probe=False, active=1, begun=4 if place < 2 else 50, samples=ANCHOR,
             gaps=ANCHOR * (24_000 if place < 2 else 70_000), crowd=ANCHOR * (4 if place < 2 else 50))  # fmt: skip
    assert other.limit == 400, "the prober's business"


def test_tokens_elsewhere_count_and_an_even_part_is_left() -> None:
    learner = anchored()
    learner.tokens = 1000.0
    assert learner.token_cap() == 1000
    told(learner, active=1, begun=1, held=300)
    assert learner.token_cap() == 700
    told(learner, active=1, begun=1, held=900)
    assert learner.token_cap() == 500
    told(learner, 1.0, 100, active=1, begun=1, held=800, timely=1)
    assert learner.tokens > 1000


def test_who_has_few_streams_of_many_is_not_calm() -> None:
    learner = Learner("within", 40)
    assert learner.calm
    told(learner, active=1, begun=19)
    assert learner.calm
    told(learner, active=1, begun=20)
    assert not learner.calm


def test_a_quota_is_learnt_from_the_minute_of_all_and_tried_upwards_by_one() -> None:
    quota, window = Quota(), Window(60.0, 98.0, REQUESTS)
    quota.elsewhere = 60
    assert quota.refused(40, 0.0) == 98
    window.add(98, PATIENCE)
    quota.probe = False
    assert not quota.due(window, PATIENCE)
    assert quota.mark() == Mark(98.0, 1)
    assert not quota.take_over(Mark(99.0, 0, 9), 1.0)
    assert quota.take_over(Mark(97.0, 1), 1.0)
    assert quota.limit == 97


def test_what_others_sent_in_the_last_minute_makes_the_quota(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=100))
    dispatcher.apply(Learned({"a": Lesson({}, others=Others(1, rpm=40))}), 0.0)
    leases = [world.go(dispatcher) for _ in range(11)]
    dispatcher.settle(leases[0], Limited("rpm"), 0.0)
    assert dispatcher.lessons(0.0)["a"].marks["rpm"] == Mark(49.0, 1)
    heavy = learning(world, a=Limits(streams=100))
    world.go(heavy)
    heavy.settle(world.go(heavy), Limited("tpm"), 0.0)
    assert heavy.lessons(0.0)["a"].marks["tpm"].cuts == 1


def test_a_view_tells_who_probes_and_what_is_in_flight_elsewhere(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=9, rpm=60))
    seen = account(dispatcher, 0.0)
    assert (seen.probes, seen.prober, seen.elsewhere) == (True, "", 0)
    dispatcher.apply(
        Learned({"a": Lesson({"streams": Mark(5.0, 1, why="growing")}, False, others=Others(1, 3), prober="b")}), 0.0
    )
    seen = account(dispatcher, 0.0)
    assert (seen.probes, seen.prober, seen.elsewhere) == (False, "b", 3)
    assert {(s.kind, s.source): s.limit for s in seen.said} == {
        ("streams", "declared"): 9, ("streams", "learned"): 5, ("rpm", "declared"): 60,
    }  # fmt: skip
    assert whole_of(dispatcher.meters["a"], "streams") == 5
    dispatcher.apply(Shares({"a": Limits(streams=1)}), 0.0)
    world.go(dispatcher)
    assert dispatcher.explain(world.request(), 0.0)[0].why_not == ("streams 1 of 1, a share of 5, learnt: growing",)
    assert whole_of(learning(world, a=Limits()).meters["a"], "streams") == 8
    assert seen.rooms[0].limit == 2
