"""Four replicas in virtual time, each with its own part of one cloud: they are fair together, not each for itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from statistics import fmean
from typing import Any

import pytest

from gateway.pipeline.fairness import Fairness
from gateway.pipeline.sharing import Sharing
from gateway.sim.fairness import jain
from gateway.store.base import StoreDown, Terms
from gateway.store.fairness import MemoryCounters, Telling, Told
from gateway.store.memory import MemoryStore
from gateway.testing import MemoryReply, MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
STREAMS, REPLICAS = 40, 4
WARM, LASTS = 10.0, 25.0
"""Seconds before and in the window that is looked at."""
TENANTS = [f"t{number}" for number in range(10)]
KEYS = {name.upper(): f"sk-{name}-key" for name in TENANTS}
DOCUMENT = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}, limits: {streams: 40}}
policies: {p: {tiers: [{backends: [one]}], queue: {max_wait: 5s, max_length: 5000}}}
tenants:
""" + "".join(f'  {name}: {{keys: ["${{{name.upper()}}}"]}}\n' for name in TENANTS)


class Cloud(MemoryUpstream):
    """Takes 10 ms for each of the tokens that are asked for. `cached` of the ten prompt tokens it had."""

    cached = 0

    async def send(self, body: bytes, headers: Mapping[str, str]) -> MemoryReply:
        tokens = json.loads(body)["max_tokens"]
        told = {"cached_tokens": self.cached}
        usage = {"prompt_tokens": 10, "completion_tokens": tokens, "prompt_tokens_details": told}
        answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}
        self._scripts = [Script((tokens * 0.01, json.dumps(answer).encode()))]
        return await super().send(body, headers)


class Outage(MemoryCounters):
    """Counters that can be out of reach."""

    down = False

    async def exchange(self, tellings: Sequence[Telling]) -> Sequence[Told]:
        if self.down:
            await asyncio.sleep(0.5)
            raise StoreDown("away")
        return await super().exchange(tellings)


class World:
    """Replicas, their shares and their counters. `served`: tokens by tenant and replica, of answers in the window."""

    def __init__(self, house: Any, *, shared: bool) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.cloud = Cloud(Script())
        self.counters = Outage()
        store = MemoryStore(loop.time, Terms())
        self.houses = [house({"one": self.cloud}, DOCUMENT, **KEYS) for _ in range(REPLICAS)]
        self.sharings = [Sharing(h.desk, h.live, store, replicas=REPLICAS) for h in self.houses]
        self.fairness = [Fairness(h.desk, self.counters, f"replica-{n}") for n, h in enumerate(self.houses)]
        for started in (*self.sharings, *(self.fairness if shared else ())):
            started.start()
        self.served: Counter[tuple[str, int]] = Counter()
        self.since = loop.time() + WARM

    async def ask(self, tenant: str, replica: int, tokens: int) -> None:
        response, _ = await self.houses[replica].ask(key=f"sk-{tenant}-key", max_tokens=tokens)
        if response.status == 200 and self.loop.time() >= self.since:
            self.served[tenant, replica] += tokens

    async def play(self, rates: Mapping[tuple[str, int], float], lasts: float = WARM + LASTS) -> None:
        """Requests per second by tenant and replica."""

        async def one(tenant: str, replica: int, rate: float) -> None:
            rng = Random(f"{tenant}/{replica}")
            until = self.loop.time() + lasts
            asked = []
            while True:
                await asyncio.sleep(rng.expovariate(rate))
                if self.loop.time() >= until:
                    break
                asked.append(asyncio.create_task(self.ask(tenant, replica, rng.randint(50, 150))))
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

        await asyncio.gather(*(one(*who, rate) for who, rate in rates.items()))

    @property
    def even(self) -> float:
        """Jain's index of what tenants were served."""
        return jain([sum(self.served[tenant, r] for r in range(REPLICAS)) for tenant in TENANTS])

    def counter(self, replica: int, tenant: str) -> float:
        (pool,) = self.houses[replica].desk.dispatcher.pools.values()
        return pool.bands[1].shares[tenant].counter

    def forget(self) -> None:
        """A new window begins."""
        self.served.clear()
        self.since = self.loop.time()

    async def aclose(self) -> None:
        for started in (*self.fairness, *self.sharings):
            await started.aclose()


