"""`driver: litellm` over real sockets, against a pretend Anthropic."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

from gateway.core.nouns import Overloaded, Rejected
from gateway.testing.messages import KEY, MessagesCloud, messages_cloud
from gateway.upstream import presets
from gateway.upstream.base import UpstreamError
from gateway.upstream.handed import HandedReply
from gateway.upstream.litellm import SHARED, LitellmUpstream, Room, Target
from gateway.wire import sse
from gateway.wire.refusals import classify, in_band, outcome

DIALECT = presets.load("litellm").dialect
# litellm silences this one itself, when it is imported; here every test begins with the filters of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier")
Scenario = Callable[[MessagesCloud, LitellmUpstream], Awaitable[None]]
TOOL = {"type": "function", "function": {"name": "level", "parameters": {"type": "object", "properties": {}}}}


def body(**fields: Any) -> bytes:
    chat = {"model": "anthropic/claude-pretend", "messages": [{"role": "user", "content": "Why?"}], **fields}
    return json.dumps(chat).encode()


def run(scenario: Scenario, *, key: str = KEY) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60), messages_cloud() as cloud:
            upstream = LitellmUpstream(Target(cloud.url, key, {"x-extra": "1"}, connect_timeout=2.0), SHARED)
            try:
                await scenario(cloud, upstream)
            finally:
                await upstream.aclose()

    asyncio.run(bounded())
    assert [thread.name for thread in threading.enumerate() if "litellm" in thread.name] == []


async def ask(upstream: LitellmUpstream, **fields: Any) -> tuple[HandedReply, bytes]:
    reply = await upstream.send(body(**fields), {})
    return reply, await reply.read_all(10**7)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


def test_a_whole_answer_with_thinking_and_a_tool_call_comes_in_openais_words() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.thinks = True
        reply, data = await ask(upstream, tools=[TOOL], seed=4, api_base="http://127.0.0.1:9", max_tokens=50)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        answer = json.loads(data)
        message = answer["choices"][0]["message"]
        assert message["content"] == "Dams need spillways."
        assert message["reasoning_content"] == "Water rises."
        assert message["thinking_blocks"][0]["signature"] == "c2ln"
        assert message["tool_calls"][0]["function"]["name"] == "level"
        assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"dam": "Banqiao"}
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (15, 3)
        assert b"provider_specific_fields" not in data
        sent = cloud.requests[0]
        assert (sent["max_tokens"], sent["tools"][0]["name"], "seed" in sent) == (50, "level", False)
        assert (cloud.heads[0]["x-api-key"], cloud.heads[0]["x-extra"]) == (KEY, "1")
        assert KEY not in repr(upstream)

    run(scenario)


def test_a_stream_is_frames_with_usage_at_the_end_and_the_end_mark() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.thinks = True
        reply, data = await ask(upstream, stream=True, stream_options={"include_usage": True}, tools=[TOOL])
        assert reply.headers["content-type"].startswith("text/event-stream")
        frames = [sse.read(raw) for raw in sse.frames(data)]
        assert [frame.kind for frame in frames[-3:]] == ["finish", "usage", "done"]
        assert frames[-3].finish == "tool_calls"
        assert frames[-2].usage is not None
        assert (frames[-2].usage.prompt, frames[-2].usage.completion, frames[-2].usage.cached) == (15, 3, 4)
        deltas = [json.loads(frame.data)["choices"][0]["delta"] for frame in frames[:-2]]
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Water rises."
        assert "".join(delta.get("content") or "" for delta in deltas) == "Dams need spillways."
        calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
        assert json.loads("".join(call.get("arguments") or "" for call in calls)) == {"dam": "Banqiao"}
        assert reply.at_end()

    run(scenario)


def test_an_answer_that_says_one_word_over_and_over_arrives_whole() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.words = ["word "] * 300
        _, data = await ask(upstream, stream=True)
        assert data.count(b'"word "') == 300
        assert data.endswith(sse.DONE)

    run(scenario)


def test_an_error_in_the_middle_of_a_stream_is_a_frame_that_says_so() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.breaks = "error"
        _, data = await ask(upstream, stream=True)
        signal = in_band(DIALECT, sse.frames(data)[-1])
        assert signal is not None
        assert outcome(signal) == Overloaded()
        assert sse.DONE not in data

    run(scenario)


def test_a_stream_that_breaks_off_and_a_closed_port_are_told_apart() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.breaks = "cut"
        reply = await upstream.send(body(stream=True), {})
        with pytest.raises(UpstreamError) as caught:
            await reply.read_all(10**6)
        assert caught.value.phase == "protocol"
        elsewhere = LitellmUpstream(Target("http://127.0.0.1:9", KEY), SHARED)
        with pytest.raises(UpstreamError) as caught:
            await elsewhere.send(body(), {})
        assert caught.value.phase == "connect"
        await elsewhere.aclose()
        with pytest.raises(UpstreamError, match="closed"):
            await elsewhere.send(body(), {})

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_before_the_head_frees_the_clouds_slot_at_once(stream: bool) -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.prefill = 30.0
        task = asyncio.create_task(upstream.send(body(stream=stream), {}))
        await until(lambda: cloud.in_flight == 1)
        task.cancel()
        await asyncio.wait_for(until(lambda: cloud.in_flight == 0), 0.5)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cloud.hung_up == 1

    run(scenario)


def test_abort_frees_the_slot_at_once_wakes_the_reader_and_may_be_repeated() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.gap = 30.0
        reply = await upstream.send(body(stream=True), {})
        asyncio.get_running_loop().call_later(0.01, reply.abort)
        with pytest.raises(UpstreamError, match="aborted"):
            await reply.read_all(10**6)
        await asyncio.wait_for(until(lambda: cloud.in_flight == 0), 0.5)
        reply.abort()
        assert repr(upstream) == "<LitellmUpstream [open 0]>"

    run(scenario)


def test_closing_ends_what_is_under_way_and_the_thread() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.prefill = 30.0
        task = asyncio.create_task(upstream.send(body(), {}))
        await until(lambda: cloud.in_flight == 1)
        await upstream.aclose()
        with pytest.raises(UpstreamError):
            await task
        await asyncio.wait_for(until(lambda: cloud.in_flight == 0), 0.5)
        await upstream.aclose()

    run(scenario)


def test_the_thread_lasts_as_long_as_its_last_user_and_can_begin_again() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), messages_cloud() as cloud:
            target = Target(cloud.url, KEY)
            one, two = LitellmUpstream(target, SHARED), LitellmUpstream(target, SHARED)
            await one.aclose()
            assert (await ask(two))[0].status == 200
            leaving = asyncio.create_task(two.aclose())
            await asyncio.sleep(0)
            again = LitellmUpstream(target, SHARED)
            assert (await ask(again))[0].status == 200
            await leaving
            await again.aclose()

    asyncio.run(scenario())
    assert [thread.name for thread in threading.enumerate() if "litellm" in thread.name] == []


def test_it_never_queues() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.prefill = 60.0
        tasks = [asyncio.create_task(upstream.send(body(), {})) for _ in range(150)]
        await until(lambda: cloud.in_flight == 150)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: cloud.in_flight == 0)

    run(scenario)


def test_a_slow_reader_holds_a_bounded_amount_and_gets_everything() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.words = [f"{number:06d}" * 5000 for number in range(1000)]
        reply = await upstream.send(body(stream=True), {})
        seen = -1
        while cloud.sent != seen:
            seen = cloud.sent
            await asyncio.sleep(0.5)
        assert cloud.sent < 30_000_000 / 2, "of 30 MB, no more is under way than sockets and we hold"
        data = await reply.read_all(10**8)
        assert data.count(b'"content":"') == 1000
        assert data.endswith(sse.DONE)

    run(scenario)


def test_an_answer_beyond_the_limit_is_an_error_and_hangs_up() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.words, cloud.gap = [f"{number}" * 100 for number in range(1000)], 0.001
        reply = await upstream.send(body(stream=True), {})
        with pytest.raises(UpstreamError, match="more than 1000 bytes"):
            await reply.read_all(1000)
        await asyncio.wait_for(until(lambda: cloud.in_flight == 0), 0.5)

    run(scenario)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "file:///etc/passwd"])
def test_nothing_is_fetched_for_a_client(url: str) -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        reply, data = await ask(upstream, messages=picture)
        assert outcome(classify(DIALECT, reply.status, reply.headers, data)) == Rejected("invalid")
        assert cloud.requests == []

    run(scenario)


def test_a_request_that_must_not_reach_litellm_is_refused_as_the_clients_fault() -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        reply, data = await ask(upstream, tools=[{"type": "mcp", "server_url": "litellm_proxy"}])
        assert outcome(classify(DIALECT, reply.status, reply.headers, data)) == Rejected("invalid")
        reply.abort()
        assert cloud.requests == []

    run(scenario)


def test_neither_output_nor_log_says_anything_and_no_key_gets_out(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cloud: MessagesCloud, upstream: LitellmUpstream) -> None:
        cloud.refuse = (401, f"the key {wrong} is not known", {})
        reply, data = await ask(upstream)
        assert reply.status == 401
        assert wrong.encode() not in data

    wrong = "sk-ant-wrong-4711"
    with caplog.at_level(logging.DEBUG):
        run(scenario, key=wrong)
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert wrong not in caplog.text
    assert not [record for record in caplog.records if record.name.lower().startswith("litellm")]


def test_where_litellm_cannot_be_loaded_its_backends_cannot_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    def absent() -> ModuleType:
        raise ImportError("no such module, and sk-secret")

    async def scenario() -> None:
        upstream = LitellmUpstream(Target("http://127.0.0.1:9", KEY), Room(absent))
        with pytest.raises(UpstreamError, match="not installed") as caught:
            await upstream.send(body(), {})
        assert caught.value.phase == "connect"
        await upstream.aclose()

    asyncio.run(scenario())
    assert "litellm cannot be used: ImportError" in caplog.text
    assert "sk-secret" not in caplog.text
