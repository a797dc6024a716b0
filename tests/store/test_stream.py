"""The stream of usage records on a real server: in batches, once, whatever dies on the way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.store.base import StoreDown
from gateway.store.stream import PAGE, UsageStream


async def everything(stream: UsageStream, since_ms: int = 0) -> list[bytes]:
    return [line async for line in stream.read(since_ms)]


def lines(*numbers: int) -> list[bytes]:
    return [b'{"id":"req-%d"}' % number for number in numbers]


@pytest.fixture
def url(shared_redis: Any) -> str:
    shared_redis.cli("FLUSHALL")
    found: str = shared_redis.url
    return found


def test_what_is_written_is_read_in_order_over_many_pages(url: str) -> None:
    async def scenario() -> None:
        stream = UsageStream(url, 10_000)
        for number in range(5):
            await stream.write(number + 1, lines(*range(number * 500, number * 500 + 500)))
        assert await everything(stream) == lines(*range(2500))
        assert 2 * PAGE < 2500
        assert await everything(stream, int(time.time() * 1000) + 60_000) == []
        await stream.aclose()

    asyncio.run(scenario())


def test_the_oldest_make_room(url: str) -> None:
    async def scenario() -> None:
        stream = UsageStream(url, 1000)
        for number in range(20):
            await stream.write(number + 1, lines(*range(number * 250, number * 250 + 250)))
        kept = await everything(stream)
        assert 1000 <= len(kept) < 1500
        assert kept == lines(*range(5000))[-len(kept) :]
        await stream.aclose()

    asyncio.run(scenario())


def test_a_batch_that_comes_again_is_not_written_again(url: str) -> None:
    async def scenario() -> None:
        stream, other = UsageStream(url, 1000), UsageStream(url, 1000)
        for number in (1, 1, 2, 1, 2):
            await stream.write(number, lines(number))
        await other.write(1, lines(3))
        assert await everything(stream) == lines(1, 2, 3)
        await stream.aclose()
        await other.aclose()

    asyncio.run(scenario())


def test_a_frozen_server_is_trouble_in_time_and_what_it_did_late_is_done_once(own_redis: Any) -> None:
    async def scenario() -> None:
        stream = UsageStream(own_redis.url, 1000, timeout=0.3)
        await stream.write(1, lines(1))
        own_redis.freeze()
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreDown, match=r"did not answer within 0\.3 s"):
                await stream.write(2, lines(2))
        assert time.monotonic() - began < 5.0
        own_redis.thaw()
        while True:
            try:
                await stream.write(2, lines(2))
            except StoreDown:
                continue
            break
        await stream.write(3, lines(3))
        assert await everything(stream) == lines(1, 2, 3)
        await stream.aclose()

    asyncio.run(scenario())


def test_a_server_that_died_and_came_back_empty_is_written_to_again(own_redis: Any) -> None:
    async def scenario() -> None:
        stream = UsageStream(own_redis.url, 1000, timeout=0.5)
        await stream.write(1, lines(1))
        own_redis.kill()
        with pytest.raises(StoreDown):
            await stream.write(2, lines(2))
        with pytest.raises(StoreDown):
            await everything(stream)
        own_redis.start()
        await stream.write(2, lines(2))
        assert await everything(stream) == lines(2)
        await stream.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("rules", [("+@all", "-evalsha"), ("+@all", "-script")])
def test_hashes_may_be_forbidden(own_redis: Any, rules: tuple[str, ...]) -> None:
    own_redis.cli("ACL", "SETUSER", "plain", "on", ">secret", "~*", *rules)

    async def scenario() -> None:
        stream = UsageStream(own_redis.url.replace("redis://", "redis://plain:secret@"), 1000)
        assert "secret" not in repr(stream)
        await stream.write(1, lines(1))
        await stream.write(2, lines(2))
        assert await everything(stream) == lines(1, 2)
        await stream.aclose()

    asyncio.run(scenario())


def test_the_newest_come_first_over_many_pages(url: str) -> None:
    async def scenario() -> None:
        stream = UsageStream(url, 10_000)
        for number in range(5):
            await stream.write(number + 1, lines(*range(number * 500, number * 500 + 500)))
        assert [line async for line in stream.newest()] == lines(*reversed(range(2500)))
        await stream.aclose()

    asyncio.run(scenario())


def test_a_redis_user_needs_no_other_keys_than_ours(url: str, shared_redis: Any) -> None:
    commands = "+evalsha +eval +get +set +xadd +xrange +xrevrange"
    shared_redis.cli("ACL", "SETUSER", "ours", "on", ">secret", "~spillgate:*", *commands.split())

    async def scenario() -> None:
        stream = UsageStream(url.replace("redis://", "redis://ours:secret@"), 1000)
        await stream.write(1, lines(1))
        assert await everything(stream) == [line async for line in stream.newest()] == lines(1)
        await stream.aclose()

    asyncio.run(scenario())
    shared_redis.cli("ACL", "DELUSER", "ours")
