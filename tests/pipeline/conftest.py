"""A gateway without sockets: the real filters and dispatcher over in-memory clouds, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.pipeline.authenticate import Authenticate
from gateway.pipeline.desk import Desk
from gateway.pipeline.dispatch import Dispatch
from gateway.pipeline.limit import Limit
from gateway.pipeline.live import Live
from gateway.pipeline.observe import Observe
from gateway.pipeline.understand import Understand
from gateway.policy.compiled import Compiled, Connection
from gateway.policy.load import load_text
from gateway.service import Call, Response, stack
from gateway.testing import MemoryUpstream, virtual_time
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
        self.dispatch = Dispatch(self.live, self.desk, lambda: 1.8e9)
        self.headers: dict[bytes, bytes] = {}
        self.service = stack(
            Observe(loop.time, self.ended.append),
            Authenticate(self.live, lambda: 1.8e9),
            Understand(self.live, self.desk.form),
            self.limit,
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
