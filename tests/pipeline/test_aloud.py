"""Waiting aloud: a place in the queue, told in comments; then the answer, an error frame, or silence."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.service import Response
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
WHOLE = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
DOCUMENT = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {streams: 1}, learn: off}
policies:
  p: {tiers: [{backends: [one]}], queue: {max_wait: 60s, max_length: 3, comment_after: 2s}, first_token_timeout: 40s}
"""
QUIET = DOCUMENT.replace(", comment_after: 2s", "")


def cloud(takes: float, *then: Script) -> dict[str, MemoryUpstream]:
    return {"one": MemoryUpstream(Script((takes, TOKEN), (0.0, END)), *then)}


async def read(response: Response, loop: asyncio.AbstractEventLoop) -> list[tuple[float, bytes]]:
    """Blocks, and when they came."""
    found: list[tuple[float, bytes]] = []
    assert not isinstance(response.body, bytes)
    try:
        found += [(loop.time(), block) async for block in response.body]
    finally:
        await response.body.aclose()
    return found


async def first(h: Any) -> Any:
    """Somebody who takes the only place."""
    task = h.loop.create_task(h.text(stream=True))
    await asyncio.sleep(0.1)
    return task


def test_a_place_is_told_after_the_silence_and_every_few_seconds_until_the_answer(
    run: Run, house: Any, header_of: Head
) -> None:
    async def scenario() -> None:
        h = house(cloud(10.0), DOCUMENT)
        running = await first(h)
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(2.1)
        assert response.status == 200
        assert header_of(response, "content-type").startswith("text/event-stream")
        assert header_of(response, "x-request-id") == call.id
        assert header_of(response, "x-spillgate-policy") == "p"
        blocks = await read(response, h.loop)
        assert [block for _, block in blocks[:2]] == [b": waiting position=1\n\n"] * 2
        assert [at for at, _ in blocks] == pytest.approx([2.1, 7.1, 20.0, 20.0, 20.0])
        facts = blocks[2][1].decode()
        assert facts.startswith(": ")
        assert "x-spillgate-backend=one x-spillgate-model=one-id" in facts
        assert "x-spillgate-attempts=1 x-spillgate-queue-ms=9900.0" in facts
        assert [block for _, block in blocks[3:]] == [TOKEN, END]
        h.end(call)
        assert call.queued == pytest.approx(9.9)
        await running
        h.assert_quiet()

    run(scenario())


def test_the_expected_wait_is_told_once_it_is_known(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(cloud(5.0), DOCUMENT)
        for _ in range(12):
            await h.text(stream=True)
        running = await first(h)
        one = h.loop.create_task(h.ask(stream=True))
        await asyncio.sleep(0)
        (response, _), (earlier, _) = await asyncio.gather(h.ask(stream=True), one)
        (_, block), *_ = await read(earlier, h.loop)
        assert block.startswith(b": waiting position=1 expected=")
        (_, block), *_ = await read(response, h.loop)
        await running
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("fields", [{"stream": False}, {}])
def test_a_plain_request_waits_silently(run: Run, house: Any, fields: dict[str, Any]) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((10.0, WHOLE)))}, DOCUMENT)
        running = h.loop.create_task(h.ask(**fields))
        await asyncio.sleep(0.1)
        response, _ = await h.ask(**fields)
        assert response.body == WHOLE
        await running

    run(scenario())


