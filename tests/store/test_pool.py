"""Callers' limits: never more than a limit in any span, whoever crashes; and Redis gives what the reference gives."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.caps import CapKind
from gateway.core.stock import TTL, Answer, Ask, Stock
from gateway.store.base import StoreDown
from gateway.store.pool import MemoryPool, Told
from gateway.store.pool_redis import RedisPool, key_of


def told(seq: int, clock: int = 0, replica: str = "a", scope: str = "tenant acme", **asks: Ask) -> Told:
    return Told(replica, seq, clock, {scope: asks})  # type: ignore[dict-item]


class World:
    """Replicas with stocks of one limit and clocks of their own. The judge is told of every use, by true time."""

    def __init__(self, kind: CapKind, limit: int, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 1000.0
        self.kind: CapKind = kind
        self.limit = limit
        self.pool = MemoryPool(lambda: self.now)
        self.replicas: dict[str, Stock] = {}
        self.offsets: dict[str, float] = {}
        self.seq = 0
        self.uses: list[float] = []
        self.streams: list[tuple[str, float]] = []

    def join(self) -> None:
        name = f"r{self.seq}"
        self.seq += 1
        self.replicas[name] = Stock(self.kind, self.limit, pooled=True, shared=True)
        self.offsets[name] = self.rng.uniform(-500, 500)

    def arrive(self, name: str) -> None:
        stock, now = self.replicas[name], self.now + self.offsets[name]
        if not stock.has(1, now) and now >= stock.closed:
            stock.wait(1)
            self.exchange(name)
            stock.waited(1)
        now = self.now + self.offsets[name]
        if not stock.has(1, now):
            stock.missed(1)
            return
        stock.take(1, now)
        self.uses.append(self.now)
        if self.kind == "streams":
            self.streams.append((name, self.now + self.rng.expovariate(0.5)))
            assert len(self.streams) <= self.limit
        else:
            span = stock.span
            assert len(self.uses) - bisect_right(self.uses, self.now - span) <= self.limit

    def exchange(self, name: str, *, lost: bool = False) -> None:
        stock = self.replicas[name]
        sent = self.now + self.offsets[name]
        self.seq += 1
        ask = stock.ask(sent)
        self.now += self.rng.choice((0.0, 0.001, 0.1))
        (answers,) = self.pool.tell(Told(name, self.seq, int(sent * 1000), {"x": {self.kind: ask}}))
        assert answers is not None
        if lost:
            stock.failed()
        else:
            self.now += self.rng.choice((0.0, 0.001, 0.1))
            stock.granted(answers[self.kind], sent, self.now + self.offsets[name])

    def step(self) -> None:
        self.now += self.rng.expovariate(4)
        for name, until in [s for s in self.streams if s[1] <= self.now]:
            self.streams.remove((name, until))
            if name in self.replicas:
                self.replicas[name].end()
        for name, stock in self.replicas.items():
            if stock.due() <= self.now + self.offsets[name]:
                self.exchange(name, lost=self.rng.random() < 0.05)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["rpm", "rps", "streams"]),
    limit=st.sampled_from([1, 3, 20, 200]),
    seed=st.integers(0, 10**6),
)
def test_no_span_ever_holds_more_than_the_limit_whoever_crashes_or_joins(kind: CapKind, limit: int, seed: int) -> None:
    world = World(kind, limit, seed)
    for _ in range(3):
        world.join()
    for _ in range(500):
        fate = world.rng.random()
        if fate < 0.01 and len(world.replicas) > 1:
            gone = world.rng.choice(sorted(world.replicas))
            del world.replicas[gone]
            world.streams = [s for s in world.streams if s[0] != gone]  # its sockets are closed
        elif fate < 0.02:
            world.join()
        for _ in range(world.rng.choice((0, 1, 1, 5))):
            world.arrive(world.rng.choice(sorted(world.replicas)))
        world.step()
    assert world.uses


def test_what_a_silent_replica_holds_counts_as_used_and_a_stream_is_free() -> None:
    now = 0.0
    pool = MemoryPool(lambda: now)
    for kind, later in (("rpm", 0), ("streams", 10)):
        pool.tell(told(1, scope=kind, **{kind: Ask(10, 0, 10, 10, 1)}))
        now += TTL + 0.1
        (found,) = pool.tell(told(1, replica="b", scope=kind, **{kind: Ask(10, 0, 10, 10, 1)}))
        assert found is not None
        assert found[kind].granted == later  # type: ignore[index]
        if kind == "rpm":
            assert found[kind].opens == pytest.approx(60_000, abs=400)  # type: ignore[index]


def test_a_late_report_changes_nothing() -> None:
    pool = MemoryPool(lambda: 1.0)
    pool.tell(told(2, rpm=Ask(10, 0, 4, 4, 1)))
    assert pool.tell(told(1, rpm=Ask(10, 0, 9, 9, 1))) == [None]
    (found,) = pool.tell(told(3, rpm=Ask(10, 4, 4, 4, 1)))
    assert found == {"rpm": Answer(0, 4, -1, True)}


def test_what_was_not_used_is_given_back_where_it_was_used() -> None:
    now = 100.0
    pool = MemoryPool(lambda: now)
    pool.tell(told(1, 5000, tpm=Ask(1000, 0, 900, 900, 900)))
    pool.tell(told(2, 5000, tpm=Ask(1000, 0, 0, 0, 1, ((4900, 900),))))
    (found,) = pool.tell(told(3, 5000, tpm=Ask(1000, 0, 0, 0, 1, ((4900, -600),))))
    assert found is not None
    assert found["tpm"].used == 300
    (found,) = pool.tell(told(4, 5000, tpm=Ask(1000, 0, 0, 0, 1, ((-20_000, -600),))))
    assert found is not None
    assert found["tpm"].used == 300  # nothing is found so long before
    now += 60.3
    (found,) = pool.tell(told(5, 65_300, tpm=Ask(1000, 0, 0, 0, 1)))
    assert found is not None
    assert found["tpm"].used == 0


def test_pieces_that_let_nobody_in_are_not_given() -> None:
    pool = MemoryPool(lambda: 1.0)
    pool.tell(told(1, tpm=Ask(1000, 0, 800, 800, 800)))
    (found,) = pool.tell(told(1, replica="b", tpm=Ask(1000, 0, 300, 300, 300)))
    assert found is not None
    assert found["tpm"].granted == 0
    (found,) = pool.tell(told(2, replica="b", tpm=Ask(1000, 0, 300, 300, 150)))
    assert found is not None
    assert found["tpm"].granted == 200


# --- Redis ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_redis_gives_what_the_reference_gives(shared_redis: Any, seed: int) -> None:
    rng = Random(seed)
    now = 1_800_000_000.0
    pool = MemoryPool(lambda: now)
    kinds: tuple[CapKind, ...] = ("streams", "rps", "rpm", "tpm", "tpm_in", "tpm_out")
    mine = f"{seed} {time.time_ns()}"

    async def scenario() -> None:
        nonlocal now
        store = RedisPool(shared_redis.url)
        for step in range(250):
            now = round(now + rng.choice((0.0, 0.01, 0.2, 0.2, 3.0, 20.0)), 3)
            clock = int(now * 1000) - 1_799_999_000_000 - rng.randrange(50)
            scopes = {}
            for name in rng.sample(("x", "y", "z"), rng.randint(1, 3)):
                asks: dict[CapKind, Ask] = {}
                for kind in rng.sample(kinds, rng.randint(1, 4)):
                    hold, need = rng.randrange(30), rng.randrange(40)
                    uses = tuple((clock - rng.randrange(3000), rng.randrange(-9, 20)) for _ in range(rng.randrange(4)))
                    asks[kind] = Ask(100, hold, need, need + rng.randrange(30), 1 + rng.randrange(9), uses)
                scopes[f"{name} {mine}"] = asks
            seq = step if rng.random() < 0.9 else max(0, step - 5)
            report = Told(rng.choice("abc"), seq, clock, scopes)
            expected = pool.tell(report)
            assert await store.exchange_at(report, str(int(now * 1000))) == expected, step
        await store.aclose()

    asyncio.run(scenario())


def test_redis_keeps_nothing_for_ever_and_uses_its_own_clock(shared_redis: Any) -> None:
    async def scenario() -> None:
        store = RedisPool(shared_redis.url)
        scope = f"tenant x{time.time_ns()}"
        (found,) = await store.exchange(told(1, scope=scope, rpm=Ask(10, 0, 3, 3, 1)))
        assert found == {"rpm": Answer(3, 3, -1, True)}
        assert 0 < int(shared_redis.cli("PTTL", key_of(scope))[1:]) <= 90_000
        assert await store.exchange(Told("a", 2, 0, {})) == ()
        await store.aclose()

    asyncio.run(scenario())


@pytest.fixture
def frozen(own_redis: Any) -> Iterator[Any]:
    own_redis.freeze()
    yield own_redis
    own_redis.thaw()


def test_a_frozen_redis_is_given_up_in_time(frozen: Any) -> None:
    async def scenario() -> None:
        store = RedisPool(frozen.url, timeout=0.2)
        began = time.monotonic()
        with pytest.raises(StoreDown):
            await store.exchange(told(1, rpm=Ask(10, 0, 3, 3, 1)))
        assert time.monotonic() - began < 2.0
        await store.aclose()

    asyncio.run(scenario())


def test_a_changed_layout_is_no_answer(own_redis: Any) -> None:
    async def scenario() -> None:
        store = RedisPool(own_redis.url)
        own_redis.cli("SET", key_of("tenant acme"), "nonsense")
        with pytest.raises(StoreDown):
            await store.exchange(told(1, rpm=Ask(10, 0, 3, 3, 1)))
        await store.aclose()

    asyncio.run(scenario())
