"""One call for all who ask the same at the same time: who gets what, who may leave, and who pays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.pipeline import flight as flights
from gateway.pipeline.faults import outcome_name
from gateway.service import Call, Response
from gateway.telemetry.usage import Ended, record
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError
from gateway.wire import sse

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ENV = {"ACME": "sk-acme-key", "BETA": "sk-beta-key"}
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
DOCUMENT = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}, price: {input: 9, output: 27}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: y}, price: {input: 9, output: 27}}
policies:
  p: {tiers: [{backends: [one]}, {backends: [two]}], first_token_timeout: 5s, token_gap_timeout: 20s, cache: CACHE}
tenants:
  acme: {keys: ["${ACME}"]}
  beta: {keys: ["${BETA}"]}
"""


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "choices": [choice], **fields}).encode() + b"\n\n"


def whole(text: str = "hello") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "1", "choices": [choice], "usage": USAGE}).encode()


COUNTED = b"data: " + json.dumps({"id": "1", "choices": [], "usage": USAGE}).encode() + b"\n\n"
END = ((1.0, chunk(finish="stop")), (0.0, COUNTED), (0.0, sse.DONE))
TEN = Script(*((1.0, chunk(f"{n} ")) for n in range(10)), *END)
TEXT = "".join(f"{n} " for n in range(10))


class Bench:
    def __init__(self, house: Any, *scripts: Script, cache: str = "{share: all}") -> None:
        self.one = MemoryUpstream(*scripts)
        self.two = MemoryUpstream(Script((1.0, chunk("two")), *END))
        self.house = house({"one": self.one, "two": self.two}, DOCUMENT.replace("CACHE", cache), **ENV)

    async def open(self, key: str = "sk-acme-key", **fields: Any) -> tuple[Response, Call]:
        found: tuple[Response, Call] = await self.house.ask(key=key, **{"temperature": 0, "stream": True, **fields})
        return found

    async def read(self, delay: float = 0.0, **fields: Any) -> tuple[bytes, Call]:
        await asyncio.sleep(delay)
        response, call = await self.open(**fields)
        return await self.house.drain(response, call), call

    async def quiet(self) -> None:
        await asyncio.sleep(0.1)  # for answers to be kept
        self.house.assert_quiet()
        cache = self.house.cache
        assert (len(cache.flights), len(cache.running), cache.stock.bytes) == (0, 0, 0)


def text_of(body: bytes) -> str:
    chunks = [json.loads(data) for raw in sse.frames(body) if (data := sse.payload(raw)) and data != b"[DONE]"]
    return "".join(c["delta"].get("content") or "" for found in chunks for c in found.get("choices", ()))


