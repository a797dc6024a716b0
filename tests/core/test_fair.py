"""Counters: who is due, by what he was charged. The bounds are those of the VTC paper."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.dispatcher import Dispatcher
from gateway.core.fair import ANSWER, FLOOR, GRACE, MOST_OWED, SWEEP_AT, Pool
from gateway.core.nouns import (
    Abandoned,
    Account,
    Backend,
    Failed,
    Go,
    Lease,
    Limits,
    Model,
    Outcome,
    Plan,
    Policy,
    QueueRules,
    Rejected,
    Reloaded,
    Request,
    Served,
    Tier,
    Usage,
    Wait,
)

ONE = Limits(streams=1)
PATIENT = {"queue": QueueRules(1e6, 100_000)}


def counter(dispatcher: Dispatcher, tenant: str = "t", class_: str = "standard", model: str = "m") -> float:
    pool = dispatcher._fleet.routes[model].pool
    return next(band.shares[tenant].counter for band in pool.bands if band.name == class_)


def serve(dispatcher: Dispatcher, lease: Lease, prompt: int, answer: int, now: float) -> list[Lease]:
    """End one answer; the leases of those who may go instead."""
    assert dispatcher.settle(lease, Served(Usage(prompt, answer)), now) is None
    return [verdict.lease for _, verdict in dispatcher.due(now) if isinstance(verdict, Go)]


def test_prompt_and_expected_answer_are_charged_at_dispatch_and_put_right_at_the_end(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=2))
    lease = world.go(dispatcher)
    assert counter(dispatcher) == 101 + ANSWER * 100
    dispatcher.started(lease, 1.0)
    dispatcher.progress(lease, 80, 1.0)
    assert counter(dispatcher) == 101 + ANSWER * 100, "expected"
    dispatcher.progress(lease, 40, 2.0)
    assert counter(dispatcher) == 101 + ANSWER * 120, "more than expected"
    dispatcher.settle(lease, Served(Usage(90, 130, cached=60)), 3.0)
    assert counter(dispatcher) == 30 + ANSWER * 130, "cached tokens are free"


@pytest.mark.parametrize(
    ("flowed", "outcome", "charged"),
    [
        (0, Failed("connect"), 0),
        (0, Abandoned(), 101),
        (0, Rejected("content"), 101),
        (50, Failed("stall", retryable=False), 101 + ANSWER * 50),
        (50, Abandoned(), 101 + ANSWER * 50),
        (50, Served(), 101 + ANSWER * 50),
    ],
)
def test_what_the_tenant_had_is_charged_however_it_ended(
    world: Any, flowed: int, outcome: Outcome, charged: int
) -> None:
    dispatcher = world.dispatcher(a=ONE)
    lease = world.go(dispatcher)
    if flowed:
        dispatcher.started(lease, 1.0)
        dispatcher.progress(lease, flowed, 1.0)
    verdict = dispatcher.settle(lease, outcome, 2.0)
    again = 101 + ANSWER * 100 if isinstance(verdict, Go) else 0
    assert counter(dispatcher) == charged + again


def test_a_weight_divides_the_charge_and_the_latest_holds(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=9))
    lease = world.go(dispatcher, weight=4.0)
    assert counter(dispatcher) == 301 / 4
    late = world.go(dispatcher, 1.0, weight=0.5)
    assert counter(dispatcher) == 301 / 4 + 301 / 0.5
    for each in (lease, late):
        dispatcher.settle(each, Served(Usage(101, 100)), 2.0)
    assert counter(dispatcher) == 2 * 301 / 0.5, "put right by the weight that holds now"


def test_when_tenants_are_many_those_are_forgotten_who_are_idle_and_had_least(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=10**6, tpm=10**9))
    shares = dispatcher._fleet.routes["m"].pool.bands[1]
    for _ in range(5):
        world.go(dispatcher, tenant="heavy")
    for number in range(3 * SWEEP_AT):
        world.go(dispatcher, tenant=f"t{number}")
    assert len(shares.shares) <= SWEEP_AT
    assert counter(dispatcher, "heavy") == 5 * 301
    dispatcher.settle(world.go(dispatcher, tenant="t0"), Served(), 1.0)


def test_who_was_idle_is_lifted_to_where_the_clock_stood_a_moment_ago(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1000))
    for second in range(20):
        world.go(dispatcher, float(second), tenant="busy")
    world.go(dispatcher, 20.0, tenant="idle")
    clock = 19 * 301
    least = counter(dispatcher, "idle") - 301
    assert clock - (GRACE + 1) * 301 <= least < clock
    world.go(dispatcher, 1000.0, tenant="idle")
    world.go(dispatcher, 1000.0, tenant="new")
    assert counter(dispatcher, "new") - 301 == clock, "long ago is forgotten wholly"


def contest(
    weights: dict[str, float], seed: int, lasts: float, slots: int = 8, sizes: tuple[int, int] = (100, 400)
) -> dict[str, float]:
    """All tenants have always somebody waiting; slots free up one by one. Service by tenant, in tokens charged."""
    rng = Random(seed)
    backends = {"a": Backend("a", "a", {"m": "a"})}
    policy = Policy("p", (Tier(("a",)),), QueueRules(1e6, 100_000))
    plan = Plan({"m": Model("m", "p")}, backends, {"a": Account("a", Limits(streams=slots))}, {"p": policy})
    dispatcher = Dispatcher(plan, rng)
    had = dict.fromkeys(weights, 0.0)
    running: list[Lease] = []
    serial, now = 0, 0.0
    while now < lasts:
        for tenant in weights:
            while sum(t.request.tenant == tenant for t in dispatcher._waiting) < 3:
                serial += 1
                size, answer = rng.randint(*sizes), rng.randint(*sizes)
                request = Request(
                    f"{serial}:{size}:{answer}",
                    tenant,
                    "m",
                    "standard",
                    size * 4,
                    answer,
                    True,
                    now,
                    weight=weights[tenant],
                )
                verdict = dispatcher.offer(request, now)
                if isinstance(verdict, Go):
                    running.append(verdict.lease)
        now += 0.25
        lease = running.pop(rng.randrange(len(running)))
        size, answer = map(int, lease.request.id.split(":")[1:])
        had[lease.request.tenant] += size + ANSWER * answer
        running += serve(dispatcher, lease, size, answer, now)
    return had


@given(seed=st.integers(0, 10_000), heavy=st.sampled_from([1.0, 2.0, 5.0]))
def test_two_backlogged_tenants_never_differ_by_more_than_the_papers_bound(seed: int, heavy: float) -> None:
    """2 × max(w_p L_input, w_q M), with M the tokens that can run at once: here slots × longest answer."""
    had = contest({"one": heavy, "two": 1.0}, seed, 30.0)
    bound = 2 * max(400, ANSWER * 400 * 8)
    assert abs(had["one"] / heavy - had["two"]) <= bound


def test_ten_minutes_of_service_differ_by_less_than_two_percent() -> None:
    had = contest({"one": 1.0, "two": 1.0, "three": 3.0}, 1, 600.0)
    per_weight = [had["one"], had["two"], had["three"] / 3]
    assert (max(per_weight) - min(per_weight)) / min(per_weight) <= 0.02


def busy_bands(world: Any, classes: tuple[str, ...], rounds: int) -> dict[str, float]:
    """One slot and a queue in every band: what each had."""
    dispatcher = world.dispatcher(policy=PATIENT, a=ONE)
    lease = world.go(dispatcher)
    for class_ in classes:
        for _ in range(rounds):
            assert isinstance(dispatcher.offer(world.request(0.0, class_=class_, tenant=class_), 0.0), Wait)
    had = dict.fromkeys(classes, 0.0)
    for turn in range(rounds):
        (lease,) = serve(dispatcher, lease, 101, 100, turn + 1.0)
        had[lease.request.class_] += 301
    return had


def test_bands_come_in_their_order_but_each_that_waits_gets_its_floor(world: Any) -> None:
    had = busy_bands(world, ("interactive", "standard", "batch"), 400)
    total = sum(had.values())
    assert had["batch"] / total == pytest.approx(FLOOR, abs=0.01)
    assert had["standard"] / total == pytest.approx(FLOOR, abs=0.01)
    had = busy_bands(world, ("standard", "batch"), 400)
    assert had["batch"] / sum(had.values()) == pytest.approx(FLOOR, abs=0.01)


def test_credit_is_bounded_and_gone_with_the_last_who_waits(world: Any) -> None:
    pool = Pool()
    interactive, _, batch = pool.bands
    pool.of(world.request(class_="batch"))
    batch.waiting = 1
    pool.dispatched(interactive, 1e9)
    assert batch.owed == MOST_OWED
    assert not batch.urgent, "nobody waits above"
    interactive.waiting = 1
    assert batch.urgent
    pool.dispatched(batch, 1e6)
    assert not batch.urgent
    assert repr(pool) == "<Pool of 1 shares, 0 waiting>"
    assert repr(pool.of(world.request())) == "<Share of t in standard: 0>"


def test_an_urgent_band_without_room_keeps_newcomers_of_its_lane_waiting(world: Any) -> None:
    dispatcher = world.dispatcher(policy=PATIENT, a=Limits(streams=5, tpm=1000))
    first = world.go(dispatcher, prompt_bytes=350 * 4)
    assert isinstance(dispatcher.offer(world.request(0.0, class_="batch", prompt_bytes=350 * 9), 0.0), Wait)
    assert isinstance(dispatcher.offer(world.request(0.0, class_="interactive", prompt_bytes=350 * 6), 0.0), Wait)
    band = dispatcher._fleet.routes["m"].pool.bands[2]
    assert not isinstance(dispatcher.offer(world.request(0.0, class_="interactive"), 0.0), Go)
    band.owed = 1.0
    (head,) = dispatcher._waiting.heads()
    assert head.request.class_ == "batch"
    assert isinstance(dispatcher.offer(world.request(0.0, class_="interactive"), 0.0), Wait)
    dispatcher.settle(first, Failed("connect", retryable=False), 0.1)


def test_a_band_above_passes_one_that_waits_for_more(world: Any) -> None:
    dispatcher = world.dispatcher(policy=PATIENT, a=Limits(streams=5, tpm=1000))
    world.go(dispatcher, prompt_bytes=350 * 4)
    assert isinstance(dispatcher.offer(world.request(0.0, class_="batch", prompt_bytes=350 * 9), 0.0), Wait)
    assert isinstance(dispatcher.offer(world.request(0.0, class_="standard"), 0.0), Go)
    assert isinstance(dispatcher.offer(world.request(0.0, class_="batch", prompt_bytes=10), 0.0), Wait)


def two_models(tie: bool) -> Plan:
    """Model `x` on account a, `y` on b; `tie`: a third may use both."""
    backends = {name: Backend(name, name, {"x": "x", "y": "y", "z": "z"}) for name in "ab"}
    policies = {name: Policy(name, (Tier(tuple(on)),)) for name, on in (("x", "a"), ("y", "b"), ("z", "ab"))}
    models = {name: Model(name, name) for name in ("xyz" if tie else "xy")}
    return Plan(models, backends, {n: Account(n, Limits(streams=9)) for n in "ab"}, policies)


def test_counters_are_kept_apart_where_no_capacity_is_shared(world: Any) -> None:
    dispatcher = Dispatcher(two_models(tie=False), Random(1))
    world.go(dispatcher, model="x")
    dispatcher.offer(world.request(model="y", tenant="other"), 0.0)
    with pytest.raises(KeyError):
        counter(dispatcher, "t", model="y")
    before = dispatcher._fleet.routes["x"].pool
    dispatcher.apply(Reloaded(two_models(tie=True)), 1.0)
    pools = {id(dispatcher._fleet.routes[name].pool) for name in "xyz"}
    assert pools == {id(before)}, "tied together, one pool goes on with its counters"
    dispatcher.apply(Reloaded(two_models(tie=False)), 2.0)
    assert dispatcher._fleet.routes["x"].pool is before
    assert dispatcher._fleet.routes["y"].pool is not before


def test_what_was_charged_here_can_be_told_from_lifts_and_from_what_others_charged(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=9))
    pool = dispatcher._fleet.routes["m"].pool
    world.go(dispatcher)
    assert pool.spent() == {("standard", "t"): 301.0}
    share = pool.bands[1].shares["t"]
    share.adopt(1301.0)
    assert (counter(dispatcher), share.spent, share.lifted) == (1301.0, 301.0, False)
    world.go(dispatcher, tenant="t")
    world.go(dispatcher, 100.0, tenant="late")
    assert pool.spent()["standard", "late"] == 301.0, "a lift is no service"
    assert pool.bands[1].shares["late"].lifted


def test_a_band_can_be_put_on_another_scale_and_nothing_between_tenants_changes(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1000))
    for second in range(20):
        world.go(dispatcher, float(second), tenant="busy")
    world.go(dispatcher, 20.0, tenant="light")
    band = dispatcher._fleet.routes["m"].pool.bands[1]
    lead, behind, least = counter(dispatcher, "busy") - band.clock, counter(dispatcher, "light"), band.least
    gap = 1e6 - band.clock
    band.shift(1e6)
    assert (band.clock, counter(dispatcher, "busy")) == (1e6, 1e6 + lead)
    assert (counter(dispatcher, "light"), band.least) == (behind + gap, least + gap)
    assert band.shares["busy"].spent == 20 * 301
    world.go(dispatcher, 21.0, tenant="new")
    assert counter(dispatcher, "new") > band.clock - GRACE * 301
    world.go(dispatcher, 22.5, tenant="new")
    assert band.lately > 1e6 - GRACE * 301, "where the clock stood is moved too"


def test_pools_are_named_by_their_accounts_so_that_replicas_mean_the_same_one() -> None:
    dispatcher = Dispatcher(two_models(tie=False), Random(1))
    pools = dispatcher.pools
    assert {name: pool.name for name, pool in pools.items()} == {"a": "a", "b": "b"}
    dispatcher.apply(Reloaded(two_models(tie=True)), 1.0)
    assert dispatcher.pools is pools
    assert {name: pool.name for name, pool in pools.items()} == {"a": "a,b", "b": "a,b"}
