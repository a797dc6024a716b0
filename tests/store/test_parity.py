"""Redis grants what the reference grants, number for number, where parts are odd, small and many."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gateway.core.nouns import LimitKind
from gateway.store.base import Grant, Need, Report
from gateway.store.memory import MemoryStore
from gateway.store.redis import RedisStore, elder_key_of


@pytest.mark.parametrize("seed", range(12))
def test_twenty_replicas_are_granted_the_same_by_redis_and_by_the_reference(shared_redis: Any, seed: int) -> None:
    rng = Random(seed)
    kinds: tuple[LimitKind, ...] = ("streams", "rpm", "tps")
    limits = {kind: rng.choice((1, 7, 19, 40, 1000, 10**9)) for kind in kinds}
    asyncio.run(compared(rng, limits, shared_redis.url))


async def compared(rng: Random, limits: dict[LimitKind, int], url: str) -> None:
    names = sorted(f"{rng.randrange(16**6):06x}" for _ in range(20))
    now = 1_000_000_000
    reference, store = MemoryStore(lambda: now / 1000), RedisStore(url, timeout=10.0)
    account = f"twenty-{rng.randrange(10**9)}"
    last = dict.fromkeys(names, Grant(account))
    epochs = {"": ""}
    for turn in range(30):
        for name in rng.sample(names, 20):
            was = last[name]
            needs = {kind: random_need(rng, limit, was.shares.get(kind, 0)) for kind, limit in limits.items()}
            needs.pop(rng.choice((*limits, *["ramp"] * 20)), None)
            told = Report(account, name, turn, needs, was.epoch, was.joins, was.members)
            (mine,) = reference.tell([told])
            (its,) = await store.exchange_at([replace(told, epoch=epochs[told.epoch])], str(now))
            epochs[mine.epoch] = its.epoch
            assert replace(its, epoch=mine.epoch) == mine, (turn, told)
            last[name] = mine
            now += 10
    await store.aclose()


def random_need(rng: Random, limit: int, share: int) -> Need:
    want = rng.choice((0, 1, limit, rng.randint(0, limit), limit // 20))
    used = rng.choice((0, share, rng.randint(0, share)))
    return Need(limit, share, used, want, rng.choice((1, 1, 1 + limit // 9)))


def test_while_gateways_of_the_layout_before_are_alive_those_of_this_one_get_nothing(own_redis: Any) -> None:
    """An operator who updates one replica after the other: the old ones have everything until the last has gone."""

    async def body() -> None:
        store = RedisStore(own_redis.url, timeout=10.0)
        last = Grant("ark")

        async def say(seq: int) -> int:
            nonlocal last
            need = Need(9, last.shares.get("streams", 0), 0, 9)
            told = Report("ark", "a", seq, {"streams": need}, last.epoch, last.joins, last.members, crowd=1)
            (last,) = await store.exchange([told])
            return last.shares["streams"]

        assert [await say(1), await say(2)] == [0, 9]
        own_redis.cli("SET", elder_key_of("ark"), "{}", "PX", "900000")
        assert await say(3) == 0
        assert last.learning
        own_redis.cli("PEXPIRE", elder_key_of("ark"), str(900_000 - 63_600))
        assert [await say(4), await say(5)][-1] == 9, "the last of them has been silent for a lease and a minute"
        await store.aclose()

    asyncio.run(body())
