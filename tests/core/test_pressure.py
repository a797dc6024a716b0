"""One number for how hard a model is pressed."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.ladder import FULL_FORM, Form, Rung
from gateway.core.nouns import Go, Limited, Limits, QueueRules, Reloaded, Served, Shares, Tier, Unusable, Usage, Wait
from gateway.core.pressure import MOST_MODELS, TICK, fullness

LADDER = (Rung(0.5, max_tokens=100), Rung(1.0, frozenset({"batch"}), model="other"))


def pressure(dispatcher: Dispatcher, now: float = 0.0, class_: str = "standard") -> float:
    return next(p.pressure for p in dispatcher.outlook.pressures(now) if p.class_ == class_)


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({"a": Limits(streams=4)}, 0, 0.0),
        ({"a": Limits(streams=4)}, 3, 0.75),
        ({"a": Limits(streams=4)}, 4, 1.0),
        ({"a": Limits(streams=4, rpm=5)}, 3, 0.75),
        ({"a": Limits(streams=40, rpm=5)}, 3, 0.6),
        ({"a": Limits(streams=40, rps=4, ramp=8)}, 3, 0.75),
        ({"a": Limits()}, 9, 0.0),
        ({"a": Limits(streams=1), "b": Limits()}, 9, 0.0),
        ({"a": Limits(streams=2), "b": Limits(streams=6)}, 2, 0.25),
        ({"a": Limits(streams=2), "b": Limits(streams=6)}, 4, 0.5),
        ({"a": Limits(streams=2), "b": Limits(rpm=8)}, 6, 0.75),
        ({"a": Limits(rpm=2), "b": Limits(rpm=2)}, 2, 0.5),
    ],
)
def test_while_nobody_waits_it_is_the_use_of_what_the_accounts_may_take(
    world: Any, limits: dict[str, Limits], requests: int, expected: float
) -> None:
    tiers = tuple(Tier((name,)) for name in limits)
    dispatcher = world.dispatcher(tiers, **limits)
    for _ in range(requests):
        world.go(dispatcher)
    assert pressure(dispatcher) == pytest.approx(expected)


def test_an_account_that_takes_nothing_is_left_out(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",)), Tier(("b",))), a=Limits(streams=9), b=Limits(streams=3))
    assert isinstance(dispatcher.settle(world.go(dispatcher), Limited("rpm"), 0.0), Go)
    assert pressure(dispatcher) == pytest.approx(1 / 3)


def test_with_nobody_fit_to_be_asked_all_is_taken(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=3))
    dispatcher.settle(world.go(dispatcher), Unusable("auth"), 0.0)
    assert pressure(dispatcher) == 1.0


def test_a_condition_keeps_a_class_from_some_accounts(world: Any) -> None:
    tiers = (Tier(("a",)), Tier(("b",), when=lambda request: request.class_ == "interactive"))
    dispatcher = world.dispatcher(tiers, a=Limits(streams=2), b=Limits(streams=2))
    world.go(dispatcher)
    world.go(dispatcher)
    assert pressure(dispatcher, class_="batch") == 1.0
    assert pressure(dispatcher, class_="interactive") == 0.5


def test_a_class_that_no_backend_takes_is_under_full_pressure(world: Any) -> None:
    dispatcher = world.dispatcher((Tier(("a",), when=lambda _: False),), a=Limits(streams=2))
    assert pressure(dispatcher) == 1.0


def test_a_share_is_all_that_may_be_taken(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=8))
    world.go(dispatcher)
    dispatcher.apply(Shares({"a": Limits(streams=2)}), 0.0)
    assert pressure(dispatcher) == 0.5
    dispatcher.apply(Shares({"a": Limits(streams=0)}), 0.0)
    assert pressure(dispatcher) == 1.0


def test_tokens_in_flight_count_where_their_limit_was_learnt(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=100))
    meter = dispatcher.meters["a"]
    meter.token_cap, meter.held = 1000.0, 600
    assert fullness(meter, 0.0) == 0.6


def served(world: Any, dispatcher: Dispatcher, count: int, lasts: float) -> float:
    """Let some requests be served, so that it is known how long they last."""
    now = 0.0
    for _ in range(count):
        lease = world.go(dispatcher, now)
        dispatcher.started(lease, now)
        now += lasts
        dispatcher.settle(lease, Served(Usage(10, 10)), now)
    return now


def test_once_somebody_waits_it_is_one_and_the_expected_wait_by_the_longest(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"queue": QueueRules(100.0)}, a=Limits(streams=1))
    now = served(world, dispatcher, 12, 10.0)
    world.go(dispatcher, now)
    assert pressure(dispatcher, now) == 1.0
    seen = []
    for _ in range(3):
        assert isinstance(dispatcher.offer(world.request(now), now), Wait)
        seen.append(pressure(dispatcher, now))
    waits = [p.wait for p in dispatcher.outlook.pressures(now) if p.class_ == "standard"]
    assert seen == sorted(seen)
    assert 1.1 < seen[0] < seen[-1] < 1.6
    assert seen[-1] == pytest.approx(1.0 + (waits[0] or 0.0) / 100.0)


def test_those_of_a_lower_class_do_not_press_on_a_higher(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1))
    world.go(dispatcher)
    dispatcher.offer(world.request(class_="batch"), 0.0)
    found = {p.class_: p for p in dispatcher.outlook.pressures(0.0)}
    assert (found["interactive"].wait, found["batch"].wait) == (0.0, None)


def test_without_a_ladder_nothing_is_given_up_and_nothing_is_reckoned(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1))
    world.go(dispatcher)
    assert dispatcher.outlook.form("m", "batch", 0.0) is FULL_FORM
    assert dispatcher.outlook.form("nobody's", "batch", 0.0) is FULL_FORM


def test_the_form_follows_the_pressure_once_a_tick(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"ladder": LADDER}, a=Limits(streams=2))
    form = dispatcher.outlook.form
    assert form("m", "batch", 0.0) is FULL_FORM
    lease = world.go(dispatcher)
    assert form("m", "batch", TICK / 2) is FULL_FORM
    assert form("alias", "standard", TICK / 2) == Form(100)
    assert form("m", "batch", TICK) == Form(100)
    world.go(dispatcher)
    assert form("m", "batch", 2 * TICK) == Form(100, model="other")
    assert [p.rung for p in dispatcher.outlook.pressures(0.0)] == [0.0, 0.5, 1.0]
    dispatcher.settle(lease, Served(), 2 * TICK)
    assert form("m", "batch", 3 * TICK) == Form(100)


def test_a_new_plan_begins_without_a_rung(world: Any) -> None:
    plan = world.plan(policy={"ladder": LADDER}, a=Limits(streams=2))
    dispatcher = Dispatcher(plan, Random(1))
    world.go(dispatcher)
    assert dispatcher.outlook.form("m", "batch", 0.0) == Form(100)
    higher = {"p": replace(plan.policies["p"], ladder=(Rung(0.9, max_tokens=50),))}
    dispatcher.apply(Reloaded(replace(plan, policies=higher)), 0.0)
    assert dispatcher.outlook.form("m", "batch", 0.0) is FULL_FORM
    assert {p.rung for p in dispatcher.outlook.pressures(0.0)} == {0.0}


def test_models_that_are_gone_are_forgotten(world: Any) -> None:
    plan = world.plan(policy={"ladder": LADDER}, a=Limits(streams=2))
    dispatcher = Dispatcher(plan, Random(1))
    for number in range(3):
        name = f"m{number}"
        backends = {"a": replace(plan.backends["a"], serves={name: "id"})}
        models = {name: replace(plan.models["m"], name=name, aliases=())}
        dispatcher.apply(Reloaded(replace(plan, models=models, backends=backends)), 0.0)
        dispatcher.outlook.form(name, "batch", 0.0)
    assert len(dispatcher.outlook._marks) == 1


def test_pressures_are_told_of_so_many_models_at_most(world: Any) -> None:
    plan = world.plan(a=Limits(streams=1))
    model = plan.models["m"]
    models = {f"m{n}": replace(model, name=f"m{n}", aliases=()) for n in range(MOST_MODELS + 5)}
    dispatcher = Dispatcher(replace(plan, models=models), Random(1))
    assert len(dispatcher.outlook.pressures(0.0)) == 3 * MOST_MODELS


def test_who_waits_has_a_place_and_who_does_not_has_none(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1))
    first = world.request()
    assert dispatcher.outlook.place(first, 0.0) is None
    lease = world.lease(dispatcher.offer(first, 0.0))
    assert dispatcher.outlook.place(first, 0.0) is None
    waiting = [world.request(0.1 * n) for n in range(1, 5)]
    for request in waiting:
        dispatcher.offer(request, request.arrived)
    places = [dispatcher.outlook.place(request, 1.0) for request in waiting]
    assert [place[0] for place in places if place] == [0, 1, 2, 3]
    dispatcher.settle(lease, Served(), 1.0)
    ((gone, _),) = dispatcher.due(1.0)
    assert dispatcher.outlook.place(gone, 1.0) is None
    assert [p[0] for r in waiting if (p := dispatcher.outlook.place(r, 1.0))] == [0, 1, 2]


def test_nothing_that_is_looked_at_changes_anything(world: Any) -> None:
    dispatcher = world.dispatcher(policy={"ladder": LADDER}, a=Limits(streams=1))
    world.go(dispatcher)
    dispatcher.offer(world.request(), 0.0)
    before = repr(dispatcher.snapshot(0.0))
    for _ in range(3):
        dispatcher.outlook.pressures(0.0)
    assert repr(dispatcher.snapshot(0.0)) == before
    assert inf not in {p.pressure for p in dispatcher.outlook.pressures(0.0)}
