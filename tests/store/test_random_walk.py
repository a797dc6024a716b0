"""Replicas with real meters, books and ledgers, in virtual time, under everything that may go wrong.

The cloud counts: at no time more streams, or more starts in any window, than its limit, whoever sent them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.core.nouns import Limits
from gateway.store.redis import RedisStore, key_of
from gateway.testing.replicas import ACCOUNT, TERMS, OutOfScope, World, started

OPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from([0.1, 0.3, 1.0, 3.0, 5.0])),
    st.tuples(st.just("run"), st.sampled_from([1.0, 3.0, 14.0])),
    st.tuples(st.just("wish"), st.integers(0, 5), st.sampled_from([0, 1, 3, 20])),
    st.tuples(st.just("join")),
    st.tuples(st.just("crash"), st.integers(0, 5)),
    st.tuples(st.just("freeze"), st.integers(0, 5), st.sampled_from([0.5, 2.5, 4.0, 20.0])),
    st.tuples(st.just("cut"), st.integers(0, 5)),
    st.tuples(st.just("heal")),
    st.tuples(st.just("down")),
    st.tuples(st.just("up")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("lossy"), st.sampled_from([0.0, 0.05, 0.3])),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 3600.0])),
)  # fmt: skip


def play(world: World, ops: list[tuple[object, ...]]) -> None:  # noqa: C901
    for op in ops:
        living = world.living()
        match op:
            case ("run", float(seconds)):
                world.run(seconds)
            case ("wish", int(i), int(wish)) if living:
                living[i % len(living)].wish = wish
            case ("join",) if len(living) < (world.crowd or 5):
                world.join().wish = 5
            case ("crash", int(i)) if living:
                world.crash(living[i % len(living)])
            case ("freeze", int(i), float(seconds)) if living:
                living[i % len(living)].frozen_until = world.now + seconds
            case ("cut", int(i)) if living:
                living[i % len(living)].cut = True
            case ("heal",):
                for replica in living:
                    replica.cut = False
            case ("down",):
                world.down = True
            case ("up",):
                world.down = False
            case ("flush",):
                world.flush()
            case ("lossy", float(share)):
                world.lossy = share
            case ("jump", float(seconds)):
                world.skew += seconds
            case _:
                pass


LIMITS = st.sampled_from([
    Limits(streams=1), Limits(streams=3, rpm=40), Limits(streams=10, rps=4), Limits(streams=40, rpm=30, rps=20),
    Limits(streams=40, ramp=2), Limits(streams=200, ramp=11),
])  # fmt: skip


@settings(max_examples=40, phases=[Phase.reuse, Phase.generate])
@given(
    LIMITS, st.lists(OPS, min_size=5, max_size=40), st.integers(0, 2**32), st.sampled_from([0.2, 3.0, 30.0]),
    st.sampled_from([0, 3, 5]),
)  # fmt: skip
def test_no_cloud_ever_sees_more_than_its_limit(
    limits: Limits, ops: list[tuple[object, ...]], seed: int, hold: float, crowd: int
) -> None:
    world = started(limits, seed, 3, hold, crowd)
    with suppress(OutOfScope):
        play(world, ops)
        in_peace_everything_comes_back(world)


def in_peace_everything_comes_back(world: World) -> None:
    """Whatever happened: in the end one replica can have all that the cloud allows."""
    world.down, world.lossy = False, 0.0
    for replica in world.living():
        replica.cut, replica.frozen_until, replica.wish = False, 0.0, 0
    limits, streams = world.limits, world.limits.streams or 0
    if limits.rpm is not None or world.hold > 3.0 or not world.living():
        return
    world.run(2 * (TERMS.ttl + TERMS.ghost) + 3.0)
    world.living()[-1].wish, world.hold = 10_000, 1e6
    per_second = limits.rps or limits.ramp
    world.run(2.0 + (0.0 if per_second is None else 1.2 * (1 + streams // per_second)))
    assert world.cloud.running >= 0.99 * streams


async def replay(world: World, url: str) -> int:
    """Tell Redis what memory was told, by the same clock; count the grants that were compared."""
    store = RedisStore(url, world.terms, timeout=10.0)
    epochs: dict[str, str] = {}
    compared = 0
    async with Redis.from_url(url) as server:
        await server.delete(key_of(ACCOUNT))
        try:
            for i, (clock, reports, grants) in enumerate(world.log):
                if i in world.flushes:
                    await server.delete(key_of(ACCOUNT))
                told = [replace(report, epoch=epochs.get(report.epoch, "")) for report in reports]
                answers = await store.exchange_at(told, str(clock))
                for mine, its in zip(grants, answers, strict=True):
                    if not mine.stale:
                        epochs.setdefault(mine.epoch, its.epoch)
                    assert replace(its, epoch=mine.epoch) == mine, f"step {i}: {reports}"
                    assert mine.stale or its.epoch == epochs[mine.epoch]
                    compared += 1
        finally:
            await store.aclose()
    return compared


@settings(max_examples=8, phases=[Phase.reuse, Phase.generate])
@given(LIMITS, st.lists(OPS, min_size=5, max_size=25), st.integers(0, 2**32), st.sampled_from([0, 3, 5]))
def test_redis_grants_what_the_reference_grants(
    shared_redis: Any, limits: Limits, ops: list[tuple[object, ...]], seed: int, crowd: int
) -> None:
    world = started(limits, seed, 3, crowd=crowd)
    with suppress(OutOfScope):
        play(world, ops)
    assert asyncio.run(replay(world, shared_redis.url)) >= 50
