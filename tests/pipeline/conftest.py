"""A gateway without sockets: the real filters and dispatcher over in-memory clouds, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.money import Ask, Told
from gateway.core.nouns import Prices
from gateway.core.tariff import prices
from gateway.pipeline.authenticate import Authenticate
from gateway.pipeline.budgets import Budgets
from gateway.pipeline.cache import Cache
from gateway.pipeline.desk import Desk
from gateway.pipeline.dispatch import Dispatch
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.limit import Limit
from gateway.pipeline.live import Live
from gateway.pipeline.observe import Observe
from gateway.pipeline.purser import Purser
from gateway.pipeline.understand import Understand
from gateway.policy.compiled import Compiled, Connection
from gateway.policy.load import load_text
from gateway.service import Call, Response, stack
from gateway.store.answers import MemoryAnswers
from gateway.store.base import StoreDown
from gateway.store.purse import MemoryPurses, Purses
from gateway.telemetry.usage import Ended, record
from gateway.testing import MemoryUpstream, Script, virtual_time
from gateway.upstream import presets
from gateway.upstream.base import Upstream
from gateway.wire.dialect import Dialect

DOCUMENT = """
models:
  r2: {aliases: [deepseek-r2], policy: p}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {streams: 2}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id}, limits: {streams: 2}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}]
    queue: {max_wait: 10s, max_length: 3}
    first_token_timeout: 5s
    token_gap_timeout: 4s
    total_timeout: 100s
"""


def compiled(document: str, **env: str) -> Compiled:
    return load_text(document, env, presets.infos())


class House:
    """The whole stack over scripted clouds. `ask` sends one request and returns the response and its call."""

    def __init__(self, clouds: dict[str, MemoryUpstream], document: str = DOCUMENT, **env: str) -> None:
        loop = asyncio.get_running_loop()
        self.clouds = clouds
        found = compiled(document, **env)
        self.live = Live(self._dial)
        self.live.install(found)
        self.desk = Desk(Dispatcher(found.plan, random.Random(1)), loop.time)
        self.ended: list[Call] = []
        self.loop = loop
        self.limit = Limit(self.live, loop.time)
        self.cache = Cache(self.live, loop.time, loop.time, MemoryAnswers(loop.time))
        self.dispatch = Dispatch(self.live, self.desk, lambda: 1.8e9)
        self.headers: dict[bytes, bytes] = {}
        self.service = stack(
            Observe(loop.time, self.ended.append),
            Authenticate(self.live, lambda: 1.8e9),
            Understand(self.live, self.desk.form),
            self.limit,
            self.cache,
            endpoint=self.dispatch,
        )
        self._serial = 0

    def _dial(self, connection: Connection, timeout: float) -> tuple[Upstream, Dialect]:
        del timeout
        name = connection.base_url.removeprefix("http://").partition("/")[0]
        return self.clouds[name], presets.load(connection.preset).dialect

    async def ask(self, body: bytes | None = None, key: str = "", **fields: Any) -> tuple[Response, Call]:
        self._serial += 1
        raw = (
            body if body is not None else json.dumps({"model": "r2", "messages": [{"role": "user"}], **fields}).encode()
        )

        async def read() -> bytes:
            return raw

        call = Call(f"req-{self._serial}", self.loop.time(), self.headers, read, key)
        try:
            response = await self.service(call)
        except BaseException:
            self.end(call)
            raise
        if isinstance(response.body, bytes):
            self.end(call)
        return response, call

    def end(self, call: Call) -> None:
        call.ended = self.loop.time()
        for tell in reversed(call.on_end):
            tell(call)

    async def text(self, **fields: Any) -> bytes:
        """Ask and read the answer to its end."""
        response, call = await self.ask(**fields)
        return await self.drain(response, call)

    async def drain(self, response: Response, call: Call) -> bytes:
        if isinstance(response.body, bytes):
            return response.body
        found = b""
        try:
            async for block in response.body:
                found += block
        finally:
            await response.body.aclose()
            self.end(call)
        return found

    def in_flight(self) -> int:
        return self.desk.dispatcher.snapshot(self.loop.time()).totals.in_flight

    def assert_quiet(self) -> None:
        """Nothing runs, nothing waits, nothing is open at any cloud."""
        view = self.desk.dispatcher.snapshot(self.loop.time())
        assert (view.totals.in_flight, view.totals.waiting) == (0, 0)
        assert {name: cloud.open for name, cloud in self.clouds.items() if cloud.open} == {}
        assert all(line.busy == 0 for line in self.live.lines.values())


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    with virtual_time() as runner:
        yield runner


@pytest.fixture
def house() -> type[House]:
    return House


def header(response: Response, name: str) -> str:
    return dict(response.headers)[name.encode()].decode()


@pytest.fixture
def header_of() -> Callable[[Response, str], str]:
    return header


# --- budgets ----------------------------------------------------------------------------------------------

START = 1_795_737_600.0  # 2026-11-27T00:00:00Z
KEY = "sk-acme-secret"
MONEY = """
models: {r2: {policy: p}, free: {policy: p}}
rates: {USD: 7}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, price: {input: 0, output: 1000}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id, free: two-free}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}]
    queue: {max_wait: 10s}
    first_token_timeout: 5s
    token_gap_timeout: 4s
    hedge: {budget: 1.0, after: 1s}
