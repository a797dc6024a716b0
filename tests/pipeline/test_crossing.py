"""One call for all replicas: who calls, who listens, and what when either is gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from decimal import Decimal
from typing import Any

import pytest

from gateway.pipeline import crossing as crossings
from gateway.pipeline.crossing import Crossing
from gateway.service import Call, Response
from gateway.store.answers import MemoryAnswers
from gateway.store.base import StoreDown
from gateway.store.flights import LEASE, WANT, MemoryFlights, Post, Seen, Written
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError
from gateway.wire import sse

Run = Callable[[Coroutine[Any, Any, Any]], Any]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
DOCUMENT = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}, price: {input: 9, output: 27}}}
policies: {p: {tiers: [{backends: [one]}], retry: {attempts: 1}, cache: {account: each}}}
"""


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "choices": [choice], **fields}).encode() + b"\n\n"


COUNTED = b"data: " + json.dumps({"id": "1", "choices": [], "usage": USAGE}).encode() + b"\n\n"
END = ((1.0, chunk(finish="stop")), (0.0, COUNTED), (0.0, sse.DONE))
TEN = Script(*((1.0, chunk(f"{n} ")) for n in range(10)), *END)
TEXT = "".join(f"{n} " for n in range(10))
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
WHOLE = json.dumps({"id": "1", "choices": [CHOICE], "usage": USAGE}).encode()