BURSTER, STEADY = TENANTS[0], TENANTS[1:]
AT_ONE = {(BURSTER, 0): 40.0} | {(tenant, replica): 1.5 for tenant in STEADY for replica in range(REPLICAS)}
EVERYWHERE = {(BURSTER, replica): 10.0 for replica in range(REPLICAS)} | {
    (tenant, number % REPLICAS): 8.0 for number, tenant in enumerate(STEADY)
}


async def played(house: Any, rates: Mapping[tuple[str, int], float], *, shared: bool) -> World:
    world = World(house, shared=shared)
    await world.play(rates)
    await world.aclose()
    return world


def test_a_burst_at_one_replica_is_weighed_against_what_others_had_at_all(run: Run, house: Any) -> None:
    together = run(played(house, AT_ONE, shared=True))
    apart = run(played(house, AT_ONE, shared=False))
    assert together.even >= 0.98
    assert apart.even <= 0.96, "he gets no more than anybody has at this one replica"
    assert sum(together.served.values()) >= 0.98 * sum(apart.served.values()), "nothing stands idle for it"


def test_nobody_starves_at_one_replica_for_what_he_gets_at_another(run: Run, house: Any) -> None:
    """Everybody comes to every replica at another time, and is lifted there by another amount."""

    async def scenario() -> None:
        world = World(house, shared=True)

        async def come(tenant: str, replica: int, at: float) -> None:
            await asyncio.sleep(at)
            await world.play({(tenant, replica): 3.0}, 40.0 - at)

        whose = [(tenant, replica) for tenant in STEADY for replica in range(REPLICAS)]
        coming = [come(*who, 3.0 + 11 * number % 17) for number, who in enumerate(whose)]
        load = asyncio.gather(world.play({(BURSTER, 0): 40.0}, 40.0), *coming)
        await asyncio.sleep(20)
        world.forget()
        await load
        assert world.even >= 0.98
        for replica in range(REPLICAS):
            had = [world.served[tenant, replica] for tenant in STEADY]
            assert min(had) >= 0.4 * fmean(had)
        await world.aclose()

    run(scenario())


def test_who_spreads_his_burst_over_all_replicas_gains_nothing(run: Run, house: Any) -> None:
    assert run(played(house, EVERYWHERE, shared=True)).even >= 0.98
    assert run(played(house, EVERYWHERE, shared=False)).even <= 0.75


def test_while_the_store_is_away_each_replica_goes_on_by_itself_and_afterwards_all_are_fair_again(
    run: Run, house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        world = World(house, shared=True)
        load = asyncio.create_task(world.play(AT_ONE, 50.0))
        await asyncio.sleep(10)
        world.counters.down = True
        await asyncio.sleep(2)
        assert all(f.trouble == "away" for f in world.fairness)
        world.forget()
        await asyncio.sleep(13)
        assert world.even <= 0.97, "each for itself"
        assert sum(world.served.values()) >= 0.95 * 13 * STREAMS * 100
        world.counters.lose()
        world.counters.down = False
        await asyncio.sleep(2)
        assert not any(f.trouble for f in world.fairness)
        world.forget()
        await asyncio.sleep(20)
        assert world.even >= 0.98
        await load
        await world.aclose()

    run(scenario())
    told = [record.message for record in caplog.records if record.name == "spillgate.fairness"]
    assert len(told) == 2 * REPLICAS, "once when it goes, once when it is back"


def test_a_store_that_is_emptied_again_and_again_disturbs_nobody(run: Run, house: Any) -> None:
    async def scenario() -> None:
        world = World(house, shared=True)
        load = asyncio.create_task(world.play(AT_ONE))
        for _ in range(33):
            await asyncio.sleep(1)
            world.counters.lose()
        await load
        assert world.even >= 0.98
        await world.aclose()

    run(scenario())


def test_prompt_tokens_that_a_cloud_had_in_its_cache_are_given_back_at_every_replica(run: Run, house: Any) -> None:
    async def scenario() -> None:
        world = World(house, shared=True)
        world.cloud.cached = 8
        await asyncio.sleep(5)
        await world.ask(BURSTER, 0, 100)
        assert world.counter(0, BURSTER) == 2 + 2 * 100
        await asyncio.sleep(1)
        asked = asyncio.create_task(world.ask(BURSTER, 1, 100))
        await asyncio.sleep(0.5)
        await asked
        await asyncio.sleep(0.5)
        assert world.counter(1, BURSTER) == 2 * (2 + 2 * 100)
        await world.aclose()

    run(scenario())
