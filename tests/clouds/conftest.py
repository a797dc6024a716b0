from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import httpx
import pytest

from gateway.clouds.fleet import parse
from gateway.clouds.model import Cloud
from gateway.clouds.server import Running, serve

Make = Callable[..., Cloud]
EXACT: dict[str, Any] = {
    "laws": {"t0": "10ms", "k": 0, "prefill": 1000, "net": 0, "jitter": 0},
    "answer": {"median": 10, "sigma": 0},
    "style": {"tokens_per_event": 1},
}


def one(name: str = "cloud", **words: Any) -> dict[str, Any]:
    """One cloud of a fleet file with exact laws: prefill 1 ms per token, 10 ms per token, 10 tokens."""
    merged: dict[str, Any] = {**EXACT, **words}
    for section in EXACT:
        merged[section] = {**EXACT[section], **words.get(section, {})}
    return {name: merged}


@pytest.fixture
def make() -> Make:
    """Build a `Cloud` from the words of a fleet file."""

    def build(seed: int = 0, **words: Any) -> Cloud:
        return Cloud(parse({"clouds": one(**words)}).clouds[0], Random(seed))

    return build


Scenario = Callable[[Running, httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def live() -> Callable[..., None]:
    """Run a scenario against one cloud named `cloud` behind real sockets, with a client on its base URL.

    Whatever goes wrong in a callback of the loop fails the test.
    """

    def play(scenario: Scenario, **words: Any) -> None:
        faults: list[dict[str, Any]] = []

        async def scene() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
            async with (
                await serve(parse({"clouds": one(**words)})) as running,
                httpx.AsyncClient(base_url=running.base_url("cloud"), timeout=5, trust_env=False) as client,
            ):
                await scenario(running, client)

        asyncio.run(scene())
        assert faults == []

    return play
