"""Why a request went where it went: noted when it matters, told to who asks, and passed on to our own engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from gateway.core.nouns import Refuse
from gateway.pipeline.observe import overhead
from gateway.pipeline.record import MOST_BYTES
from gateway.pipeline.witness import LOOKS
from gateway.service import Call, Response
from gateway.telemetry.context import attempt_span, begin
from gateway.telemetry.story import at_clouds
from gateway.testing import MemoryUpstream, Script
from gateway.wire import traceparent

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
WHOLE = b'{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}'
TOKEN = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
ASK = {b"x-spillgate-explain": b"1"}


def answers(after: float = 1.0, **options: Any) -> MemoryUpstream:
    return MemoryUpstream(Script((after, WHOLE), **options))


def test_a_request_that_simply_goes_to_its_first_tier_is_not_looked_at(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        _, call = await h.ask()
        assert call.decisions == ()

    run(scenario())


def test_who_leaves_the_first_tier_is_told_what_was_full_there(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        calls = [call for _, call in await asyncio.gather(*(h.ask() for _ in range(3)))]
        assert [len(call.decisions) for call in calls] == [0, 0, 1]
        (decision,) = calls[2].decisions
        assert (decision.verdict, decision.backend, decision.attempt) == ("go", "two", 1)
        assert decision.candidates[0].why_not == ("streams 2 of 2",)

    run(scenario())


def test_who_waits_is_told_his_place_and_does_not_wait_for_himself(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        calls = [call for _, call in await asyncio.gather(*(h.ask() for _ in range(6)))]
        first, second = calls[4].decisions[0], calls[5].decisions[0]
        assert (first.verdict, first.reason) == ("wait", "place 1 in the queue")
        assert all("others wait for it" not in candidate.why_not for candidate in first.candidates)
        assert second.reason == "place 2 in the queue"
        assert all("others wait for it" in candidate.why_not for candidate in second.candidates)
        assert calls[4].waits == ((0.0, 1.0),)
        assert calls[4].queued == 1.0

    run(scenario())


def test_who_is_refused_and_who_fails_over_is_looked_at_too(run: Run, house: Any) -> None:
    async def scenario() -> None:
        broken = MemoryUpstream(Script((0.0, b"no"), status=500))
        h = house({"one": broken, "two": answers()})
        _, call = await h.ask()
        assert [(d.verdict, d.backend, d.attempt) for d in call.decisions] == [("go", "two", 2)]
        crowd = await asyncio.gather(*(h.ask() for _ in range(9)))
        refused = [call for response, call in crowd if response.status == 429]
        assert refused
        assert {d.verdict for call in refused for d in call.decisions} >= {"refuse"}

    run(scenario())


def test_looks_are_bounded_and_shared_between_requests_of_one_kind(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        witness = h.dispatch._witness
        looks = 0
        explain = h.desk.dispatcher.explain

        class Counting:
            def explain(self, *args: Any) -> Any:
                nonlocal looks
                looks += 1
                return explain(*args)

        _, call = await h.ask()
        witness._desk = type("Desk", (), {"clock": h.desk.clock, "dispatcher": Counting()})()
        for _ in range(1000):
            witness.see(call, Refuse("queue-full"))
        assert looks <= 2 * LOOKS
        assert all(decision.candidates for decision in call.decisions)
        await asyncio.sleep(0.3)
        witness.see(call, Refuse("queue-full"))
        assert call.decisions[-1].looked == 1.3

    run(scenario())


def test_sampled_requests_are_always_looked_at(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        h.dispatch._begin = lambda call: setattr(call, "context", begin(call, 1.0, Random(1)))
        _, call = await h.ask()
        assert [decision.verdict for decision in call.decisions] == ["go"]

    run(scenario())


# --- what goes back ---------------------------------------------------------------------------------------


def timings(response: Response) -> dict[str, float]:
    text = dict(response.headers)[b"server-timing"].decode()
    parts = [part.split(";dur=") for part in text.split(", ") if ";dur=" in part]
    return {name: float(value) for name, value in parts}


def test_server_timing_is_on_every_answer_and_adds_up(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        results = [*await asyncio.gather(*(h.ask() for _ in range(5))), await h.ask(body=b"no JSON")]
        for response, call in results:
            found = timings(response)
            assert list(found) == ["read", "queue", "upstream", "gateway", "total"]
            total = found.pop("total")
            assert sum(found.values()) == pytest.approx(total, abs=0.03)
            assert total == pytest.approx((call.responded - call.received) * 1e3, abs=0.01)
        assert timings(results[4][0])["queue"] == 1000.0
        assert timings(results[4][0])["upstream"] == 1000.0
        assert results[5][0].status == 400

    run(scenario())


def test_reading_a_slow_clients_body_is_not_our_time() -> None:
    async def nothing() -> bytes:
        return b""

    call = Call("req-1", 10.0, {}, nothing)
    call.reading, call.got, call.responded = 10.1, 13.1, 13.3
    assert overhead(call) == pytest.approx(0.3)
    assert at_clouds(call.attempts, call.responded) == 0.0


def test_the_record_is_told_to_who_asks_and_to_nobody_else(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": answers(), "two": answers()})
        response, _ = await h.ask()
        assert b"x-spillgate-route" not in dict(response.headers)
        h.headers = ASK
        response, call = await h.ask()
        record = json.loads(header_of(response, "x-spillgate-route"))
        assert (record["request"], record["model"], record["policy"]) == (call.id, "r2", "p")
        assert record["attempts"] == [
            {
                "backend": "one", "model": "one-id", "tier": 1, "outcome": "served", "sent_ms": 0.0,
                "first_token_ms": 1000.0, "ended_ms": 1000.0,
            }
        ]  # fmt: skip
        assert [c["backend"] for c in record["decisions"][0]["candidates"]] == ["one", "two"]

    run(scenario())


def test_a_stream_tells_its_record_in_the_last_chunk_before_the_end_mark(run: Run, house: Any) -> None:
    async def scenario() -> None:
        stream = MemoryUpstream(Script((1.0, TOKEN), (0.5, TOKEN), (0.5, END)))
        h = house({"one": stream, "two": stream})
        plain = await h.text(stream=True)
        h.headers = ASK
        told = await h.text(stream=True)
        assert told.endswith(b"data: [DONE]\n\n")
        chunk = told.split(b"\n\n")[-3]
        found = json.loads(chunk.removeprefix(b"data: "))
        assert (found["object"], found["choices"]) == ("chat.completion.chunk", [])
        (attempt,) = found["spillgate"]["attempts"]
        assert (attempt["outcome"], attempt["first_token_ms"], attempt["ended_ms"] % 1000) == ("served", 1000.0, 0.0)
        assert told.replace(chunk + b"\n\n", b"") == plain
        h.assert_quiet()

    run(scenario())


def test_a_stream_that_is_left_early_is_closed_though_it_tells(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((1.0, TOKEN), hang=True)), "two": answers()})
        h.headers = ASK
        response, call = await h.ask(stream=True)
        body = aiter(response.body)
        assert await anext(body) == TOKEN
        await response.body.aclose()
        h.end(call)
        h.assert_quiet()

    run(scenario())


def test_what_a_cloud_says_of_our_keys_is_not_in_a_clients_record(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.0, b'{"error":{}}'), status=401)), "two": answers()})
        h.headers = ASK
        await h.ask()
        response, call = await h.ask()
        seen = [why for d in call.decisions for c in d.candidates for why in c.why_not]
        assert any("auth" in why for why in seen)
        record = json.loads(header_of(response, "x-spillgate-route"))
        told = [why for d in record["decisions"] for c in d["candidates"] for why in c["why_not"]]
        assert told == ["unavailable" if "auth" in why else why for why in seen]
        assert "unavailable" in told

    run(scenario())


def test_a_record_fits_in_a_header(run: Run, house: Any, header_of: Head) -> None:
    names = [f"backend-with-a-long-name-{number}" for number in range(60)]
    lines = "".join(
        f'  {name}: {{preset: vllm, base_url: "http://one/v1", serves: {{r2: one-id}}}}\n' for name in names
    )
    text = f"models: {{r2: {{}}}}\nbackends:\n{lines}policies: {{p: {{tiers: [{{backends: [{', '.join(names)}]}}]}}}}\n"

    async def scenario() -> None:
        h = house({"one": answers()}, text)
        h.headers = ASK
        response, _ = await h.ask()
        found = header_of(response, "x-spillgate-route")
        assert len(found) <= MOST_BYTES
        assert json.loads(found)["decisions"][0]["candidates"] is None

    run(scenario())


# --- what clouds are told ---------------------------------------------------------------------------------


def test_our_own_engines_are_told_the_attempts_span_and_clouds_that_hide_nothing(run: Run, house: Any) -> None:
    document = """
models: {r2: {}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id}, trace_context: hide}
policies: {p: {tiers: [{backends: [one]}, {backends: [two]}]}}
"""

    async def scenario() -> None:
        broken = MemoryUpstream(Script((0.0, b"no"), status=500))
        h = house({"one": broken, "two": answers()}, document)
        chance = Random(1)
        h.dispatch._begin = lambda call: setattr(call, "context", begin(call, 0.0, chance))
        h.headers = {b"traceparent": traceparent.written(0xABC, 0xDEF, True).encode(), b"tracestate": b"v=1"}
        response, call = await h.ask()
        assert call.context is not None
        (told,) = h.clouds["one"].headers
        assert traceparent.parse(told["traceparent"].encode()) == (0xABC, attempt_span(call.context, 1), True)
        assert told["tracestate"] == "v=1"
        assert h.clouds["two"].headers == [{}]
        assert traceparent.written(0xABC, call.context.span, True).encode() in dict(response.headers)[b"server-timing"]

    run(scenario())