class Flaky(MemoryFlights):
    """One that can be out of reach."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.down = False
        self.written = 0

    async def _reach(self) -> None:
        if self.down:
            await asyncio.sleep(0.25)
            raise StoreDown("away")

    async def claim(self, name: str) -> Post:
        await self._reach()
        return await super().claim(name)

    async def publish(self, post: Post, start: int, items: Sequence[bytes], last: int) -> Written:
        await self._reach()
        self.written += len(items)
        return await super().publish(post, start, items, last)

    async def read(self, post: Post, start: int) -> Seen:
        await self._reach()
        return await super().read(post, start)


class Bench:
    """Two replicas over one cloud, one store and one place to meet."""

    def __init__(self, house: Any, *scripts: Script) -> None:
        loop = asyncio.get_running_loop()
        self.cloud = MemoryUpstream(*scripts)
        self.flights = Flaky(loop.time)
        answers = MemoryAnswers(loop.time)
        self.houses = [house({"one": self.cloud}, DOCUMENT) for _ in range(2)]
        for one in self.houses:
            one.cache.answers = answers
            one.cache.crossing = Crossing(self.flights, loop.time)

    async def read(self, replica: int, delay: float = 0.0, **fields: Any) -> tuple[bytes, Call, Response]:
        await asyncio.sleep(delay)
        h = self.houses[replica]
        response, call = await h.ask(**{"temperature": 0, "stream": True, **fields})
        return await h.drain(response, call), call, response

    def start(self, replica: int, delay: float = 0.0, **fields: Any) -> asyncio.Task[tuple[bytes, Call, Response]]:
        return asyncio.create_task(self.read(replica, delay, **fields))

    async def quiet(self) -> None:
        await asyncio.sleep(1)
        for one in self.houses:
            one.assert_quiet()
            assert (len(one.cache.flights), len(one.cache.running), one.cache.stock.bytes) == (0, 0, 0)
            assert "Leading: 0" in repr(one.cache.crossing)


def text_of(body: bytes) -> str:
    chunks = [json.loads(data) for raw in sse.frames(body) if (data := sse.payload(raw)) and data != b"[DONE]"]
    return "".join(c["delta"].get("content") or "" for found in chunks for c in found.get("choices", ()))


def test_one_replica_calls_and_all_who_ask_anywhere_get_the_same(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        found = await asyncio.gather(*(b.read(n % 2, n / 10) for n in range(60)))
        assert len(b.cloud.bodies) == 1
        assert {body for body, _, _ in found} == {found[0][0]}
        assert text_of(found[0][0]) == TEXT
        assert [call.cache.result for _, call, _ in found] == ["miss"] + ["joined"] * 59  # type: ignore[union-attr]
        assert {call.cache.usage.prompt for _, call, _ in found[1:]} == {1000}  # type: ignore[union-attr]
        assert {call.cache.cost for _, call, _ in found[1:]} == {Decimal("0.00927")}  # type: ignore[union-attr]
        assert b.houses[0].loop.time() < 12
        await b.quiet()

    run(scenario())


def test_late_ones_elsewhere_get_what_has_come_and_then_the_rest_as_it_comes(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first = b.start(0)
        await asyncio.sleep(5.5)
        assert b.flights.written == 0, "nobody listened"
        h = b.houses[1]
        response, call = await h.ask(temperature=0, stream=True)
        body = aiter(response.body)
        assert text_of(await anext(body)) == "0 1 2 3 4 "
        assert h.loop.time() < 6.0
        assert text_of(await anext(body)) == "5 "
        assert h.loop.time() < 6.5
        rest = b"".join([block async for block in body])
        await response.body.aclose()
        h.end(call)
        assert text_of(rest) == "6 7 8 9 "
        assert text_of((await first)[0]) == TEXT
        await b.quiet()

    run(scenario())


@pytest.mark.parametrize(("leads", "joins"), [(False, False), (False, True), (True, False)])
def test_forms_may_differ(run: Run, house: Any, leads: bool, joins: bool) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN if leads else Script((3.0, WHOLE)))
        first, second = await asyncio.gather(b.read(0, stream=leads), b.read(1, 0.5, stream=joins))
        expected = TEXT if leads else "hello"
        for (body, _, _), streamed in ((first, leads), (second, joins)):
            got = text_of(body) if streamed else json.loads(body)["choices"][0]["message"]["content"]
            assert got == expected
        assert len(b.cloud.bodies) == 1
        assert second[1].cache.usage.completion == 10  # type: ignore[union-attr]
        await b.quiet()

    run(scenario())


def test_the_next_to_ask_elsewhere_finds_it_kept(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((1.0, WHOLE)))
        await b.read(0, stream=False)
        await asyncio.sleep(0.5)
        assert (await b.read(1, stream=False))[1].cache.result == "hit"  # type: ignore[union-attr]
        await b.quiet()

    run(scenario())


def test_a_refusal_is_told_everywhere(run: Run, house: Any) -> None:
    async def scenario() -> None:
        refusal = b'{"error":{"message":"bad","type":"invalid_request_error"}}'
        b = Bench(house, Script((0.0, refusal), status=400, after=2.0))
        found = await asyncio.gather(b.read(0), b.read(1, 0.5), b.read(1, 0.5, stream=False))
        assert [response.status for _, _, response in found] == [400] * 3
        assert len({json.dumps(json.loads(body)["error"]["message"]) for body, _, _ in found}) == 1
        assert len(b.cloud.bodies) == 1
        await b.quiet()

    run(scenario())


def test_a_stream_that_breaks_is_told_everywhere(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((1.0, chunk("a")), (2.0, UpstreamError("protocol", "cut"))))
        first, second, third = await asyncio.gather(b.read(0), b.read(1, 0.5), b.read(1, 0.6, stream=False))
        assert first[0] == second[0]
        assert b"upstream_cut" in second[0]
        assert (third[2].status, json.loads(third[0])["error"]["code"]) == (502, "upstream_cut")
        assert len(b.cloud.bodies) == 1
        await b.quiet()

    run(scenario())


def test_the_call_lives_while_anyone_anywhere_listens(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first, second = b.start(0), b.start(1, 0.5)
        await asyncio.sleep(3)
        first.cancel()
        await asyncio.sleep(4)
        assert b.cloud.open == 1
        assert text_of((await second)[0]) == TEXT
        await asyncio.gather(first, return_exceptions=True)
        (call,) = b.houses[0].ended
        assert [a.usage.prompt for a in call.attempts] == [1000], "who asked first pays, since nobody else there did"
        await b.quiet()

    run(scenario())


def test_when_nobody_anywhere_listens_the_call_ends(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first, second = b.start(0), b.start(1, 0.5)
        await asyncio.sleep(3)
        first.cancel()
        await asyncio.sleep(1)
        assert b.cloud.open == 1
        second.cancel()
        await asyncio.sleep(WANT + 2 * crossings.BEAT)
        assert b.cloud.open == 0
        await asyncio.gather(first, second, return_exceptions=True)
        await b.quiet()

    run(scenario())


def test_when_who_calls_dies_before_the_beginning_another_calls(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((99.0, chunk("never"))), TEN)
        first = b.start(0)
        await asyncio.sleep(0.1)
        second = b.start(1)
        await asyncio.sleep(1)
        await b.houses[0].cache.crossing.aclose()  # as a killed process: it says nothing any more
        began = b.houses[0].loop.time()
        assert text_of((await second)[0]) == TEXT
        assert b.houses[0].loop.time() - began < LEASE + 12
        assert len(b.cloud.bodies) == 2
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await b.quiet()

    run(scenario())


def test_when_who_calls_dies_in_the_middle_those_elsewhere_are_told(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first, second = b.start(0), b.start(1)
        await asyncio.sleep(4)
        await b.houses[0].cache.crossing.aclose()
        body, _, _ = await second
        assert text_of(body).startswith("0 1 2")
        assert b"upstream_cut" in body
        assert body.endswith(sse.DONE)
        assert text_of((await first)[0]) == TEXT
        await b.quiet()

    run(scenario())


def test_where_redis_is_away_every_replica_calls_for_itself(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        b.flights.down = True
        found = await asyncio.gather(b.read(0), b.read(1))
        assert [text_of(body) for body, _, _ in found] == [TEXT, TEXT]
        assert len(b.cloud.bodies) == 2
        await b.quiet()

    run(scenario())


def test_a_redis_that_goes_before_the_beginning_is_not_waited_for(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((5.0, chunk("a")), *END))
        first, second = b.start(0), b.start(1, 0.5)
        await asyncio.sleep(1)
        b.flights.down = True
        await second
        assert b.houses[0].loop.time() < 8.5
        assert len(b.cloud.bodies) == 2
        await first
        b.flights.down = False
        await b.quiet()

    run(scenario())


def test_a_redis_that_goes_in_the_middle_and_comes_back_costs_no_token(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first, second = b.start(0), b.start(1)
        await asyncio.sleep(3.5)
        b.flights.down = True
        await asyncio.sleep(10)
        b.flights.down = False
        assert text_of((await second)[0]) == TEXT
        assert text_of((await first)[0]) == TEXT
        assert len(b.cloud.bodies) == 1
        await b.quiet()

    run(scenario())


def test_who_wants_a_fresh_answer_meets_nobody(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        for one in b.houses:
            one.headers = {b"cache-control": b"no-cache"}
        await asyncio.gather(b.read(0), b.read(1, 0.5), b.read(1, 1.0))
        assert len(b.cloud.bodies) == 3
        await b.quiet()

    run(scenario())


def test_there_are_only_so_many_at_a_time(run: Run, house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(crossings, "MOST", 1)
        b = Bench(house, TEN)
        await asyncio.gather(b.read(0), b.read(0, seed=1), b.read(1, 0.5, seed=1))
        assert len(b.cloud.bodies) == 3
        await b.quiet()

    run(scenario())
