"""Prompts that begin alike go to one home, unless it has no room or more than its part of the load."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import affinity
from gateway.core.affinity import FEW, SIZE, Homes
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Account,
    Backend,
    Failed,
    Go,
    Limits,
    Model,
    Plan,
    Policy,
    Price,
    Reloaded,
    Served,
    Tier,
)
from gateway.core.rules import AffinityRules

STICKY = {"affinity": AffinityRules()}
WORD = (1 << 64) - 1


def marks(*ids: int) -> tuple[int, ...]:
    return tuple((i + 1) * 0x9E3779B97F4A7C15 & WORD for i in ids)


def named(count: int, streams: int | None = 100) -> dict[str, Limits]:
    return {f"c{i}": Limits(streams=streams) for i in range(count)}


def where(world: Any, dispatcher: Dispatcher, *ids: int, now: float = 0.0, keep: bool = False) -> str:
    lease = world.go(dispatcher, now, affinity=marks(*ids))
    if not keep:
        dispatcher.settle(lease, Served(), now)
    return str(lease.backend)


def test_a_conversation_stays_where_it_began(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(5))
    for conversation in range(20):
        start = 100 * conversation
        turns = [range(start, start + length) for length in (1, 3, 5, 9)]
        assert len({where(world, dispatcher, *turn) for turn in turns}) == 1


def test_replicas_agree_about_what_is_new(world: Any) -> None:
    plan = world.plan(policy=STICKY, **named(5))
    one, other = (Dispatcher(plan, Random(seed)) for seed in (1, 2))
    assert [where(world, one, i) for i in range(50)] == [where(world, other, i) for i in range(50)]


def test_new_beginnings_spread(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(4))
    sent = Counter(where(world, dispatcher, i) for i in range(1000))
    assert len(sent) == 4
    assert max(sent.values()) < 1.2 * 250


@given(st.lists(st.integers(0, WORD), min_size=50, max_size=200, unique=True), st.integers(0, 4))
def test_when_a_backend_leaves_only_its_own_keys_move(keys: list[int], gone: int) -> None:
    def homes(names: list[str]) -> dict[int, str]:
        dispatcher = Dispatcher(_plan(names), Random(1))
        route = dispatcher._routes["m"]
        assert route.homes is not None
        return {key: affinity.first_of(route.path.seats, key).standing.name for key in keys}

    names = [f"c{i}" for i in range(5)]
    before, after = homes(names), homes([name for name in names if name != f"c{gone}"])
    assert all(after[key] == home for key, home in before.items() if home != f"c{gone}")


def _plan(names: list[str]) -> Plan:
    return Plan(
        {"m": Model("m", "p")},
        {name: Backend(name, name, {"m": "m"}) for name in names},
        {name: Account(name, Limits(streams=9)) for name in names},
        {"p": Policy("p", (Tier(tuple(names)),), affinity=AffinityRules())},
    )


def test_what_everybody_begins_with_has_no_home_of_its_own(world: Any) -> None:
    """A system prompt: conversations behind it have each their own home."""
    dispatcher = world.dispatcher(policy=STICKY, **named(4))
    sent = Counter(where(world, dispatcher, 0, i, i + 5000) for i in range(1, 400))
    assert max(sent.values()) < 0.4 * 400
    assert where(world, dispatcher, 0, 7, 5007) == where(world, dispatcher, 0, 7, 5007, 9)


def test_a_prompt_that_is_popular_to_its_end_is_known_everywhere_at_last(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(3, streams=8))
    for i in range(FEW + 2):
        where(world, dispatcher, 0, 1, keep=i < 6)
    assert dispatcher.snapshot(0.0).affinity["m"]["moved"] > 0
    assert len({where(world, dispatcher, 0, 1) for _ in range(5)}) >= 1


def test_a_home_without_room_is_left_and_returned_to(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2, streams=1))
    home = where(world, dispatcher, 1)
    held = world.go(dispatcher, affinity=marks(1))
    assert held.backend == home
    other = where(world, dispatcher, 1, 2)
    assert other != home
    dispatcher.settle(held, Served(), 0.0)
    assert where(world, dispatcher, 1, 2, 3) == other, "the longer beginning is known there"
    assert where(world, dispatcher, 1, 9) in {home, other}
    assert dispatcher.snapshot(0.0).affinity == {"m": {"known": 3, "fresh": 1, "moved": 1}}


def test_a_new_prompt_whose_home_is_full_goes_to_the_next_in_its_order(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2, streams=1))
    first = where(world, dispatcher, 1, keep=True)
    key = next(i for i in range(2, 99) if where(world, world.dispatcher(policy=STICKY, **named(2)), i) == first)
    assert where(world, dispatcher, key) != first
    assert dispatcher.snapshot(0.0).affinity["m"]["moved"] == 1


def test_a_home_with_more_than_its_part_is_left(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(4, streams=40))
    sent = Counter(where(world, dispatcher, 1, keep=True) for _ in range(80))
    assert max(sent.values()) <= 1.25 * 80 / 4 + 1
    quiet = world.dispatcher(policy=STICKY, **named(4, streams=400))
    assert len({where(world, quiet, 1, keep=True) for _ in range(80)}) == 1, "a fifth in use is nothing to flee from"


def test_without_declared_streams_requests_in_flight_are_counted(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(4, streams=None))
    sent = Counter(where(world, dispatcher, 1, keep=True) for _ in range(80))
    assert max(sent.values()) <= 1.25 * 80 / 4 + 1


def test_nobody_has_room_means_nobody(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2, streams=1))
    where(world, dispatcher, 1, keep=True)
    where(world, dispatcher, 1, keep=True)
    assert not isinstance(dispatcher.offer(world.request(affinity=marks(1)), 0.0), Go)


def test_a_retry_goes_elsewhere(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(3))
    lease = world.go(dispatcher, affinity=marks(1))
    again = world.lease(dispatcher.settle(lease, Failed("server"), 0.0))
    assert again.backend != lease.backend


def test_without_marks_the_tiers_rule_decides(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2))
    assert {world.go(dispatcher).backend for _ in range(2)} == {"c0", "c1"}
    assert dispatcher.snapshot(0.0).affinity == {"m": {"known": 0, "fresh": 0, "moved": 0}}


def test_another_rule_places_what_is_new_and_home_keeps_it(world: Any, priced: Any) -> None:
    tier = Tier(("a", "b"), "cheapest")
    limits = {"a": Limits(streams=2), "b": Limits(streams=9)}

    plan = priced(world.plan((tier,), STICKY, **limits), a=Price(1.0, 1.0), b=Price(9.0, 9.0))
    dispatcher = Dispatcher(plan, Random(1))
    held = [world.go(dispatcher, affinity=marks(i)) for i in (1, 2)]
    assert {lease.backend for lease in held} == {"a"}, "the bound is for homes; what is new goes by the tier's rule"
    assert where(world, dispatcher, 3) == "b"
    for lease in held:
        dispatcher.settle(lease, Served(), 0.0)
    assert where(world, dispatcher, 3, 4) == "b", "what is cached costs a tenth"
    assert where(world, dispatcher, 5) == "a"


def test_explain_shows_home_and_why_it_is_left(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2, streams=8))
    request = world.request(affinity=marks(1))
    before = next(c for c in dispatcher.explain(request, 0.0) if c.home)
    home = where(world, dispatcher, 1, keep=True)
    assert before.backend == home
    while (found := where(world, dispatcher, 1, keep=True)) == home:
        pass
    where(world, dispatcher, 1, 2, keep=True)
    lines = {c.backend: c for c in dispatcher.explain(world.request(affinity=marks(1)), 0.0)}
    assert lines[home].home
    assert lines[found].home, "it is known there by now"
    lines = {c.backend: c for c in dispatcher.explain(world.request(), 0.0)}
    assert not any(c.home for c in lines.values())


def test_explain_names_the_load_that_keeps_a_request_from_home(world: Any) -> None:
    dispatcher = world.dispatcher(policy=STICKY, **named(2, streams=8))
    home = where(world, dispatcher, 1, keep=True)
    for i in range(2, 60):  # others at the same home, until it carries more than its part
        lines = {c.backend: c for c in dispatcher.explain(world.request(affinity=marks(1)), 0.0)}
        if lines[home].why_not:
            assert lines[home].why_not == ("home, but carries more than its part of the load",)
            return
        fresh = world.dispatcher(policy=STICKY, **named(2, streams=8))
        if where(world, fresh, i) == home:
            where(world, dispatcher, i, keep=True)
    raise AssertionError("it was never left")


def test_memory_is_bounded_and_fades() -> None:
    homes = Homes(AffinityRules(keep=100.0))
    for i in range(3 * SIZE):
        homes.learn(marks(i), "a", "fresh", 0.0)
    assert repr(homes) == f"<Homes {SIZE} marks, known 0, fresh {3 * SIZE}, moved 0>"
    homes = Homes(AffinityRules(keep=100.0))
    everybody = homes.bit("a") | homes.bit("b")
    homes.learn(marks(1, 2), "a", "fresh", 0.0)
    assert homes.knowers(marks(1, 2), everybody, 1) == homes.bit("a")
    homes.learn(marks(7), "b", "fresh", 100.0)
    assert homes.knowers(marks(1, 2), everybody, 1) == homes.bit("a"), "for `keep` seconds at least"
    homes.learn(marks(7), "b", "known", 200.0)
    assert homes.knowers(marks(1, 2), everybody, 1) == 0


def test_names_that_keep_changing_do_not_pile_up() -> None:
    homes = Homes(AffinityRules())
    homes.learn(marks(1), "first", "fresh", 0.0)
    for i in range(affinity._NAMES):
        homes.bit(f"b{i}")
    assert homes.knowers(marks(1), homes.bit("first"), 1) == 0


def test_a_reload_keeps_homes_and_takes_new_rules(world: Any) -> None:
    limits = named(5)
    dispatcher = world.dispatcher(policy=STICKY, **limits)
    where(world, dispatcher, 1)
    dispatcher.apply(Reloaded(world.plan(policy={"affinity": AffinityRules(bound=2.0)}, **limits)), 1.0)
    where(world, dispatcher, 1, 2)
    assert dispatcher.snapshot(1.0).affinity["m"]["known"] == 1
    assert dispatcher._fleet._homes["m"].rules.bound == 2.0
    dispatcher.apply(Reloaded(world.plan(**limits)), 1.0)
    where(world, dispatcher, 1, 2)
    assert dispatcher.snapshot(1.0).affinity == {}
