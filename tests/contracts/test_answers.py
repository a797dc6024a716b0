"""What every keeper of answers promises. A new one adds itself to `KEEPERS`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from gateway.core.nouns import Usage
from gateway.store.answers import Answer, Answers, Bounds, Kept, MemoryAnswers, Which
from gateway.store.answers_redis import RedisAnswers
from gateway.testing.processes import Redis

KEEPERS = ("memory", "redis")
BOUNDS = Bounds(60.0, 100, 10**6)
K1, K2, K3 = (bytes([n]) * 32 for n in (1, 2, 3))
Scenario = Callable[[Answers], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


@asynccontextmanager
async def opened(kind: str, server: Redis) -> AsyncIterator[Answers]:
    if kind == "memory":
        yield MemoryAnswers(time.time)
        return
    server.say("FLUSHALL")
    keeper = RedisAnswers(server.url, time.time, time.monotonic, timeout=5.0)
    await settle(keeper)
    try:
        yield keeper
    finally:
        await keeper.aclose()


async def settle(keeper: Answers) -> None:
    """Until what is done in the background is done, and a store that was slow at first is used again."""
    for _ in range(500):
        await asyncio.sleep(0.002)
        if not isinstance(keeper, RedisAnswers):
            return
        if not keeper._tasks and not keeper._away and (await keeper.look("warm", K1, BOUNDS)).mark is not None:
            return


@pytest.fixture(params=KEEPERS)
def promise(request: pytest.FixtureRequest, server: Redis) -> Callable[[Scenario], None]:
    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            async with opened(request.param, server) as keeper:
                await scenario(keeper)

        asyncio.run(whole())

    return run


def answer(text: str = "hello", **more: Any) -> Answer:
    return Answer(**{"at": time.time(), "model": "r2", "tenant": "acme", "body": text.encode(), **more})


async def look(keeper: Answers, space: str, key: bytes) -> Answer | None:
    found = await keeper.look(space, key, BOUNDS)
    assert found.mark is not None
    return found.answer


async def keep(keeper: Answers, space: str, key: bytes, what: Answer, bounds: Bounds = BOUNDS) -> None:
    mark = (await keeper.look(space, key, bounds)).mark
    assert mark is not None
    await keeper.keep(space, key, what, bounds, mark)
    await settle(keeper)


async def listed(keeper: Answers) -> list[Kept]:
    return sorted([kept async for kept in keeper.entries()], key=lambda kept: kept.key)


def test_what_was_kept_is_found_whole(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        assert await look(keeper, "p", K1) is None
        full = answer("漢字 " * 1000, usage=Usage(5, 4, 3, 2), cost="0.00927", currency="CNY")
        await keep(keeper, "p", K1, full)
        assert await look(keeper, "p", K1) == full
        assert keeper.peek("p", K1) == full
        assert await look(keeper, "p", K2) is None
        assert await look(keeper, "q", K1) is None
        assert keeper.standing().entries == 1

    promise(scenario)


def test_a_newer_answer_takes_the_olders_place(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        await keep(keeper, "p", K1, answer("old"))
        await keep(keeper, "p", K1, answer("new"))
        found = await look(keeper, "p", K1)
        assert found is not None
        assert found.body == b"new"
        assert len(await listed(keeper)) == 1

    promise(scenario)


def test_there_are_never_more_than_the_bounds_allow(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        for n in range(30):
            await keep(keeper, "p", bytes([n]) * 32, answer("x"), Bounds(60.0, 10, 10**6))
        kept = await listed(keeper)
        assert [one.key[0] for one in kept] == list(range(20, 30)), "the first to end made room"
        await keep(keeper, "q", K1, answer("y"), BOUNDS)
        assert len(await listed(keeper)) == 11, "spaces are bounded apart"

    promise(scenario)


def test_there_are_never_more_bytes_than_the_bounds_allow(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        bounds = Bounds(60.0, 100, 5000)
        for n in range(20):
            await keep(keeper, "p", bytes([n]) * 32, answer(bytes(range(32, 127)).decode() * 5), bounds)
        kept = await listed(keeper)
        assert 0 < sum(one.size for one in kept) <= 5000
        assert kept[-1].key[0] == 19
        noise = Random(1).randbytes(10_000).hex()
        await keep(keeper, "p", K1, answer(noise), bounds)
        assert K1 not in [one.key for one in await listed(keeper)], "one larger than all room is not kept"

    promise(scenario)


def test_an_answer_ends_with_its_time(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        await keep(keeper, "p", K1, answer(), Bounds(0.05, 10, 10**6))
        await asyncio.sleep(0.1)
        assert keeper.peek("p", K1) is None
        await keep(keeper, "p", K2, answer())
        assert [one.key for one in await listed(keeper)] == [K2]

    promise(scenario)


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (Which(), []),
        (Which(tenant="acme"), [K2]),
        (Which(model="r3"), [K1, K2]),
        (Which(tenant="beta", model="r3"), [K1, K2, K3]),
        (Which(before=1_000.0), [K1, K3]),
    ],
)
def test_a_purge_removes_what_was_chosen(promise: Any, which: Which, left: list[bytes]) -> None:
    async def scenario(keeper: Answers) -> None:
        await keep(keeper, "p", K1, answer())
        await keep(keeper, "q", K2, answer(tenant="beta", at=999.0), Bounds(1e10, 10, 10**6))
        await keep(keeper, "p", K3, answer(model="r3"))
        assert await keeper.purge(which) == 3 - len(left)
        assert [one.key for one in await listed(keeper)] == left

    promise(scenario)


def test_what_was_being_made_during_a_purge_is_not_kept(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        await keep(keeper, "p", K2, answer())
        mark = (await keeper.look("p", K1, BOUNDS)).mark
        assert mark is not None
        await keeper.purge(Which(tenant="nobody"))
        await keeper.keep("p", K1, answer(), BOUNDS, mark)
        await settle(keeper)
        assert await look(keeper, "p", K1) is None
        assert (await look(keeper, "p", K2)) is not None

    promise(scenario)


def test_a_list_tells_whose_and_how_old_and_no_words(promise: Any) -> None:
    async def scenario(keeper: Answers) -> None:
        at = time.time()
        await keep(keeper, "p", K1, answer("secret words", at=at))
        (kept,) = await listed(keeper)
        assert (kept.space, kept.key, kept.tenant, kept.model) == ("p", K1, "acme", "r2")
        assert kept.at == pytest.approx(at, abs=0.002)
        assert kept.size > 0
        assert "secret" not in repr(kept) + repr(answer("secret words")) + repr(keeper)

    promise(scenario)
