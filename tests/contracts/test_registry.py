"""What every registry of tenants and keys promises. A new one adds itself to `REGISTRIES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.store.base import StoreDown
from gateway.store.registry import NOTHING, MemoryRegistry, Registry, Stored, Token, token
from gateway.store.registry_redis import KEY, RedisRegistry
from gateway.testing.processes import Redis

REGISTRIES = ("memory", "redis")
Scenario = Callable[[Registry, Callable[[], None]], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@asynccontextmanager
async def opened(kind: str, server: Redis) -> AsyncIterator[tuple[Registry, Callable[[], None]]]:
    """An empty registry, and how to make it lose everything."""
    if kind == "memory":
        memory = MemoryRegistry()
        yield memory, memory.lose
        return
    server.say("FLUSHALL")
    redis = RedisRegistry(server.url, timeout=5.0)
    try:
        yield redis, lambda: server.say("FLUSHALL")
    finally:
        await redis.aclose()


@pytest.fixture(params=REGISTRIES)
def promise(request: pytest.FixtureRequest, server: Redis) -> Callable[[Scenario], None]:
    """Run a scenario against a registry."""

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with opened(request.param, server) as (registry, lose):
                await scenario(registry, lose)

        asyncio.run(whole())

    return run


async def commit(registry: Registry, seen: Token, **changes: bytes | None) -> Token:
    found = await registry.commit(seen, {name.replace("_", ":"): raw for name, raw in changes.items()})
    assert found is not None
    return found


def test_a_new_registry_is_empty(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        assert await registry.token() == NOTHING
        assert await registry.read() == Stored()

    promise(scenario)


def test_what_was_written_is_read_with_the_token_of_its_state(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        first = await commit(registry, NOTHING, t_a=b"1", t_b=b"\x00\xff")
        assert await registry.token() == first
        assert await registry.read() == Stored(first, {"t:a": b"1", "t:b": b"\x00\xff"})
        second = await commit(registry, first, t_a=None, t_b=b"2", t_c=b"3")
        assert (second.count, second.mark != first.mark) == (first.count + 1, True)
        assert await registry.read() == Stored(second, {"t:b": b"2", "t:c": b"3"})

    promise(scenario)


def test_who_saw_another_state_changes_nothing(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        first = await commit(registry, NOTHING, t_a=b"1")
        for seen in (NOTHING, Token(1, "another"), Token(2, first.mark)):
            assert await registry.commit(seen, {"t:a": b"wrong", "t:b": b"wrong"}) is None
        assert await registry.read() == Stored(first, {"t:a": b"1"})

    promise(scenario)


def test_of_many_who_saw_the_same_one_gets_through(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        first = await commit(registry, NOTHING, t_a=b"0")
        found = await asyncio.gather(*(registry.commit(first, {"t:a": b"%d" % n}) for n in range(8)))
        (through,) = [n for n, named in enumerate(found) if named is not None]
        assert (await registry.read()).fields == {"t:a": b"%d" % through}

    promise(scenario)


def test_a_state_that_was_emptied_still_counts(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        first = await commit(registry, NOTHING, t_a=b"1")
        second = await commit(registry, first, t_a=None)
        assert await registry.read() == Stored(second, {})
        assert second.count == 2

    promise(scenario)


def test_what_was_lost_is_put_back_by_who_knows_more(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        older = Stored(await commit(registry, NOTHING, t_a=b"1"), {"t:a": b"1"})
        newer = Stored(await commit(registry, older.token, t_b=b"2"), {"t:a": b"1", "t:b": b"2"})
        assert not await registry.restore(newer)
        lose()
        assert await registry.read() == Stored()
        assert await registry.restore(older)
        assert await registry.read() == older
        assert await registry.restore(newer)
        assert not await registry.restore(older)
        assert await registry.read() == newer

    promise(scenario)


def test_putting_back_leaves_nothing_of_the_older_state(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        await commit(registry, NOTHING, t_x=b"old")
        assert await registry.restore(Stored(Token(5, "mark"), {"t:a": b"1"}))
        assert await registry.read() == Stored(Token(5, "mark"), {"t:a": b"1"})

    promise(scenario)


def test_thousands_of_records_are_one_state(promise: Any) -> None:
    async def scenario(registry: Registry, lose: Any) -> None:
        many = {f"k:{number}": b"x" * 200 for number in range(6000)}
        found = await registry.commit(NOTHING, many)
        assert await registry.read() == Stored(found or NOTHING, many)
        lose()
        assert await registry.restore(Stored(found or NOTHING, many))
        assert await registry.read() == Stored(found or NOTHING, many)

    promise(scenario)


@pytest.mark.parametrize("text", ["", "7", "x:abc", ":abc", "7:"])
def test_what_is_no_token_is_nothing(text: str) -> None:
    assert token(text) == NOTHING
    assert token("7:abc") == Token(7, "abc")
    assert token(str(Token(7, "abc"))) == Token(7, "abc")
    assert str(NOTHING) == ""


def test_a_redis_that_is_away_is_said_to_be_down_in_time_and_is_found_again() -> None:
    server = Redis()

    async def scenario() -> None:
        registry = RedisRegistry(server.url.replace("redis://", "redis://:hidden@"), timeout=0.3)
        assert "hidden" not in repr(registry)
        plain = RedisRegistry(server.url, timeout=0.3)
        first = await commit(plain, NOTHING, t_a=b"1")
        server.kill()
        for ask in (registry.token, plain.read, lambda: plain.commit(first, {}), lambda: plain.restore(Stored())):
            with pytest.raises(StoreDown) as caught:
                await ask()
            assert "hidden" not in str(caught.value)
        server.start()
        assert await plain.token() == NOTHING
        await plain.aclose()
        await plain.aclose()

    asyncio.run(scenario())
    server.kill()


def test_a_registry_that_holds_something_else_is_down_and_not_overwritten(server: Redis) -> None:
    async def scenario() -> None:
        registry = RedisRegistry(server.url, timeout=5.0)
        with pytest.raises(StoreDown, match="WRONGTYPE"):
            await registry.read()
        with pytest.raises(StoreDown, match="WRONGTYPE"):
            await registry.commit(NOTHING, {"t:a": b"1"})
        await registry.aclose()

    server.say("FLUSHALL")
    server.say("SET", KEY, "something")
    asyncio.run(scenario())
