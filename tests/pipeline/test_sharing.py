"""Two replicas in virtual time over one store: together never above a limit, whatever one of them sleeps through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.core.nouns import Reloaded
from gateway.pipeline.sharing import Sharing
from gateway.policy.load import load_text
from gateway.store.base import Terms
from gateway.store.memory import MemoryStore
from gateway.testing import MemoryUpstream, Script
from gateway.upstream import presets

Run = Callable[[Coroutine[Any, Any, Any]], Any]
WHOLE = (
    b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
DOCUMENT = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}, limits: {streams: 3}}
policies: {p: {tiers: [{backends: [one]}], queue: {max_wait: 60s}}}
"""
MORE = DOCUMENT.replace("policies: {p: {tiers: [", "policies: {p: {tiers: [{backends: [two]}, ").replace(
    "limits: {streams: 3}}",
    'limits: {streams: 3}}\n  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: x}, limits: {streams: 3}}',
)


class Pair:
    """Two gateways, one cloud, one store."""

    def __init__(self, house: Any) -> None:
        loop = asyncio.get_running_loop()
        self.cloud = MemoryUpstream(Script((1.0, WHOLE)))
        self.other = MemoryUpstream(Script((1.0, WHOLE)))
        self.store = MemoryStore(loop.time, Terms())
        self.houses = [house({"one": self.cloud, "two": self.other}, DOCUMENT) for _ in range(2)]
        self.sharings = [Sharing(h.desk, h.live, self.store, replicas=2) for h in self.houses]
        for sharing in self.sharings:
            sharing.start()

    async def aclose(self) -> None:
        for sharing in self.sharings:
            await sharing.aclose()


def test_two_replicas_use_the_whole_limit_and_never_more(run: Run, house: Any) -> None:
    async def scenario() -> None:
        pair = Pair(house)
        tasks = [asyncio.create_task(pair.houses[i % 2].ask()) for i in range(24)]
        peak, full = 0, 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.05)
            peak = max(peak, pair.cloud.open)
            full += pair.cloud.open == 3
        assert [task.result()[0].status for task in tasks] == [200] * 24
        assert peak == 3
        assert full > 100, "24 answers of a second, three at a time, take eight seconds of full use"
        await pair.aclose()

    run(scenario())


def test_a_document_without_any_limit_leaves_the_gateway_in_peace(run: Run, house: Any) -> None:
    async def scenario() -> None:
        free = house(
            {"one": MemoryUpstream(Script((1.0, WHOLE)))}, DOCUMENT.replace("limits: {streams: 3}", "learn: off")
        )
        store = MemoryStore(asyncio.get_running_loop().time, Terms())
        sharing = Sharing(free.desk, free.live, store, replicas=2)
        sharing.start()
        assert (await free.ask())[0].status == 200
        assert sharing.sharer.exchanges < 20
        await sharing.aclose()

    run(scenario())


def test_one_busy_replica_gets_what_the_idle_one_does_not_need(run: Run, house: Any) -> None:
    async def scenario() -> None:
        pair = Pair(house)
        await asyncio.sleep(5)
        tasks = [asyncio.create_task(pair.houses[0].ask()) for _ in range(9)]
        await asyncio.sleep(2.5)
        assert pair.cloud.open >= 2
        await asyncio.gather(*tasks)
        await pair.aclose()

    run(scenario())


def test_a_share_that_was_slept_through_is_not_acted_on(run: Run, house: Any) -> None:
    async def scenario() -> None:
        pair = Pair(house)
        await asyncio.sleep(5)
        first = pair.houses[0]
        assert first.desk.fence > first.loop.time()
        await pair.sharings[0].aclose()  # as if its tasks had been frozen: nothing renews the share
        await asyncio.sleep(10)
        task = asyncio.create_task(first.ask())
        await asyncio.sleep(0.5)
        assert pair.cloud.open == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pair.sharings[1].aclose()

    run(scenario())


def test_an_account_that_a_reload_brings_gets_nothing_before_its_share(run: Run, house: Any) -> None:
    async def scenario() -> None:
        pair = Pair(house)
        await asyncio.sleep(5)
        compiled = load_text(MORE, {}, presets.infos())
        for h, sharing in zip(pair.houses, pair.sharings, strict=True):
            h.live.install(compiled)
            h.desk.apply(Reloaded(compiled.plan), sharing.newcomers(compiled.plan))
        tasks = [asyncio.create_task(h.ask()) for h in pair.houses for _ in range(6)]
        peak = 0
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.02)
            peak = max(peak, pair.other.open)
        assert 1 <= peak <= 3
        await pair.aclose()

    run(scenario())


def test_an_account_of_which_nothing_is_declared_starts_at_eight_for_all_together(run: Run, house: Any) -> None:
    unknown = MORE.replace(", limits: {streams: 3}}\npolicies", "}\npolicies")
    assert unknown != MORE

    async def scenario() -> None:
        pair = Pair(house)
        await asyncio.sleep(5)
        compiled = load_text(unknown, {}, presets.infos())
        for h, sharing in zip(pair.houses, pair.sharings, strict=True):
            h.live.install(compiled)
            h.desk.apply(Reloaded(compiled.plan), sharing.newcomers(compiled.plan))
        tasks = [asyncio.create_task(h.ask()) for h in pair.houses for _ in range(12)]
        peak = 0
        for _ in range(1000):
            await asyncio.sleep(0.005)
            peak = max(peak, pair.other.open)
        assert 4 <= peak <= 8
        await asyncio.gather(*tasks)
        probing = [h.desk.dispatcher.lessons(h.desk.clock())["two"].probe for h in pair.houses]
        assert sum(probing) <= 1
        await pair.aclose()
        assert not any(h.desk.dispatcher.lessons(h.desk.clock())["two"].probe for h in pair.houses)

    run(scenario())
