"""What first tokens take at least all replicas know: who saw only the end of a burst takes no queue for normal."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.latency import Floor
from gateway.core.lesson import Learned, Lesson, Others, Use, others
from gateway.core.nouns import Limits


def learning(world: Any, **limits: Limits) -> Dispatcher:
    plan = world.plan(None, None, **limits)
    accounts = {name: replace(given, learn="within") for name, given in plan.accounts.items()}
    return Dispatcher(replace(plan, accounts=accounts), Random(7))


def test_a_floor_heard_of_counts_like_a_sample_that_never_raises() -> None:
    floor = Floor()
    floor.hear(7, 0.5)
    assert floor.known() == [(7, 0.5)], "a size that was not known"
    floor.hear(7, 0.4)
    assert floor.expected(100) == pytest.approx(0.48)
    floor.hear(7, 9.0)
    assert floor.expected(100) == pytest.approx(0.48)


def test_of_several_the_least_is_heard_by_backend_and_size() -> None:
    rows = {
        "b": Use(1, floors=(("ark", 7, 400), ("ark", 9, 900))),
        "c": Use(1, floors=(("ark", 7, 300), ("own", 7, 50))),
    }
    assert set(others({}, rows).floors) == {("ark", 7, 300), ("ark", 9, 900), ("own", 7, 50)}


def test_a_first_token_is_due_by_the_floor_of_all(world: Any) -> None:
    dispatcher = learning(world, a=Limits(streams=50))
    dispatcher.apply(Learned({"a": Lesson({}, others=Others(1, 3, floors=(("a", 4, 200), ("gone", 4, 1))))}), 0.0)
    assert dispatcher.lessons(0.0)["a"].use.floors == (), "who has nothing in flight says nothing of it"
    lease = world.go(dispatcher)
    assert dispatcher.lessons(0.0)["a"].use.floors == (("a", 4, 200),)
    dispatcher.started(lease, 0.1)
    told = {size: floor for _, size, floor in dispatcher.lessons(0.1)["a"].use.floors}
    assert told[4] == 200
    assert len(told) == 2, "and what it sees itself"