def test_all_who_ask_get_one_calls_answer_late_ones_from_the_beginning(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        found = await asyncio.gather(*(b.read(delay / 10) for delay in range(100)))
        assert len(b.one.bodies) == 1
        assert {body for body, _ in found} == {found[0][0]}
        assert text_of(found[0][0]) == TEXT
        assert [call.cache.result for _, call in found] == ["miss"] + ["joined"] * 99
        assert b.house.loop.time() == pytest.approx(11.0, abs=0.1)
        await b.quiet()

    run(scenario())


def test_each_gets_the_form_and_the_usage_that_it_asked_for(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        plain, counted, (full, _) = await asyncio.gather(
            b.read(), b.read(1.5, stream_options={"include_usage": True}), b.read(2.5, stream=False)
        )
        assert (b'"usage"' in plain[0], b'"usage"' in counted[0]) == (False, True)
        assert counted[0].replace(COUNTED, b"") == plain[0]
        answer = json.loads(full)
        assert (answer["object"], answer["choices"][0]["message"]["content"]) == ("chat.completion", TEXT)
        assert answer["usage"] == USAGE
        assert len(b.one.bodies) == 1
        assert b"include_usage" in b.one.bodies[0]
        await b.quiet()

    run(scenario())


def test_a_stream_may_join_a_whole_answer(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((3.0, whole())))
        (full, _), (streamed, call) = await asyncio.gather(b.read(stream=False), b.read(1.0))
        assert full == whole()
        assert text_of(streamed) == "hello"
        assert streamed.endswith(sse.DONE)
        assert (call.cache.result, len(b.one.bodies)) == ("joined", 1)  # type: ignore[union-attr]
        await b.quiet()

    run(scenario())


def test_a_slow_reader_holds_nobody_up(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script(*((0.01, chunk("x" * 100_000)) for _ in range(100)), *END))
        fast = asyncio.create_task(b.read())
        response, call = await b.open()
        body = aiter(response.body)  # type: ignore[arg-type]
        first = await anext(body)
        answer, _ = await fast
        assert b.house.loop.time() < 3
        assert text_of(answer) == "x" * 10_000_000
        rest = [first]
        async for block in body:
            rest.append(block)
            await asyncio.sleep(1)
        assert b"".join(rest) == answer
        await response.body.aclose()  # type: ignore[union-attr]
        b.house.end(call)
        await b.quiet()

    run(scenario())


def test_a_call_goes_no_faster_than_its_fastest_reader(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script(*((0.01, chunk("x" * 100_000)) for _ in range(60)), *END))
        response, call = await b.open()
        await asyncio.sleep(15)
        (one,) = b.house.cache.running
        assert one.held < flights.HIGH_WATER + 300_000
        assert text_of(await b.house.drain(response, call)) == "x" * 6_000_000
        await b.quiet()

    run(scenario())


def test_who_falls_too_far_behind_is_cut_off_and_told(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script(*((0.01, chunk("x" * 100_000)) for _ in range(400)), *END))
        fast = asyncio.create_task(b.read())
        response, call = await b.open()
        body = aiter(response.body)  # type: ignore[arg-type]
        await anext(body)
        answer, _ = await fast
        assert len(answer) > 40_000_000
        assert b.house.cache.stock.bytes <= flights.MOST_HELD
        late = [block async for block in body]
        assert b"too_slow" in late[0]
        assert late[0].endswith(sse.DONE)
        await response.body.aclose()  # type: ignore[union-attr]
        b.house.end(call)
        await b.quiet()

    run(scenario())


def test_when_all_answers_together_are_too_much_only_what_is_unread_is_held(
    run: Run, house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(flights, "MOST_BUFFERED", 500_000)
        b = Bench(house, Script(*((0.01, chunk("x" * 100_000)) for _ in range(30)), *END))
        first = asyncio.create_task(b.read())
        await asyncio.sleep(0.2)
        (one,) = b.house.cache.running
        assert one.sealed
        assert one.held < 250_000
        second = asyncio.create_task(b.read())
        assert text_of((await first)[0]) == text_of((await second)[0]) == "x" * 3_000_000
        assert len(b.one.bodies) == 2
        await b.quiet()
        assert b.house.cache.answers.standing().entries == 0

    run(scenario())


def test_waiting_aloud_is_heard_by_all_and_a_refusal_after_it_too(run: Run, house: Any) -> None:
    async def scenario() -> None:
        waits = DOCUMENT.replace("serves: {r2: x}", "serves: {r2: x}, limits: {streams: 1}", 1)
        waits = waits.replace("{backends: [one]}, {backends: [two]}", "{backends: [one]}").replace("CACHE", "{}")
        waits = waits.replace("cache:", "queue: {max_wait: 9s, comment_after: 1s}, cache:")
        cloud = MemoryUpstream(Script((30.0, whole())), TEN)
        h = house({"one": cloud, "two": cloud}, waits, **ENV)
        busy = asyncio.create_task(h.ask(key="sk-acme-key", temperature=0))
        await asyncio.sleep(0.5)
        readers = [asyncio.create_task(h.ask(key="sk-acme-key", temperature=0, seed=1, stream=True)) for _ in range(2)]
        found = [await reader for reader in readers]
        bodies = await asyncio.gather(*(h.drain(response, call) for response, call in found))
        assert bodies[0] == bodies[1]
        assert bodies[0].startswith(b": waiting position=1")
        assert b'"error"' in bodies[0]
        assert {call.status for _, call in found} == {429}
        assert len(cloud.bodies) == 1
        await busy

    run(scenario())


def test_the_first_may_leave_and_the_next_pays(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        first = asyncio.create_task(b.read())
        second = asyncio.create_task(b.read(0.5, key="sk-beta-key"))
        third = asyncio.create_task(b.read(0.6))
        await asyncio.sleep(4)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert b.one.open == 1
        left = b.house.ended[-1]
        assert left.attempts == []
        answer, payer = await second
        assert text_of(answer) == TEXT
        assert [a.usage.prompt for a in payer.attempts] == [1000]
        _, free = await third
        assert (free.attempts, free.cache.usage.prompt) == ([], 1000)
        records = [record(Ended(call, call.caller.name, ""), outcome_name, 0.0) for call in (left, payer, free)]
        assert [(r.cache, r.backend, r.cost) for r in records] == [
            ("miss", "", None), ("joined", "one", "0.00927"), ("joined", "", "0"),
        ]  # fmt: skip
        await b.quiet()

    run(scenario())


def test_each_pays_where_the_policy_says_so(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN, cache="{share: all, account: each}")
        found = await asyncio.gather(b.read(), b.read(0.5, key="sk-beta-key"))
        records = [record(Ended(call, call.caller.name, ""), outcome_name, 0.0) for _, call in found]
        assert [(r.backend, r.input, r.cached, r.cost) for r in records] == [
            ("one", 1000, 0, "0.00927"), ("", 1000, 0, "0.00927"),
        ]  # fmt: skip

    run(scenario())


@pytest.mark.parametrize("at", [0.5, 4.5])
def test_when_all_have_left_the_call_is_cancelled(run: Run, house: Any, at: float) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        readers = [asyncio.create_task(b.read(delay)) for delay in (0.0, 0.1, 0.2)]
        await asyncio.sleep(at)
        for reader in readers[:2]:
            reader.cancel()
        await asyncio.sleep(0.1)
        assert b.one.open == 1
        readers[2].cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert b.one.open == 0
        (carrier,) = [call for call in b.house.ended if call.attempts]
        assert outcome_name(carrier.attempts[0].outcome) == "abandoned"
        await b.quiet()
        assert text_of((await b.read())[0]) == TEXT

    run(scenario())


def test_who_leaves_before_it_has_begun_leaves_nothing(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        reader = asyncio.create_task(b.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        await b.quiet()

    run(scenario())


def test_a_failure_before_the_first_token_spills_once_for_all(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.5, UpstreamError("protocol", "cut"))))
        found = await asyncio.gather(*(b.read(delay / 10) for delay in range(10)))
        assert (len(b.one.bodies), len(b.two.bodies)) == (1, 1)
        assert {text_of(body) for body, _ in found} == {"two"}
        assert [len(call.attempts) for _, call in found] == [2] + [0] * 9
        await b.quiet()

    run(scenario())


def test_a_refusal_is_told_to_all(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(
            house, Script((0.0, b'{"error":{"message":"bad","type":"invalid_request_error"}}'), status=400, after=1)
        )
        found = await asyncio.gather(*(b.open(stream=stream) for stream in (True, False, True)))
        assert [response.status for response, _ in found] == [400] * 3
        assert len(b.one.bodies) == 1
        await b.quiet()

    run(scenario())


async def later(b: Bench, delay: float) -> tuple[Response, Call]:
    await asyncio.sleep(delay)
    return await b.open(stream=False)


def test_a_stream_that_breaks_is_told_to_all_in_their_form(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((1.0, chunk("a")), (1.0, UpstreamError("protocol", "cut"))))
        first, second, (response, _) = await asyncio.gather(b.read(), b.read(0.5), later(b, 0.5))
        assert first[0] == second[0]
        assert b"upstream_cut" in first[0]
        assert (response.status, json.loads(response.body)["error"]["code"]) == (502, "upstream_cut")  # type: ignore[arg-type]
        assert len(b.one.bodies) == 1
        assert text_of((await b.read())[0]) != ""
        assert len(b.one.bodies) == 2, "nobody joins what has failed"
        await b.quiet()

    run(scenario())


def test_a_stream_that_makes_no_whole_is_asked_for_again_by_who_wants_one(run: Run, house: Any) -> None:
    async def scenario() -> None:
        odd = b'data: {"choices":[{"index":0,"delta":{"details":[%d]}}]}\n\n'
        b = Bench(house, Script((1.0, chunk("a")), (0.0, odd % 1), (0.0, odd % 2), *END), Script((1.0, whole())))
        first, (full, call) = await asyncio.gather(b.read(), b.read(0.5, stream=False))
        assert text_of(first[0]) == "a"
        assert (full, call.cache.result, len(b.one.bodies)) == (whole(), "miss", 2)  # type: ignore[union-attr]
        await b.quiet()

    run(scenario())


@pytest.mark.parametrize("cache", ["{join: never}", "{join: replica}"])
def test_joining_is_the_policys_choice(run: Run, house: Any, cache: str) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN, cache=cache)
        await asyncio.gather(b.read(), b.read(0.5))
        assert len(b.one.bodies) == (2 if "never" in cache else 1)
        await b.quiet()

    run(scenario())


def test_only_the_same_question_of_the_same_tenant_is_joined(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN, cache="{}")
        await asyncio.gather(b.read(), b.read(key="sk-beta-key"), b.read(seed=1))
        assert len(b.one.bodies) == 3
        await b.quiet()

    run(scenario())


def test_a_gateway_that_stops_tells_who_still_reads(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)
        readers = [asyncio.create_task(b.read()) for _ in range(2)]
        await asyncio.sleep(3)
        await b.house.cache.aclose()
        for body, _ in await asyncio.gather(*readers):
            assert b"upstream_cut" in body
            assert body.endswith(sse.DONE)
        await b.quiet()

    run(scenario())


def test_a_fault_of_ours_is_told_and_forgotten(run: Run, house: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        b = Bench(house, TEN)

        b.house.live.policies = {}
        response, _ = await b.open()
        assert response.status == 500
        assert "shared call failed" in caplog.text
        assert (len(b.house.cache.flights), len(b.house.cache.running)) == (0, 0)

    run(scenario())
