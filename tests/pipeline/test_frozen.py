"""A platform may freeze a gateway for minutes, between requests or within one. Whatever counts, counts elapsed time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.core.nouns import Served
from gateway.testing import MemoryUpstream, Script, VirtualLoop
from gateway.upstream.base import UpstreamError

Run = Callable[[Coroutine[Any, Any, Any]], Any]
MINUTES = 300.0
DOCUMENT = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {streams: 2}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id}, limits: {streams: 2}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}]
    first_token_timeout: 5s
    total_timeout: 100s
"""
LIMITED = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {rpm: 2}}
policies:
  p:
    tiers: [{backends: [one]}]
    queue: {max_wait: 5s, max_length: 3}
    breaker: {consecutive: 1, open_for: 60s, longest: 60s}
    retry: {budget: 0}
"""


def chunk(text: str = "", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


ANSWER = ((0.1, chunk("a")), (2.0, chunk("b", "stop")), (0.0, b"data: [DONE]\n\n"))


def freeze(seconds: float = MINUTES) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.freeze(seconds)


def test_a_stream_that_was_frozen_goes_on_where_it_was(run: Run, house: Any) -> None:
    async def scenario() -> None:
        longer = Script(ANSWER[0], (2.0, chunk("-")), (1.0, chunk("b", "stop")), ANSWER[2])
        h = house({"one": MemoryUpstream(longer), "two": MemoryUpstream(Script())})
        response, call = await h.ask(stream=True)
        reading = asyncio.ensure_future(h.drain(response, call))
        await asyncio.sleep(1.0)
        freeze(60.0)  # token_gap_timeout is 4 s, total_timeout 100 s
        assert (await reading).endswith(chunk("b", "stop") + b"data: [DONE]\n\n")
        assert isinstance(call.attempts[0].outcome, Served)
        h.assert_quiet()

    run(scenario())


def test_a_cloud_that_is_silent_after_the_thaw_is_found_out(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, chunk("a")), hang=True)), "two": MemoryUpstream(Script())})
        response, call = await h.ask(stream=True)
        reading = asyncio.ensure_future(h.drain(response, call))
        await asyncio.sleep(1.0)
        freeze(60.0)
        thawed = h.loop.time()
        assert b"token_gap_timeout" in await reading
        assert 4.0 <= h.loop.time() - thawed <= 6.0
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("patience", [5, 40], ids=["a near deadline", "a far one"])
def test_an_answer_that_came_while_we_stood_still_is_read(run: Run, house: Any, patience: int) -> None:
    async def scenario() -> None:
        late = Script(*ANSWER, after=3.0)
        document = DOCUMENT.replace("first_token_timeout: 5s", f"first_token_timeout: {patience}s")
        h = house({"one": MemoryUpstream(late), "two": MemoryUpstream(Script(*ANSWER))}, document)
        asking = asyncio.ensure_future(h.ask(stream=True))
        await asyncio.sleep(1.0)
        freeze(60.0)
        response, call = await asking
        assert [attempt.lease.backend for attempt in call.attempts] == ["one"]
        assert (await h.drain(response, call)).endswith(b"data: [DONE]\n\n")
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("patience", [5, 40], ids=["a near deadline", "a far one"])
def test_a_cloud_that_says_nothing_after_the_thaw_has_one_more_second_or_two(
    run: Run, house: Any, patience: int
) -> None:
    async def scenario() -> None:
        silent = MemoryUpstream(Script(hang=True))
        document = DOCUMENT.replace("first_token_timeout: 5s", f"first_token_timeout: {patience}s")
        h = house({"one": silent, "two": MemoryUpstream(Script(*ANSWER))}, document)
        asking = asyncio.ensure_future(h.ask(stream=True))
        await asyncio.sleep(1.0)
        freeze(60.0)
        thawed = h.loop.time()
        response, call = await asking
        assert [attempt.lease.backend for attempt in call.attempts] == ["one", "two"]
        assert 1.0 <= h.loop.time() - thawed <= 2.2
        await h.drain(response, call)
        h.assert_quiet()

    run(scenario())


def test_limits_are_full_again_by_the_clock_and_not_by_timers(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script(*ANSWER))}, LIMITED)
        for _ in range(2):
            await h.text(stream=True)
        refused, _ = await h.ask(stream=True)
        assert refused.status == 429
        freeze()
        began = h.loop.time()
        response, call = await h.ask(stream=True)
        assert response.status == 200
        assert h.loop.time() - began < 0.2
        await h.drain(response, call)

    run(scenario())


def test_a_breaker_that_was_open_lets_the_first_request_after_the_thaw_try(run: Run, house: Any) -> None:
    async def scenario() -> None:
        broken = Script((0.1, UpstreamError("protocol", "cut")))
        h = house({"one": MemoryUpstream(broken, Script(*ANSWER))}, LIMITED)
        failed, _ = await h.ask(stream=True)
        assert failed.status >= 502
        refused, _ = await h.ask(stream=True)
        assert refused.status == 503
        freeze()
        assert b"[DONE]" in await h.text(stream=True)

    run(scenario())


def test_who_waited_through_it_is_told_so_and_no_place_is_lost(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script(*ANSWER))}, LIMITED.replace("rpm: 2", "streams: 1"))
        response, call = await h.ask(stream=True)
        waiting = asyncio.ensure_future(h.ask(stream=True))
        await asyncio.sleep(0.5)
        freeze()
        late, _ = await waiting
        assert late.status == 429
        await h.drain(response, call)
        h.assert_quiet()
        assert b"[DONE]" in await h.text(stream=True)

    run(scenario())
