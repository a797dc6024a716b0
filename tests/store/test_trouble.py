"""A real server that is killed, frozen, flushed and made to forget the script, under replicas that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.core.nouns import Limits
from gateway.store.base import Terms
from gateway.store.redis import RedisStore
from gateway.store.sharer import Sharer
from gateway.store.shares import ShareBook, Standing, Usage, Usages

TERMS = Terms(ttl=1.0, margin=0.3, ghost=1.0)
LIMIT = 40


class Replica:
    """A shell with a demand of its own that uses whatever it may, at once."""

    def __init__(
        self, name: str, url: str, wish: int, accounts: int = 1, expected: int = 10**9, crowd: int = 0
    ) -> None:
        self.wish = wish
        self.accounts = [f"acc-{i}" for i in range(accounts)]
        self.standings: Mapping[str, Standing] = {}
        loop = asyncio.get_running_loop()
        self.store = RedisStore(url, TERMS, timeout=0.3)
        book = ShareBook(name, TERMS, loop.time(), expected, crowd)
        self.known: set[str] = set()
        self.sharer = Sharer(book, self.store, self.demands, self.apply, self.witness)

    def share(self, account: str = "acc-0") -> int:
        standing = self.standings.get(account)
        limits = standing.at(asyncio.get_running_loop().time()) if standing else Limits(streams=0)
        return limits.streams or 0

    def demands(self) -> Usages:
        return {a: {"streams": Usage(LIMIT, min(self.share(a), self.wish), max(0, self.wish - self.share(a)))}
                for a in self.accounts}  # fmt: skip

    def apply(self, standings: Mapping[str, Standing]) -> None:
        self.standings = standings
        check()

    async def witness(self, name: str) -> bool:
        return any(r.sharer._book.me == name for r in REPLICAS)


REPLICAS: list[Replica] = []


def check() -> None:
    total = sum(replica.share() for replica in REPLICAS)
    assert total <= LIMIT, f"{total} shares of {LIMIT}"


@asynccontextmanager
async def replicas(url: str, *wishes: int, accounts: int = 1, crowd: int = 0) -> AsyncIterator[list[Replica]]:
    made = [Replica(f"r{i}", url, wish, accounts, crowd=crowd) for i, wish in enumerate(wishes)]
    REPLICAS.extend(made)
    try:
        for replica in made:
            replica.sharer.start()
        yield made
        for replica in made:
            assert not any(task.done() for task in replica.sharer._tasks), "a task broke"
    finally:
        REPLICAS.clear()
        for replica in made:
            await replica.sharer.aclose()


async def until(claim: Callable[[], bool], within: float) -> float:
    """Wait for a claim to become true; the loop must stay quick meanwhile. Answers how long it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not claim():
        before = loop.time()
        assert before < start + within, "not in time"
        await asyncio.sleep(0.01)
        assert loop.time() < before + 0.25, "something blocked the loop"
        check()
    return loop.time() - start


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(body)


def full(made: list[Replica]) -> Callable[[], bool]:
    return lambda: sum(r.share() for r in made) >= LIMIT - len(made) and all(r.share() >= 8 for r in made)


def test_a_killed_server_leaves_safe_shares_and_its_return_is_noticed(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 100, 100, 100) as made:
            await until(full(made), 5)
            own_redis.kill()
            await until(lambda: all(r.sharer.health().degraded for r in made), 3)
            assert sum(r.share() for r in made) >= 0.8 * LIMIT
            await asyncio.sleep(0.5)
            own_redis.start()
            await until(lambda: not any(r.sharer.health().degraded for r in made), 3)
            assert sum(r.share() for r in made) >= 0.8 * LIMIT, "nothing is taken away by the return"
            await until(full(made), 5)

    run(body())


def test_uneven_shares_fall_to_the_even_part_while_the_server_is_frozen(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 100, 0) as made:
            await until(lambda: made[0].share() >= LIMIT - 1, 5)
            own_redis.freeze()
            took = await until(lambda: made[0].share() == LIMIT // 2, 2)
            assert took <= TERMS.ttl
            await asyncio.sleep(3.0 - took)
            assert made[0].sharer.health().degraded
            own_redis.thaw()
            await until(lambda: made[0].share() >= LIMIT - 1, 3)

    run(body())


def sentinel(make_redis: Any, port: int, folder: Path) -> Any:
    """One that watches the master on this port and decides alone."""
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor main 127.0.0.1 {port} 1\nsentinel auth-pass main sesame\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
    )
    return make_redis(first=(str(settings),), last=("--sentinel",))


