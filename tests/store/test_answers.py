"""Answers in Redis: what is at hand, what is not trusted, and a Redis that is slow, gone or lying."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.nouns import Usage
from gateway.store import answers_redis
from gateway.store.answers import MAGIC, Answer, Bounds, Look, Which, pack, unpack
from gateway.store.answers_redis import RedisAnswers

BOUNDS = Bounds(60.0, 100, 10**6)
KEY, OTHER = b"k" * 32, b"o" * 32
ANSWER = Answer(1e9, "r2", "acme", b"words " * 300, Usage(1, 2, 3, 4), "0.5", "CNY")


class Clock:
    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


async def eventually(condition: Callable[[], Any]) -> None:
    for _ in range(2500):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("never")


async def ready(keeper: RedisAnswers) -> bytes:
    """The mark, once Redis has been reached."""
    for _ in range(2500):
        found = await keeper.look("p", OTHER, BOUNDS)
        if found.mark is not None:
            return found.mark
        await asyncio.sleep(0.002)
    raise AssertionError("never")


def fresh() -> Answer:
    return Answer(time.time(), "r2", "acme", ANSWER.body)


async def kept(keeper: RedisAnswers, key: bytes = KEY) -> None:
    await keeper.keep("p", key, fresh(), BOUNDS, await ready(keeper))
    await eventually(lambda: not keeper._tasks)


def keeper_at(url: str, clock: Callable[[], float] = time.monotonic, timeout: float = 0.5) -> RedisAnswers:
    return RedisAnswers(url, time.time, clock, timeout)


def within(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


# --- entries ----------------------------------------------------------------------------------------------


def test_an_entry_is_small_and_comes_back_as_it_was() -> None:
    entry = pack(KEY, ANSWER)
    assert len(entry) < len(ANSWER.body) / 4
    assert unpack(KEY, entry) == ANSWER
    small = Answer(1.0, "m", "t", b"x")
    assert unpack(KEY, pack(KEY, small)) == small


@given(st.data())
def test_an_entry_that_is_not_as_it_was_is_nobodys_answer(data: st.DataObject) -> None:
    entry = pack(KEY, ANSWER)
    assert unpack(OTHER, entry) is None
    assert unpack(KEY, entry[: data.draw(st.integers(0, len(entry) - 1))]) is None
    assert unpack(KEY, entry + data.draw(st.binary(min_size=1, max_size=9))) is None
    place, flip = data.draw(st.integers(0, len(entry) - 1)), data.draw(st.integers(1, 255))
    assert unpack(KEY, entry[:place] + bytes([entry[place] ^ flip]) + entry[place + 1 :]) is None
    assert unpack(KEY, data.draw(st.binary(max_size=100))) is None


def test_an_entry_of_another_version_is_nobodys_answer() -> None:
    assert unpack(KEY, b"SGA2" + pack(KEY, ANSWER)[len(MAGIC) :]) is None


# --- Redis ------------------------------------------------------------------------------------------------


def test_another_replica_finds_what_one_has_kept_and_has_it_at_hand(own_redis: Any) -> None:
    async def scenario() -> None:
        one, two = keeper_at(own_redis.url), keeper_at(own_redis.url)
        await kept(one)
        await ready(two)
        assert two.peek("p", KEY) is None
        found = await two.look("p", KEY, BOUNDS)
        assert found.answer is not None
        assert found.answer.body == ANSWER.body
        assert two.peek("p", KEY) == found.answer
        await one.aclose()
        await two.aclose()

    within(scenario())


def test_a_purge_reaches_what_others_have_at_hand(own_redis: Any) -> None:
    async def scenario() -> None:
        clock = Clock()
        one, two = keeper_at(own_redis.url), keeper_at(own_redis.url, clock)
        await kept(one)
        await ready(two)
        await two.look("p", KEY, BOUNDS)
        assert await one.purge(Which()) == 1
        assert two.peek("p", KEY) is not None, "not yet known"
        clock.now += answers_redis.CONFIRM + 0.1
        assert two.peek("p", KEY) is not None, "it is asked meanwhile"
        await eventually(lambda: two.peek("p", KEY) is None)
        assert (await two.look("p", KEY, BOUNDS)).answer is None
        await one.aclose()
        await two.aclose()

    within(scenario())


def test_what_is_at_hand_is_not_used_when_nothing_was_heard_for_long(own_redis: Any) -> None:
    async def scenario() -> None:
        clock = Clock()
        one = keeper_at(own_redis.url, clock)
        await kept(one)
        own_redis.freeze()
        clock.now += answers_redis.TRUST - 0.1
        assert one.peek("p", KEY) is not None
        clock.now += 0.2
        assert one.peek("p", KEY) is None
        own_redis.thaw()
        await eventually(lambda: one.peek("p", KEY) is not None)
        await one.aclose()

    within(scenario())


@pytest.mark.parametrize("entry", ["", "junk", "SGA1", "SGA0" + "x" * 40])
def test_a_poisoned_entry_is_a_miss(own_redis: Any, entry: str) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await ready(one)
        own_redis.cli("HSET", "spillgate:{answers}:1:p:values", KEY.hex(), entry)
        own_redis.cli("HSET", "spillgate:{answers}:1:p:info", KEY.hex(), entry)
        own_redis.cli("SADD", "spillgate:{answers}:1:spaces", "p")
        found = await one.look("p", KEY, BOUNDS)
        assert (found.answer, found.mark) == (None, b"")
        assert [one_ async for one_ in one.entries()] == []
        await one.aclose()

    within(scenario())


def test_a_frozen_redis_costs_a_few_milliseconds_once_and_then_nothing(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        mark = await ready(one)
        own_redis.freeze()
        began = time.monotonic()
        assert await one.look("p", OTHER, BOUNDS) == Look()
        assert time.monotonic() - began < 0.25, "it is 5 ms on a machine that is not busy"
        began = time.monotonic()
        for _ in range(500):
            assert await one.look("p", OTHER, BOUNDS) == Look()
            await one.keep("p", OTHER, fresh(), BOUNDS, mark)
        assert time.monotonic() - began < 0.5
        assert len(one._tasks) <= 3, "one asks again, and nobody else"
        own_redis.thaw()
        assert await ready(one) == b""
        assert (await one.look("p", KEY, BOUNDS)).answer is not None
        await one.aclose()

    within(scenario())


def test_a_busy_machine_is_not_taken_for_a_slow_redis(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        asyncio.get_running_loop().call_soon(time.sleep, 0.05)
        for _ in range(5):
            assert (await one.look("p", KEY, BOUNDS)).answer is not None
            asyncio.get_running_loop().call_soon(time.sleep, 0.02)
        await one.aclose()

    within(scenario())


def test_a_mark_that_comes_late_is_known_when_the_answer_is_there(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        own_redis.freeze()
        found = await one.look("p", OTHER, BOUNDS)
        assert (found.mark, found.late()) == (None, None)
        own_redis.thaw()
        await eventually(lambda: found.late() is not None)
        await eventually(lambda: not one._away)
        await one.keep("p", OTHER, fresh(), BOUNDS, b"")
        assert (await one.look("p", OTHER, BOUNDS)).answer is not None
        await one.aclose()

    within(scenario())


def test_a_redis_that_is_gone_is_a_miss_and_comes_back(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        own_redis.kill()
        for _ in range(20):
            assert (await one.look("p", OTHER, BOUNDS)).answer is None
        await eventually(lambda: one.failures)
        own_redis.start()
        await kept(one)
        assert (await one.look("p", KEY, BOUNDS)).answer is not None
        await one.aclose()

    within(scenario())


def test_too_many_at_a_time_find_nothing_rather_than_wait(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        own_redis.freeze()
        found = await asyncio.gather(*(one.look("p", OTHER, BOUNDS) for _ in range(1000)))
        assert set(found) == {Look()}
        assert len(one._tasks) <= answers_redis.MOST_ASKING
        own_redis.thaw()
        await one.aclose()

    within(scenario())


def test_it_closes_while_redis_is_frozen(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url, timeout=0.2)
        await kept(one)
        own_redis.freeze()
        await one.look("p", OTHER, BOUNDS)
        await one.aclose()
        assert not one._tasks
        own_redis.thaw()

    within(scenario())


def test_everything_in_redis_ends_by_itself(own_redis: Any) -> None:
    async def scenario() -> None:
        one = keeper_at(own_redis.url)
        await kept(one)
        for part in ("p:values", "p:index", "p:info", "spaces"):
            left = int(own_redis.cli("PTTL", f"spillgate:{{answers}}:1:{part}").strip()[1:])
            assert 0 < left <= 60_000
        await one.aclose()

    within(scenario())


def test_no_secret_is_shown() -> None:
    async def scenario() -> None:
        assert "hush" not in repr(keeper_at("redis://me:hush@127.0.0.1:1/0"))

    within(scenario())