def test_without_the_word_nobody_is_told_and_an_error_has_its_status(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(cloud(70.0), QUIET.replace("40s", "100s"))
        running = await first(h)
        response, _ = await h.ask(stream=True)
        assert (response.status, h.loop.time()) == (429, pytest.approx(60.1))
        await running

    run(scenario())


def test_who_is_dispatched_before_the_silence_is_over_hears_nothing(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(cloud(1.5, Script((6.0, TOKEN), (0.0, END))), DOCUMENT)
        running = await first(h)
        response, call = await h.ask(stream=True)
        assert await h.drain(response, call) == TOKEN + END
        await running
        h.assert_quiet()

    run(scenario())


def test_an_error_before_the_silence_is_over_has_its_status(run: Run, house: Any) -> None:
    async def scenario() -> None:
        bad = Script((0.0, b'{"error":{"message":"no"}}'), status=400)
        h = house(cloud(1.0, bad), DOCUMENT)
        running = await first(h)
        response, _ = await h.ask(stream=True)
        assert response.status == 400
        await running
        h.assert_quiet()

    run(scenario())


def test_an_error_after_a_comment_is_a_frame_and_the_end(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(cloud(70.0), DOCUMENT.replace("40s", "100s"))
        running = await first(h)
        response, call = await h.ask(stream=True)
        blocks = [block for _, block in await read(response, h.loop)]
        assert all(block.startswith(b": waiting ") for block in blocks[:-1])
        prefix, _, frame = blocks[-1].partition(b"data: ")
        assert prefix == b""
        assert frame.endswith(b"\n\ndata: [DONE]\n\n"), "as every stream of ours ends"
        error = json.loads(frame.removesuffix(b"data: [DONE]\n\n"))["error"]
        assert (error["type"], error["code"], error["reason"]) == ("rate_limit_error", "capacity_max_wait", "max-wait")
        assert {"limit", "expected_wait", "retry_after"} <= error.keys()
        h.end(call)
        assert call.status == 429
        await running
        h.assert_quiet()

    run(scenario())


async def _leave(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def waiting(h: Any) -> int:
    found: int = h.desk.dispatcher.snapshot(h.loop.time()).totals.waiting
    return found


def test_who_leaves_before_the_first_comment_frees_his_place(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(cloud(10.0), DOCUMENT)
        running = await first(h)
        task = h.loop.create_task(h.ask(stream=True))
        await asyncio.sleep(1.0)
        assert waiting(h) == 1
        await _leave(task)
        assert waiting(h) == 0
        await running
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("after", [4.0, 12.0])
def test_who_leaves_while_he_is_told_frees_his_place_or_his_attempt(run: Run, house: Any, after: float) -> None:
    async def scenario() -> None:
        h = house(cloud(10.0), DOCUMENT)
        running = await first(h)
        response, call = await h.ask(stream=True)
        task = h.loop.create_task(read(response, h.loop))
        await asyncio.sleep(after)
        assert (waiting(h), h.in_flight()) == ((1, 1) if after < 9 else (0, 1))
        await _leave(task)
        h.end(call)
        assert waiting(h) == 0
        await running
        h.assert_quiet()

    run(scenario())


def test_who_leaves_in_the_instant_of_the_answer_gives_it_back(run: Run, house: Any) -> None:
    """The response is there, and nobody has begun to read it."""

    async def scenario() -> None:
        h = house(cloud(3.0, Script((0.0, TOKEN), (5.0, END))), DOCUMENT)
        running = await first(h)
        response, call = await h.ask(stream=True)
        await asyncio.sleep(2.0)
        assert h.in_flight() == 1
        assert not isinstance(response.body, bytes)
        await response.body.aclose()
        h.end(call)
        await running
        h.assert_quiet()

    run(scenario())


def test_who_waits_for_his_retry_is_told_too(run: Run, house: Any) -> None:
    async def scenario() -> None:
        busy = Script((0.0, b'{"error":{"message":"slow down"}}'), status=429, headers={"retry-after": "9"})
        h = house({"one": MemoryUpstream(busy, Script((0.0, TOKEN), (0.0, END)))}, DOCUMENT)
        response, call = await h.ask(stream=True)
        text = await h.drain(response, call)
        first = re.match(rb": waiting position=1 expected=(\d)s\n\n: waiting", text)
        assert first is not None
        assert 7 <= int(first[1]) <= 9  # what is left of the pause, which ends up to a fifth later
        assert b"x-spillgate-attempts=2" in text
        assert text.endswith(TOKEN + END)
        h.assert_quiet()

    run(scenario())


def test_a_fault_of_ours_is_not_hidden(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(
            {"one": MemoryUpstream(Script((5.0, TOKEN), (0.0, END)), Script((0.0, ValueError("ours"))))}, DOCUMENT
        )
        running = await first(h)
        response, call = await h.ask(stream=True)
        with pytest.raises(ValueError, match="ours"):
            await read(response, h.loop)
        h.end(call)
        await running

    run(scenario())