tenants:
  acme: {keys: ["${ACME}"], budget: {amount: 1, per: hour, zone: UTC}}
"""


def answer(tokens: int) -> Script:
    choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    return Script((1.0, json.dumps({"choices": [choice], "usage": usage}).encode()))


class Flaky:
    """A store that can be away, in front of another."""

    def __init__(self, store: Purses) -> None:
        self.store = store
        self.away = False
        self.calls = 0
        self.pause = 0.01

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Told]:
        self.calls += 1
        await asyncio.sleep(self.pause)
        if self.away:
            raise StoreDown("it is away")
        return await self.store.exchange(asks)

    async def aclose(self) -> None:
        await self.store.aclose()


class Till:
    """A house with budgets. `ask` asks for so many tokens at most; every token of an answer costs a thousandth."""

    def __init__(
        self, house: Any, document: str = MONEY, one: Script | None = None, store: Any = None, tokens: int = 100
    ) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.clouds = {"one": MemoryUpstream(one or answer(tokens)), "two": MemoryUpstream(answer(100))}
        self.house = house(self.clouds, document, ACME=KEY)
        self.wall = lambda: START + loop.time()
        self.holds: Prices = prices(self.house.live.compiled.tariffs, START)
        self.house.desk.apply(self.holds)
        self.purser = Purser(self.house.live, loop.time, self.wall)
        self.budgets = Budgets(self.house.live, self.purser, lambda: self.holds)
        self.store = store or self.shared()
        self.house.service = stack(
            Observe(loop.time, self.house.ended.append),
            Authenticate(self.house.live, lambda: START),
            Understand(self.house.live, self.house.desk.form),
            self.budgets,
            endpoint=self.house.dispatch,
        )
        self.purser.start(self.store)

    @staticmethod
    def shared() -> Flaky:
        """A store for several."""
        return Flaky(MemoryPurses(asyncio.get_running_loop().time))

    async def ask(self, tokens: int = 100, **fields: Any) -> tuple[Response, Call]:
        found: tuple[Response, Call] = await self.house.ask(key=KEY, max_tokens=tokens, **fields)
        return found

    async def answers(self, tokens: int = 100, **fields: Any) -> int:
        response, call = await self.ask(tokens, **fields)
        await self.house.drain(response, call)
        return response.status

    def install(self, document: str) -> None:
        self.house.live.install(load_text(document, {"ACME": KEY}, presets.infos()))

    @property
    def view(self) -> Any:
        (found,) = self.purser.views()
        return found

    def recorded(self) -> Decimal:
        """What the records of all requests say."""
        total = Decimal(0)
        for call in self.house.ended:
            found = record(Ended(call, "acme", "standard"), outcome_name, START)
            total += sum(Decimal(part.cost) for part in (found, *found.lost) if part.cost)
        return total

    async def aclose(self) -> None:
        self.budgets.close()
        await self.purser.aclose()
        self.house.assert_quiet()


@pytest.fixture
def scenario(run: Callable[[Coroutine[Any, Any, Any]], Any], house: Any) -> Callable[..., None]:
    """Run a story in a till that is made for it."""

    def play(story: Callable[[Till], Coroutine[Any, Any, None]], *documents: str, **words: Any) -> None:
        async def whole() -> None:
            till = Till(house, *documents, **words)
            await story(till)
            await till.aclose()

        run(whole())

    return play


@pytest.fixture
def till() -> type[Till]:
    return Till


@pytest.fixture
def money() -> str:
    """The document of a till: a tenant that may spend 1 in an hour, where a token of an answer costs 0.001."""
    return MONEY
