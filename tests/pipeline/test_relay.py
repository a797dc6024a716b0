"""What may happen to a stream after its first token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.core.nouns import Failed, Overloaded, Served
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DONE = b"data: [DONE]\n\n"


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


def interruption(answer: bytes) -> str:
    """The code of the error frame that ends an answer."""
    frames = answer.split(b"\n\n")
    assert frames[-2] == b"data: [DONE]"
    code: str = json.loads(frames[-3].removeprefix(b"data: "))["error"]["code"]
    return code


def one(*steps: tuple[float, Any], hang: bool = False) -> dict[str, MemoryUpstream]:
    return {"one": MemoryUpstream(Script(*steps, hang=hang)), "two": MemoryUpstream(Script((0.1, chunk("x"))))}


ENDINGS: dict[str, tuple[list[tuple[float, Any]], str, type[object]]] = {
    "a cut connection": ([(0.1, UpstreamError("protocol", "cut"))], "upstream_cut", Failed),
    "an end without a finish": ([], "upstream_cut", Failed),
    "an error frame": ([(0.1, b'data: {"error":{"message":"x"}}\n\n')], "upstream_error", Failed),
    "silence": ([(99.0, chunk("late"))], "token_gap_timeout", Failed),
    "keep-alives without tokens": ([(1.0, b": keep-alive\n\n")] * 30, "token_gap_timeout", Failed),
    "empty deltas without tokens": ([(1.0, chunk(""))] * 30, "token_gap_timeout", Failed),
    "more than it may take in all": ([(2.0, chunk("a"))] * 80, "total_timeout", Failed),
}


@pytest.mark.parametrize(("steps", "code", "kind"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_stream_that_breaks_ends_honestly(
    run: Run, house: Any, steps: list[tuple[float, Any]], code: str, kind: type[object]
) -> None:
    async def scenario() -> None:
        h = house(one((0.1, chunk("a")), *steps))
        response, call = await h.ask(stream=True)
        answer = await h.drain(response, call)
        assert answer.startswith(chunk("a"))
        assert interruption(answer) == code
        assert isinstance(call.attempts[0].outcome, kind)
        assert len(call.attempts) == 1, "after the first token an answer belongs to one cloud"
        h.assert_quiet()

    run(scenario())


def test_a_slow_reader_is_not_a_silent_cloud(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(one(*[(0.1, chunk("a"))] * 5, (0.1, chunk("", "stop")), (0.0, DONE)))
        response, call = await h.ask(stream=True)
        answer = b""
        async for block in response.body:
            answer += block
            await asyncio.sleep(6.0)
        await response.body.aclose()
        h.end(call)
        assert answer.endswith(chunk("", "stop") + DONE)
        h.assert_quiet()

    run(scenario())


def test_a_missing_end_mark_after_a_finish_is_added(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(one((0.1, chunk("a")), (0.1, chunk("", "stop"))))
        response, call = await h.ask(stream=True)
        assert await h.drain(response, call) == chunk("a") + chunk("", "stop") + DONE
        assert isinstance(call.attempts[0].outcome, Served)
        h.assert_quiet()

    run(scenario())


def test_an_answer_cut_for_lack_of_capacity_is_passed_on_and_noted(run: Run, house: Any) -> None:
    async def scenario() -> None:
        end = chunk("", "insufficient_system_resource")
        h = house(one((0.1, chunk("a")), (0.1, end), (0.0, DONE)))
        response, call = await h.ask(stream=True)
        assert await h.drain(response, call) == chunk("a") + end + DONE
        assert isinstance(call.attempts[0].outcome, Overloaded)
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("size", [1, 7, 40])
def test_however_the_bytes_are_cut_they_leave_whole_and_in_order(run: Run, house: Any, size: int) -> None:
    async def scenario() -> None:
        text = b"".join(chunk(w) for w in ("a", "b", "ünï", "data: no frame")) + chunk("", "stop") + DONE
        h = house(one(*[(0.01, text[i : i + size]) for i in range(0, len(text), size)]))
        response, call = await h.ask(stream=True)
        assert await h.drain(response, call) == text
        h.assert_quiet()

    run(scenario())


def test_tokens_are_reported_as_they_flow(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(one(*[(0.01, chunk("a"))] * 200, (0.1, chunk("", "stop")), (0.0, DONE)))
        response, call = await h.ask(stream=True)
        await h.drain(response, call)
        assert call.attempts[0].tokens >= 200
        tally = h.desk.dispatcher.snapshot(h.loop.time()).backends[0].counters
        assert tally.tokens >= 200
        h.assert_quiet()

    run(scenario())


def test_a_frame_without_an_end_is_cut_off(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(one((0.1, chunk("a")), *[(0.01, b"data: " + b"x" * 1_000_000)] * 6))
        response, call = await h.ask(stream=True)
        assert interruption(await h.drain(response, call)) == "upstream_cut"
        h.assert_quiet()

    run(scenario())


def test_a_cloud_that_never_hangs_up_is_hung_up_on(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house(one((0.1, chunk("a")), (0.1, chunk("", "stop")), (0.0, DONE), hang=True))
        response, call = await h.ask(stream=True)
        began = h.loop.time()
        assert (await h.drain(response, call)).endswith(DONE)
        assert h.loop.time() - began < 2.0
        h.assert_quiet()

    run(scenario())