def test_after_a_failover_by_sentinel_exchanges_go_on_and_no_share_is_granted_twice(
    make_redis: Any, tmp_path: Path
) -> None:
    locked = ("--requirepass", "sesame", "--masterauth", "sesame")
    master = make_redis(*locked)
    heir = make_redis(*locked, "--replicaof", "127.0.0.1", str(master.port))
    watcher = sentinel(make_redis, master.port, tmp_path)

    def known() -> bool:
        return str(heir.port).encode() in watcher.cli("SENTINEL", "REPLICAS", "main")

    async def body() -> None:
        async with replicas(f"redis+sentinel://:sesame@127.0.0.1:{watcher.port}/main", 100, 100, 100) as made:
            await until(full(made), 5)
            await until(known, 15)
            epochs = {r.sharer._book._books["acc-0"].epoch for r in made}
            master.kill()
            await until(lambda: all(r.sharer.health().degraded for r in made), 3)
            took = await until(lambda: not any(r.sharer.health().degraded for r in made), 15)
            await until(full(made), 5)
            assert epochs.isdisjoint(r.sharer._book._books["acc-0"].epoch for r in made), "what the heir has may be old"
            assert took < 10

    run(body())


def test_a_flush_and_a_forgotten_script_go_by_unnoticed(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 100, 100) as made:
            await until(full(made), 5)
            for command in ("FLUSHALL", "SCRIPT FLUSH", "FLUSHALL"):
                own_redis.cli(*command.split())
                end = asyncio.get_running_loop().time() + 0.7
                while asyncio.get_running_loop().time() < end:
                    await asyncio.sleep(0.01)
                    check()
                    assert sum(r.share() for r in made) >= LIMIT - 2
            assert all(r.sharer.failures == 0 for r in made)

    run(body())


def test_a_replica_that_starts_without_a_server_guesses_after_a_lease(own_redis: Any) -> None:
    async def body() -> None:
        own_redis.kill()
        replica = Replica("lonely", own_redis.url, 100, expected=4)
        replica.sharer.start()
        assert replica.share() == 0
        await until(lambda: replica.share() == LIMIT // 4, 2)
        assert replica.sharer.health().degraded
        own_redis.start()
        await until(lambda: replica.share() == LIMIT, 6)
        assert not replica.sharer.health().degraded
        await replica.sharer.aclose()

    run(body())


def test_a_first_start_serves_at_once_when_everybody_who_may_run_is_there(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 100, 100, 100, crowd=3) as made:
            took = await until(full(made), 5)
            assert took < 0.7 * TERMS.ttl, "no lease was waited for"

    run(body())


def test_a_replica_that_is_stopped_at_any_moment_ends(own_redis: Any) -> None:
    async def body() -> None:
        for i in range(60):
            replica = Replica(f"brief-{i}", own_redis.url, 5)
            replica.sharer.start()
            await asyncio.sleep(i / 5000)  # connecting, in the middle of an exchange, between two
            async with asyncio.timeout(3):
                await replica.sharer.aclose()

    run(body())


def test_at_load_a_replica_asks_a_few_times_per_second_and_account(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 100, 100, accounts=20) as made:
            await until(full(made), 5)
            before = [r.sharer.reported for r in made]
            trips = [r.sharer.exchanges for r in made]
            await asyncio.sleep(1.0)
            for replica, was, had in zip(made, before, trips, strict=True):
                per_account = (replica.sharer.reported - was) / 20
                assert 4 <= per_account <= 8, per_account
                assert replica.sharer.exchanges - had <= 12

    run(body())


def test_a_request_without_room_is_answered_by_the_store_within_a_few_milliseconds(own_redis: Any) -> None:
    async def body() -> None:
        async with replicas(own_redis.url, 0, 0) as made:
            await asyncio.sleep(TERMS.ttl + 0.5)
            made[0].wish = 15
            made[0].sharer.nudge("acc-0")
            took = await until(lambda: made[0].share() >= 15, 1)
            assert took < 0.35, took

    run(body())
