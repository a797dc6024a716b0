"""Callers' limits: exact over all replicas at few round trips, told on every answer, open when the pool is away."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.caps import Allowance, Caps
from gateway.core.nouns import Usage
from gateway.errors import LimitReached
from gateway.pipeline.limit import Limit
from gateway.pipeline.pooling import Pooling
from gateway.policy.compiled import Tenant
from gateway.service import Call, Response
from gateway.store.base import StoreDown
from gateway.store.pool import Answers, MemoryPool, Told
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
ENV = {"ACME": "sk-acme-key", "LAP": "sk-laptop-key", "BETA": "sk-beta-key"}
DOCUMENT = """
models: {r2: {}, r3: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, r3: y}, limits: {streams: BACKEND}}}
policies: {p: {tiers: [{backends: [one]}], queue: {max_wait: 0s}}}
tenants:
  acme: {keys: ["${ACME}", {key: "${LAP}", limits: KEY}], limits: LIMITS}
  beta: {keys: ["${BETA}"]}
"""


def document(limits: str, key: str = "{}", backend: int = 100) -> str:
    return DOCUMENT.replace("LIMITS", limits).replace("KEY", key).replace("BACKEND", str(backend))


def answered(prompt: int = 100, answer: int = 50) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": answer}
    return json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": usage}).encode()


def error(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)["error"]


class Away:
    """A pool with a journey to it, which can be cut."""

    def __init__(self, pool: MemoryPool, journey: float = 0.001) -> None:
        self.pool = pool
        self.journey = journey
        self.down = False
        self.told: list[Told] = []

    async def exchange(self, told: Told) -> Sequence[Answers | None]:
        self.told.append(told)
        await asyncio.sleep(self.journey)
        if self.down:
            raise StoreDown("it is down")
        found = self.pool.tell(told)
        await asyncio.sleep(self.journey)
        return found

    async def aclose(self) -> None:
        return None


class Fleet:
    """Replicas' limit filters over one pool; `admitted` per tenant, and what an ideal limiter would have admitted."""

    def __init__(self, replicas: int, caps: Sequence[Caps], seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.rng = random.Random(7)
        self.pool = MemoryPool(self.loop.time)
        live: Any = SimpleNamespace(index=SimpleNamespace(limits={}, tenants={}))
        self.limits = [Limit(live, self.loop.time) for _ in range(replicas)]
        for limit in self.limits:
            limit.pooling.start(Away(self.pool))
        self.tenants = [Tenant(f"t{i}", "standard", 1.0, Allowance(c)) for i, c in enumerate(caps)]
        self.admitted: list[list[float]] = [[] for _ in caps]
        self.ideal: list[list[float]] = [[] for _ in caps]
        self.seconds = seconds
        self.offered = 0

    async def ask(self, number: int, replica: int, most: int) -> None:
        self.offered += 1
        now = self.loop.time()
        ideal = self.ideal[number]
        if len(ideal) < most or ideal[-most] <= now - 60.0:
            ideal.append(now)

        async def read() -> bytes:
            return b""

        call = Call("x", now, {}, read)
        chat: Any = SimpleNamespace(prompt_bytes=350, max_tokens=None)
        call.caller, call.model, call.chat = self.tenants[number], "m", chat

        async def service(call: Call) -> Response:
            self.admitted[number].append(self.loop.time())
            return Response(200, [], b"")

        try:
            await self.limits[replica](call, service)
        except LimitReached:
            return
        await asyncio.sleep(0.5)
        call.attempts = [SimpleNamespace(usage=Usage(100, 50), first_token=1.0, tokens=50)]  # type: ignore[list-item]
        for tell in call.on_end:
            tell(call)

    async def demand(self, number: int, most: int, times: float) -> None:
        shares = [self.rng.random() ** 3 for _ in self.limits]
        tasks = []
        while self.loop.time() < self.seconds:
            await asyncio.sleep(self.rng.expovariate(times * most / 60))
            replica = self.rng.choices(range(len(shares)), shares)[0]
            tasks.append(asyncio.create_task(self.ask(number, replica, most)))
        await asyncio.gather(*tasks)

    async def aclose(self) -> None:
        for limit in self.limits:
            await limit.pooling.aclose()


def most_in_any_minute(times: Sequence[float]) -> int:
    return max(i + 1 - bisect_right(times, at - 60.0) for i, at in enumerate(times))


@pytest.mark.parametrize(
    ("caps", "most", "times"), [(Caps(rpm=240), 240, 2.0), (Caps(rpm=480), 480, 1.0), (Caps(tpm=36_000), 240, 3.0)]
)
def test_four_replicas_and_fifty_tenants_admit_the_limit_and_no_more(
    run: Run, caps: Caps, most: int, times: float
) -> None:
    async def scenario() -> None:
        fleet = Fleet(4, [caps] * 50, 100.0)
        await asyncio.gather(*(fleet.demand(number, most, times) for number in range(50)))
        calls = fleet.pool.calls
        await fleet.aclose()
        for times_ in fleet.admitted:
            assert most_in_any_minute(times_) <= most
        ideal, real = sum(map(len, fleet.ideal)), sum(map(len, fleet.admitted))
        # Tokens are reserved with some air, and which is given back when the answer has ended.
        assert real >= (0.97 if caps.tpm else 0.985) * ideal
        assert calls <= 0.05 * fleet.offered

    run(scenario())


def test_a_caller_below_its_limit_hardly_ever_waits_and_is_never_refused(run: Run) -> None:
    async def scenario() -> None:
        fleet = Fleet(4, [Caps(rpm=2400, streams=200)] * 4, 60.0)
        await asyncio.gather(*(fleet.demand(number, 2400, 0.5) for number in range(4)))
        calls = fleet.pool.calls
        await fleet.aclose()
        assert sum(map(len, fleet.admitted)) == fleet.offered
        assert calls <= 0.05 * fleet.offered

    run(scenario())


def test_replicas_that_leave_give_everything_back(run: Run) -> None:
    async def scenario() -> None:
        fleet = Fleet(2, [Caps(streams=4, rpm=1000)], 0.0)
        await fleet.ask(0, 0, 1000)
        await fleet.aclose()
        found = fleet.pool.tell(Told("z", 1, 0, {"tenant t0": {}}))
        assert found == [{}]
        members = fleet.pool._scopes["tenant t0"].members
        assert [sum(m.holds.values()) for name, m in members.items() if name != "z"] == [0]
        await Pooling(fleet.limits[0].scopes, fleet.loop.time).aclose()  # one that never began

    run(scenario())


def test_a_pool_that_is_away_leaves_each_replica_its_own_limit_and_comes_back(
    run: Run, house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 4}"), **ENV)
        away = Away(MemoryPool(h.loop.time), journey=0.2)
        away.down = True
        h.limit.pooling.start(away)
        began = h.loop.time()
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        assert h.loop.time() - began < 0.5
        for _ in range(3):
            assert (await h.ask(key="sk-acme-key"))[0].status == 200
        assert (await h.ask(key="sk-acme-key"))[0].status == 429
        assert h.limit.pooling.health().reason == "it is down"
        assert h.limit.pooling.health().failures >= 1
        away.down = False
        await asyncio.sleep(3.0)
        assert h.limit.pooling.health().reason == ""
        assert (await h.ask(key="sk-acme-key"))[0].status == 429  # what was used meanwhile has been told
        await asyncio.sleep(61.0)
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        await h.limit.pooling.aclose()
        assert "out of reach" in caplog.text
        assert "are back" in caplog.text

    caplog.set_level(logging.WARNING, "gateway.limits")
    run(scenario())


def test_without_any_traffic_the_pool_is_looked_for_all_the_same(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 4}"), **ENV)
        away = Away(MemoryPool(h.loop.time))
        h.limit.pooling.start(away)
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        away.down = True
        await asyncio.sleep(60.0)
        assert h.limit.pooling.health().reason
        away.down = False
        await asyncio.sleep(2.0)
        assert not h.limit.pooling.health().reason
        exchanges = h.limit.pooling.health().exchanges
        await asyncio.sleep(100.0)
        assert h.limit.pooling.health().exchanges <= exchanges + 3  # and nothing is told when there is nothing to tell
        await h.limit.pooling.aclose()

    run(scenario())


def test_a_pool_that_is_down_at_the_end_holds_nobody_up(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 4}"), **ENV)
        away = Away(MemoryPool(h.loop.time))
        h.limit.pooling.start(away)
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        away.down = True
        await h.limit.pooling.aclose()
        assert not h.limit.scopes.shared

    run(scenario())


def test_a_broken_task_is_told_and_each_replica_counts_alone(
    run: Run, house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Away):
        async def exchange(self, told: Told) -> Sequence[Answers | None]:
            raise ZeroDivisionError

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 4}"), **ENV)
        h.limit.pooling.start(Broken(MemoryPool(h.loop.time)))
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        assert h.limit.pooling.health().reason == "the task broke"
        await h.limit.pooling.aclose()

    run(scenario())
    assert "the task that shares limits broke" in caplog.text


def test_a_report_that_came_too_late_is_told_again(run: Run, house: Any) -> None:
    class Late(Away):
        late = 1

        async def exchange(self, told: Told) -> Sequence[Answers | None]:
            found = await super().exchange(told)
            self.late -= 1
            return [None for _ in found] if self.late == 0 else found

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 4}"), **ENV)
        h.limit.pooling.start(Late(MemoryPool(h.loop.time)))
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        await h.limit.pooling.aclose()

    run(scenario())


def test_who_leaves_while_he_waits_for_the_pool_has_taken_nothing(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, answered())))}, document("{rpm: 1}"), **ENV)
        h.limit.pooling.start(Away(MemoryPool(h.loop.time), journey=0.2))
        asked = asyncio.create_task(h.ask(key="sk-acme-key"))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert (await h.ask(key="sk-acme-key"))[0].status == 200
        (scope,) = h.limit.scopes.all.values()
        assert scope.stocks["rpm"].waiting == 0
        await h.limit.pooling.aclose()

    run(scenario())
