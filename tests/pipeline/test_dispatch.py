"""Attempts, failover before the first token, time-outs and cancellation, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.service import Response
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    delta = {"content": text} if text else {}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2},
    }
).encode()
GOOD = Script((0.5, ROLE), (0.5, chunk("a")), (0.1, chunk("b")), (0.1, chunk("", "stop")), (0.0, USAGE), (0.0, DONE))
PLAIN = Script((1.0, WHOLE))


def refusal(status: int, code: str = "", **headers: str) -> Script:
    body = json.dumps({"error": {"message": "no", "type": code, "code": code}}).encode()
    return Script((0.0, body), status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_a_stream_arrives_as_sent_less_the_usage_only_we_asked_for(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(GOOD), "two": MemoryUpstream(GOOD)})
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(1.0)
        assert header_of(response, "x-spillgate-backend") == "one"
        assert header_of(response, "x-spillgate-attempts") == "1"
        assert await h.drain(response, call) == ROLE + chunk("a") + chunk("b") + chunk("", "stop") + DONE
        assert json.loads(h.clouds["one"].bodies[0])["stream_options"] == {"include_usage": True}
        assert call.attempts[0].usage is not None
        h.assert_quiet()

    run(scenario())


def test_a_client_that_asks_for_usage_gets_it(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(GOOD), "two": MemoryUpstream(GOOD)})
        assert USAGE in await h.text(stream=True, stream_options={"include_usage": True})
        h.assert_quiet()

    run(scenario())


def test_a_whole_answer_arrives_as_sent_without_leading_blank_lines(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((1.0, b"\n"), (1.0, b"\n" + WHOLE))), "two": MemoryUpstream(PLAIN)})
        assert await h.text() == WHOLE
        h.assert_quiet()

    run(scenario())


BAD_STARTS = {
    "refused for rate": refusal(429, "rate_limit_exceeded"),
    "overloaded": refusal(503),
    "server error": refusal(500),
    "key refused": refusal(401),
    "model gone": refusal(404),
    "error as first frame": Script((0.1, b'data: {"error":{"message":"engine dead","code":500}}\n\n'), (0.0, DONE)),
    "only the end mark": Script((0.1, DONE)),
    "nothing at all": Script(),
    "role, then cut": Script((0.1, ROLE), (0.1, UpstreamError("protocol", "cut"))),
    "no capacity finish": Script((0.1, ROLE), (0.1, chunk("", "insufficient_system_resource"))),
    "keep-alives for ever": Script(*[(1.0, b": keep-alive\n\n")] * 20),
    "silence": Script(hang=True),
    "no head in time": Script((0.0, DONE), after=50.0),
    "HTML": Script((0.0, b"<html>bad gateway</html>"), status=502),
}


@pytest.mark.parametrize("start", BAD_STARTS.values(), ids=BAD_STARTS.keys())
def test_whatever_happens_before_the_first_token_the_client_never_knows(
    run: Run, house: Any, header_of: Head, start: Script
) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(start), "two": MemoryUpstream(GOOD)})
        response, call = await h.ask(stream=True)
        assert response.status == 200
        assert header_of(response, "x-spillgate-backend") == "two"
        assert header_of(response, "x-spillgate-model") == "two-id"
        assert header_of(response, "x-spillgate-attempts") == "2"
        assert (await h.drain(response, call)).endswith(DONE)
        h.assert_quiet()

    run(scenario())


BAD_WHOLES = {
    "error in a 200": Script((0.1, b'{"error":{"message":"engine dead"}}')),
    "no choices": Script((0.1, b'{"choices":[]}')),
    "not JSON": Script((0.1, b"<html>")),
    "no capacity finish": Script((0.1, b'{"choices":[{"message":{},"finish_reason":"insufficient_system_resource"}]}')),
    "cut": Script((0.1, WHOLE[:20]), (0.1, UpstreamError("protocol", "cut"))),
    "refused": refusal(429),
}


@pytest.mark.parametrize("start", BAD_WHOLES.values(), ids=BAD_WHOLES.keys())
def test_a_bad_whole_answer_is_never_delivered(run: Run, house: Any, start: Script) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(start), "two": MemoryUpstream(PLAIN)})
        assert await h.text() == WHOLE
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (refusal(400, "invalid_request_error"), 400, "invalid_request_error"),
        (refusal(451, "content_filter"), 400, "content_filter"),
    ],
)
def test_what_is_the_requests_own_fault_goes_back_at_once(
    run: Run, house: Any, script: Script, status: int, code: str
) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(script), "two": MemoryUpstream(GOOD)})
        response, call = await h.ask()
        assert (response.status, json.loads(response.body)["error"]["code"]) == (status, code)
        assert len(call.attempts) == 1
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (refusal(401), 502, "upstream_failed"),
        (refusal(500), 502, "upstream_failed"),
        (refusal(402), 429, None),
    ],
)
def test_a_clouds_trouble_with_us_is_never_forwarded(
    run: Run, house: Any, script: Script, status: int, code: str | None
) -> None:
    document = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}}}
policies: {p: {tiers: [{backends: [one]}], queue: {max_wait: 0s}, retry: {attempts: 1}}}
"""

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(script)}, document)
        response, _ = await h.ask()
        error = json.loads(response.body)["error"]
        assert response.status == status
        assert error["message"] != "no"
        assert code is None or error["code"] == code
        assert error["attempts"][0]["backend"] == "one"
        h.assert_quiet()

    run(scenario())


