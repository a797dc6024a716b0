"""What every store of shared counters promises. A new one adds itself to `STORES`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.core.fair import CLASSES
from gateway.store.base import StoreDown
from gateway.store.fairness import MANY, Counters, MemoryCounters, Telling, Told, Word
from gateway.store.fairness_redis import RedisCounters, key_of
from gateway.testing.processes import Redis

STORES = ("memory", "redis")
Scenario = Callable[[Counters, Callable[[], None]], Coroutine[Any, Any, None]]
CLOCKS = (0.0, 100.0, 0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@asynccontextmanager
async def opened(kind: str, server: Redis) -> AsyncIterator[tuple[Counters, Callable[[], None]]]:
    """An empty store, and how to make it lose everything."""
    if kind == "memory":
        memory = MemoryCounters()
        yield memory, memory.lose
        return
    server.say("FLUSHALL")
    redis = RedisCounters(server.url, timeout=5.0)
    try:
        yield redis, lambda: server.say("FLUSHALL")
    finally:
        await redis.aclose()


@pytest.fixture(params=STORES)
def promise(request: pytest.FixtureRequest, server: Redis) -> Callable[[Scenario], None]:
    """Run a scenario against a store."""

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with opened(request.param, server) as (counters, lose):
                await scenario(counters, lose)

        asyncio.run(whole())

    return run


def word(tenant: str, base: float, spent: float, *, lifted: bool = False) -> Word:
    return Word("standard", tenant, base, spent, lifted)


def telling(
    *words: Word, by: str = "a", seq: int = 1, epoch: str = "e", pool: str = "ark", clock: float = 100.0
) -> Telling:
    return Telling(pool, by, epoch, seq, (0.0, clock, 0.0), words)


async def say(counters: Counters, *tellings: Telling) -> Told:
    return (await counters.exchange(tellings))[-1]


def test_what_replicas_charged_is_added_up_and_clocks_only_go_on(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        assert await say(counters, telling(word("t", 50.0, 10.5))) == Told("e", CLOCKS, (60.5,))
        told = await say(counters, telling(word("t", 0.0, 7.0), word("u", 3.0, 1.0), by="b", clock=90.0))
        assert told == Told("e", CLOCKS, (67.5, 4.0))
        told = await say(counters, telling(word("t", 60.5, -20.0), seq=2, clock=120.0))
        assert told == Told("e", (0.0, 120.0, 0.0), (47.5,)), "refunds too"

    promise(scenario)


def test_a_lift_raises_and_never_lowers(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        await say(counters, telling(word("t", 0.0, 500.0), word("u", 0.0, 5.0)))
        lifts = word("t", 400.0, 10.0, lifted=True), word("u", 400.0, 10.0, lifted=True)
        assert (await say(counters, telling(*lifts, by="b"))).counters == (510.0, 410.0)
        assert (await say(counters, telling(*lifts, by="c"))).counters == (520.0, 420.0), "lifted once, charged twice"

    promise(scenario)


def test_the_same_told_again_is_added_once(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        first = telling(word("t", 0.0, 10.0))
        assert (await say(counters, first)).counters == (10.0,)
        await say(counters, telling(word("t", 0.0, 5.0), by="b"))
        assert (await say(counters, first)).counters == (15.0,)
        assert (await say(counters, telling(word("t", 10.0, 1.0), seq=2))).counters == (16.0,)

    promise(scenario)


def test_who_counts_on_another_scale_is_told_of_it_and_nothing_is_added(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        await say(counters, telling(word("t", 1e6, 10.0), clock=1e6))
        stranger = telling(word("t", 0.0, 10.0), word("new", 0.0, 7.0), by="b", epoch="other", clock=9e9)
        for _ in range(2):
            assert await say(counters, stranger) == Told("e", (0.0, 1e6, 0.0), (1e6 + 10, None))

    promise(scenario)


def test_an_emptied_store_takes_over_what_is_told(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Callable[[], None]) -> None:
        await say(counters, telling(word("t", 1e6, 10.0), clock=1e6))
        lose()
        assert await say(counters, telling(word("t", 1e6 + 10, 5.0), seq=2, clock=1e6)) == Told(
            "e", (0.0, 1e6, 0.0), (1e6 + 15,)
        )

    promise(scenario)


def test_pools_and_bands_are_kept_apart(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        words = [Word(class_, "t", 0.0, 1.0 + rank, lifted=False) for rank, class_ in enumerate(CLASSES)]
        assert (await say(counters, telling(*words))).counters == (1.0, 2.0, 3.0)
        assert (await say(counters, telling(), telling(*words, pool="ark,own"))).counters == (1.0, 2.0, 3.0)

    promise(scenario)


def test_too_many_tenants_are_forgotten_but_for_those_who_are_told_of(promise: Any) -> None:
    async def scenario(counters: Counters, lose: Any) -> None:
        for seq in range(1, 5):
            batch = [word(f"t{seq}-{number}", 0.0, 10.0) for number in range(MANY // 4)]
            await say(counters, telling(*batch, seq=seq))
        last = [word("t4-0", 0.0, 10.0), word("t1-1", 5.0, 10.0)]
        assert (await say(counters, telling(*last, seq=5))).counters == (20.0, 20.0)
        assert (await say(counters, telling(*last, seq=6))).counters == (30.0, 30.0)
        (told,) = await counters.exchange([telling(word("t2-0", 1.0, 0.0), word("t4-0", 1.0, 0.0), seq=7)])
        assert told.counters == (1.0, 30.0), "the others are gone"

    promise(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_redis_answers_what_the_reference_answers_number_for_number(server: Redis, seed: int) -> None:
    rng = Random(seed)

    def spoken() -> Sequence[Telling]:
        for name in names:
            if rng.random() < 0.8:
                seqs[name] += 1
            epochs[name] = rng.choice((epochs[name],) * 9 + ("other",))
            chosen = rng.sample(tenants, rng.randint(1, 12))
            words = tuple(
                Word(rng.choice(CLASSES), t, rng.uniform(0, 1e12), rng.uniform(-1e3, 1e5), rng.random() < 0.3)
                for t in chosen
            )
            clocks = tuple(rng.choice((0.0, rng.uniform(0, 1e12))) for _ in CLASSES)
            yield Telling(rng.choice(("x", "y")), name, epochs[name], seqs[name], clocks, words)

    names, tenants = ("a", "b", "c"), [f"tenant {number} ü" for number in range(15)]
    seqs, epochs = dict.fromkeys(names, 1), dict.fromkeys(names, "e")

    async def compare() -> None:
        server.say("FLUSHALL")
        reference, redis = MemoryCounters(), RedisCounters(server.url, timeout=5.0)
        for turn in range(60):
            if turn % 17 == 16:
                reference.lose()
                server.say("FLUSHALL")
            said = list(spoken())
            assert await redis.exchange(said) == await reference.exchange(said)
        await redis.aclose()

    asyncio.run(compare())


def test_the_hash_expires_when_nobody_tells_anything(server: Redis) -> None:
    async def body() -> None:
        redis = RedisCounters(server.url, timeout=5.0)
        await say(redis, telling(word("t", 0.0, 1.0), pool="mortal"))
        ttl = await redis._line.say(lambda client: client.pttl(key_of("mortal")))
        assert 800_000 < ttl <= 900_000
        await redis.aclose()

    asyncio.run(body())


def test_a_server_that_is_away_or_answers_nonsense_says_so_and_hides_the_password(server: Redis) -> None:
    away = RedisCounters("redis://user:sesame@127.0.0.1:1/0")

    async def body() -> None:
        with pytest.raises(StoreDown) as caught:
            await away.exchange([telling(word("t", 0.0, 1.0))])
        assert "sesame" not in f"{caught.value!r} {caught.value} {away!r}"
        await away.aclose()
        redis = RedisCounters(server.url, timeout=5.0)
        server.say("SET", key_of("odd"), "x")
        with pytest.raises(StoreDown, match="WRONGTYPE"):
            await redis.exchange([telling(word("t", 0.0, 1.0), pool="odd")])
        await redis.aclose()

    asyncio.run(body())


def test_the_commands_that_the_readme_lists_are_enough(server: Redis) -> None:
    listed = re.search(r"A Redis user of ours needs `([^`]+)`", (Path(__file__).parents[2] / "README.md").read_text())
    assert listed is not None

    async def body() -> None:
        server.say("ACL SETUSER ours reset on >secret", listed[1])
        redis = RedisCounters(server.url.replace("//", "//ours:secret@"), timeout=5.0)
        for seq in (1, 2):
            told = await say(redis, telling(word("t", 0.0, 1.0), pool="listed", seq=seq))
        assert told.counters == (2.0,)
        await redis.aclose()

    asyncio.run(body())
