"""What every place where replicas meet over a call promises. A new one adds itself to `PLACES`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.store import flights as module
from gateway.store.base import StoreDown
from gateway.store.flights import Flights, MemoryFlights, Seen, Written
from gateway.store.flights_redis import RedisFlights
from gateway.testing.processes import Redis

PLACES = ("memory", "redis")
Scenario = Callable[[Flights], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@asynccontextmanager
async def opened(kind: str, server: Redis) -> AsyncIterator[Flights]:
    if kind == "memory":
        yield MemoryFlights(time.monotonic)
        return
    server.say("FLUSHALL")
    place = RedisFlights(server.url, timeout=5.0)
    try:
        yield place
    finally:
        await place.aclose()


@pytest.fixture(params=PLACES)
def promise(request: pytest.FixtureRequest, server: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with opened(request.param, server) as place:
                await scenario(place)

        asyncio.run(whole())

    return run


def test_one_calls_and_the_others_learn_who(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        first, second, other = await place.claim("a"), await place.claim("a"), await place.claim("b")
        assert (first.leads, second.leads, other.leads) == (True, False, True)
        assert first.token == second.token != other.token

    promise(scenario)


def test_who_claims_or_reads_is_known_to_listen(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        post = await place.claim("a")
        assert await place.publish(post, 0, [], 0) == Written(False, 0, False)
        listener = await place.claim("a")
        assert await place.publish(post, 0, [b"1", b"2"], 0) == Written(True, 2, False)
        assert await place.read(listener, 0) == Seen(True, (b"1", b"2"))
        assert await place.read(listener, 1) == Seen(True, (b"2",))
        assert await place.read(listener, 2) == Seen(True, ())

    promise(scenario)


def test_what_is_said_twice_is_written_once(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        post = await place.claim("a")
        await place.publish(post, 0, [b"1"], 0)
        assert (await place.publish(post, 0, [b"1", b"2"], 0)).length == 1
        assert (await place.publish(post, 1, [b"2"], 0)).length == 2
        assert (await place.read(post, 0)).items == (b"1", b"2")

    promise(scenario)


def test_the_lease_ends_when_who_listens_has_all(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        post = await place.claim("a")
        listener = await place.claim("a")
        assert not (await place.publish(post, 0, [], 2)).over
        assert (await place.publish(post, 0, [b"1", b"end"], 2)).over
        assert await place.read(listener, 0) == Seen(False, (b"1", b"end"))
        again = await place.claim("a")
        assert (again.leads, again.token != post.token) == (True, True)
        assert (await place.read(listener, 0)).items == (b"1", b"end"), "a newer call does not get mixed in"

    promise(scenario)


def test_a_call_that_nobody_listens_to_ends_without_a_word(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        post = await place.claim("a")
        assert await place.publish(post, 0, [], 9) == Written(False, 0, True)
        assert (await place.claim("a")).leads

    promise(scenario)


def test_a_lease_ends_by_itself_and_a_late_renewal_takes_it_again_if_it_is_free(promise: Any) -> None:
    async def scenario(place: Flights) -> None:
        post, late = await place.claim("a"), await place.claim("b")
        await place.publish(post, 0, [b"1"], 0)
        await asyncio.sleep(module.LEASE + 0.1)
        assert not (await place.read(post, 0)).alive
        assert not (await place.publish(post, 1, [b"2"], 0)).over
        assert await place.read(post, 0) == Seen(True, (b"1", b"2"))
        assert (await place.claim("b")).leads
        assert (await place.publish(late, 0, [], 0)).over, "another has it"

    promise(scenario)


def test_a_redis_that_is_gone_is_told_in_time() -> None:
    async def scenario() -> None:
        place = RedisFlights("redis://me:hush@127.0.0.1:1/0")
        assert "hush" not in repr(place)
        with pytest.raises(StoreDown):
            await place.claim("a")
        await place.aclose()

    asyncio.run(scenario())