def test_a_named_timeout_is_told_when_nobody_is_left_to_ask(run: Run, house: Any) -> None:
    document = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}}}
policies: {p: {tiers: [{backends: [one]}], total_timeout: 3s, first_token_timeout: 2s, retry: {attempts: 1}}}
"""

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script(hang=True))}, document)
        streamed, _ = await h.ask(stream=True)
        assert (streamed.status, json.loads(streamed.body)["error"]["code"]) == (504, "first_token_timeout")
        began = h.loop.time()
        plain, _ = await h.ask()
        assert (plain.status, json.loads(plain.body)["error"]["code"]) == (504, "total_timeout")
        assert h.loop.time() - began == pytest.approx(3.0)
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0.0, 0.3, 0.9])
def test_a_client_who_leaves_before_the_answer_frees_the_slot_at_once(
    run: Run, house: Any, stream: bool, after: float
) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((1.0, ROLE), hang=True, after=0.5)), "two": MemoryUpstream(GOOD)})
        task = asyncio.create_task(h.ask(stream=stream))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        h.assert_quiet()

    run(scenario())


def test_a_client_who_leaves_in_mid_stream_frees_the_slot_at_once(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script((0.1, chunk("a")), hang=True)), "two": MemoryUpstream(GOOD)})
        response, call = await h.ask(stream=True)
        assert h.in_flight() == 1
        task = asyncio.create_task(h.drain(response, call))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        h.assert_quiet()

    run(scenario())


def test_a_stream_that_is_never_read_gives_its_slot_back(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(GOOD), "two": MemoryUpstream(GOOD)})
        response, _ = await h.ask(stream=True)
        await response.body.aclose()
        await response.body.aclose()
        h.assert_quiet()

    run(scenario())


def test_those_who_wait_are_served_in_turn_and_the_line_is_bounded(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(PLAIN), "two": MemoryUpstream(PLAIN)})
        tasks = [asyncio.create_task(h.ask()) for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0.5)
        assert sum(cloud.open for cloud in h.clouds.values()) == 4
        responses = [(await task)[0] for task in tasks]
        assert [r.status for r in responses] == [200] * 7 + [429]
        refused = json.loads(responses[-1].body)["error"]
        assert refused["code"] == "capacity_queue_full"
        assert int(header_of(responses[-1], "retry-after")) >= 1
        assert float(header_of(responses[5], "x-spillgate-queue-ms")) == pytest.approx(1000, abs=5)
        h.assert_quiet()

    run(scenario())


def test_a_waiting_client_who_leaves_does_not_make_the_next_one_wait(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(PLAIN), "two": MemoryUpstream(PLAIN)})
        tasks = [asyncio.create_task(h.ask()) for _ in range(6)]
        await asyncio.sleep(0.5)
        tasks[4].cancel()
        await asyncio.sleep(0.6)
        assert sum(cloud.open for cloud in h.clouds.values()) == 1
        await asyncio.gather(*tasks, return_exceptions=True)
        h.assert_quiet()

    run(scenario())


def test_a_lease_granted_in_the_instant_the_client_left_is_given_back(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(PLAIN), "two": MemoryUpstream(PLAIN)})
        tasks = [asyncio.create_task(h.ask()) for _ in range(5)]
        await asyncio.sleep(0.5)
        waiter = tasks[4]
        for task in tasks[:4]:
            task.add_done_callback(lambda _: waiter.cancel())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[4], asyncio.CancelledError)
        h.assert_quiet()

    run(scenario())


def test_waiting_ends_with_a_named_refusal(run: Run, house: Any) -> None:
    async def scenario() -> None:
        stuck = Script(*[(3.0, chunk("a"))] * 20)
        h = house({"one": MemoryUpstream(stuck), "two": MemoryUpstream(stuck)})
        held = [await h.ask(stream=True) for _ in range(4)]
        began = h.loop.time()
        response, _ = await h.ask(stream=True)
        assert h.loop.time() - began <= 10.1
        assert json.loads(response.body)["error"]["code"] in {"capacity_max_wait", "capacity_hopeless"}
        for answer, call in held:
            await answer.body.aclose()
            h.end(call)
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize(("asked", "waits"), [(b"2s", 2.0), (b" 500ms ", 0.5), (b"0", 0.0), (b"1h", 10.0)])
def test_a_client_may_name_how_long_it_will_wait_within_what_the_policy_allows(
    run: Run, house: Any, asked: bytes, waits: float
) -> None:
    async def scenario() -> None:
        stuck = Script(*[(3.0, chunk("a"))] * 20)
        h = house({"one": MemoryUpstream(stuck), "two": MemoryUpstream(stuck)})
        h.headers = {b"x-spillgate-max-wait": asked}
        held = [await h.ask(stream=True) for _ in range(4)]
        began = h.loop.time()
        response, _ = await h.ask(stream=True)
        assert h.loop.time() - began == pytest.approx(waits, abs=0.01)
        assert json.loads(response.body)["error"]["code"] in {"capacity_deadline", "capacity_max_wait"}
        for answer, call in held:
            await answer.body.aclose()
            h.end(call)
        h.assert_quiet()

    run(scenario())


@pytest.mark.parametrize("asked", [b"5", b"-1s", b"soon", b"2h", b"", b"1e9s", b"\xff", b"9" * 500 + b"s"])
def test_a_wait_that_makes_no_sense_is_refused_by_its_name(run: Run, house: Any, asked: bytes) -> None:
    async def scenario() -> None:
        h = house({"one": MemoryUpstream(GOOD), "two": MemoryUpstream(GOOD)})
        h.headers = {b"x-spillgate-max-wait": asked}
        response, _ = await h.ask(stream=True)
        error = json.loads(response.body)["error"]
        assert (response.status, error["code"], error["param"]) == (400, "invalid_header", "x-spillgate-max-wait")
        h.assert_quiet()

    run(scenario())


def test_a_far_time_out_is_kept_too(run: Run, house: Any) -> None:
    document = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}}}
policies: {p: {tiers: [{backends: [one]}], total_timeout: 100s, retry: {attempts: 1}}}
"""

    async def scenario() -> None:
        h = house({"one": MemoryUpstream(Script(hang=True))}, document)
        response, _ = await h.ask()
        assert (response.status, json.loads(response.body)["error"]["code"]) == (504, "total_timeout")
        assert 100.0 <= h.loop.time() <= 101.0
        h.assert_quiet()

    run(scenario())
