"""Redis processor time for one report of one account: 20 replicas, 40 accounts, three kinds of limit, a real server.

Printed for a calm fleet (everybody has what he wants) and for a surge (everybody wants all of everything).
"""

from __future__ import annotations

import asyncio
import random
import sys

from redis.asyncio import Redis

from gateway.core.nouns import LimitKind
from gateway.store.base import Grant, Need, Report
from gateway.store.redis import RedisStore
from gateway.testing import processes

REPLICAS, ACCOUNTS, ROUNDS = 20, 40, 10
LIMITS: dict[LimitKind, int] = {"streams": 2000, "rpm": 30_000, "tpm": 12_000_000}


class Replica:
    """Says what it holds, uses some of it and wants `hunger` times its even part."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.store = RedisStore(url, timeout=30.0)
        self.grants = {f"account-{i}": Grant(f"account-{i}") for i in range(ACCOUNTS)}
        self.seq = 0

    async def say(self, hunger: float, rng: random.Random, clock: int) -> None:
        self.seq += 1
        reports = []
        for account, last in self.grants.items():
            needs: dict[LimitKind, Need] = {}
            for kind, limit in LIMITS.items():
                share = last.shares.get(kind, 0)
                want = min(limit, int(hunger * limit / REPLICAS * rng.uniform(0.5, 1.5)))
                needs[kind] = Need(limit, share, min(share, want), want, 1)
            reports.append(Report(account, self.name, self.seq, needs, last.epoch, last.joins, last.members))
        for grant in await self.store.exchange_at(reports, str(clock)):
            self.grants[grant.account] = grant


async def spent(server: Redis) -> float:
    """Seconds of processor time that the server has used."""
    told = await server.info("cpu")
    return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


async def measure(url: str) -> None:
    rng, clock = random.Random(1), 1_000_000
    fleet = [Replica(url, f"{rng.randrange(16**12):012x}") for _ in range(REPLICAS)]
    async with Redis.from_url(url) as server:
        for name, hunger in (("learning", 0.5), ("calm", 0.5), ("surge", 1e9)):
            for _ in range(20):
                clock += 200
                for replica in fleet:
                    await replica.say(hunger, rng, clock)
            await server.config_resetstat()
            before = await spent(server)
            for _ in range(ROUNDS):
                clock += 200
                for replica in fleet:
                    await replica.say(hunger, rng, clock)
            each = (await spent(server) - before) / (ROUNDS * REPLICAS * ACCOUNTS)
            stats = (await server.info("commandstats"))["cmdstat_evalsha"]
            inside = stats["usec_per_call"]
            print(f"{name:8} {each * 1e6:6.0f} us of processor time per report ({inside} us in the script)")
        size = await server.info("memory")
        print(f"{'memory':8} {size['used_memory_human']}")
    for replica in fleet:
        await replica.store.aclose()


def main() -> None:
    server = processes.Redis()
    try:
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
            server.say("FLUSHALL")
            asyncio.run(measure(server.url))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
