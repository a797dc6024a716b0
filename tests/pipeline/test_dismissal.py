"""Who waits is sent away when the gateway goes, and so is whoever comes to wait after that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.errors import Draining
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def chunk(text: str = "", finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


ANSWER = Script((0.1, chunk("a")), (2.0, chunk("b", "stop")), (0.0, b"data: [DONE]\n\n"))


def going() -> Draining:
    return Draining("This gateway is being stopped.", code="draining", retry_after=1.0)


def code(body: object) -> str:
    assert isinstance(body, bytes)
    return str(json.loads(body)["error"]["code"])


def test_all_who_wait_are_sent_away_and_what_runs_is_not(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(ANSWER), "two": MemoryUpstream(ANSWER)})
        running = [asyncio.ensure_future(h.text(stream=True)) for _ in range(4)]
        waiting = [asyncio.ensure_future(h.ask(stream=True)) for _ in range(2)]
        await asyncio.sleep(0.5)
        h.desk.dismiss(going)
        for each in waiting:
            response, _ = await each
            assert (response.status, code(response.body)) == (503, "draining")
            assert dict(response.headers)[b"retry-after"] == b"1"
        late, _ = await h.ask(stream=True)
        assert (late.status, code(late.body)) == (503, "draining")
        assert h.loop.time() < 1.0
        for each in running:
            assert (await each).endswith(b"data: [DONE]\n\n")
        h.assert_quiet()

    run(scenario())


def test_whose_attempt_broke_and_who_would_have_to_wait_again_is_sent_away(run: Run, house: Any) -> None:
    async def scenario() -> None:
        broken = Script((1.0, UpstreamError("protocol", "cut")))
        h = house({"one": MemoryUpstream(broken), "two": MemoryUpstream(ANSWER)})
        first = [asyncio.ensure_future(h.ask(stream=True)) for _ in range(2)]
        others = [asyncio.ensure_future(h.text(stream=True)) for _ in range(2)]
        await asyncio.sleep(0.5)
        h.desk.dismiss(going)
        ended = [(await each)[0] for each in first]
        assert {response.status for response in ended} <= {502, 503}
        for each in others:
            await each
        h.assert_quiet()

    run(scenario())
