"""A cloud that speaks Anthropic's Messages behind the whole gateway, asked with the OpenAI SDK."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.testing.messages import KEY, MessagesCloud, messages_cloud
from gateway.testing.processes import Clouds, Gateway

MESSAGES: Any = [{"role": "user", "content": "Why do dams have spillways?"}]
TOOL: Any = {"type": "function", "function": {"name": "level", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def anthropic() -> Iterator[MessagesCloud]:
    """It listens in a thread of its own; its attributes may be set from here."""
    ready: list[MessagesCloud] = []
    begun, ended = threading.Event(), threading.Event()

    async def life() -> None:
        async with messages_cloud() as cloud:
            ready.append(cloud)
            begun.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(life(),))
    thread.start()
    assert begun.wait(10)
    yield ready[0]
    ended.set()
    thread.join(10)


@pytest.fixture(scope="module")
def dialects(clouds: Clouds, anthropic: MessagesCloud) -> Iterator[Gateway]:
    env = {"CLAUDE_URL": anthropic.url, "CLAUDE_KEY": KEY}
    process = Gateway(Path(__file__).with_name("dialects.yaml"), clouds, env=env)
    yield process
    assert process.stop() == 0
    said = "".join(process.lines)
    assert "Traceback" not in said
    assert KEY not in said
    assert "litellm" not in said.lower()


@pytest.fixture
def cloud(anthropic: MessagesCloud, clouds: Clouds) -> Iterator[MessagesCloud]:
    """The pretend Anthropic in its first state, and quiet afterwards."""
    fresh = MessagesCloud()
    for name in ("refuse", "words", "thinks", "prefill", "gap", "breaks", "streams", "peak"):
        setattr(anthropic, name, getattr(fresh, name))
    yield anthropic
    clouds.set("own", fail="")
    wait_for(lambda: anthropic.in_flight == 0)


@pytest.fixture
def client(dialects: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=dialects.base, api_key="any", max_retries=0, timeout=30) as found:
        yield found
    wait_for(lambda: dialects.status()["fleet"]["totals"]["in_flight"] == 0)


def wait_for(condition: Callable[[], bool], within: float = 5.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def served_by(client: openai.OpenAI, model: str, **fields: Any) -> str:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, **fields)
    return raw.headers["x-spillgate-backend"]


def test_a_plain_answer(client: openai.OpenAI, cloud: MessagesCloud) -> None:
    answer = client.chat.completions.create(model="claude-first", messages=MESSAGES, tools=[TOOL])
    assert answer.choices[0].message.content == "Dams need spillways."
    call: Any = (answer.choices[0].message.tool_calls or [None])[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("level", {"dam": "Banqiao"})
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 3)
    assert cloud.requests[-1]["model"] == "claude-pretend"


def test_a_streamed_answer_with_reasoning_and_usage_only_when_asked_for(
    client: openai.OpenAI, cloud: MessagesCloud
) -> None:
    cloud.thinks = True
    for asked in (False, True):
        options: Any = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = list(client.chat.completions.create(model="claude-first", messages=MESSAGES, stream=True, **options))
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert "".join(delta.content or "" for delta in deltas) == "Dams need spillways."
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Water rises."
        assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([3] if asked else [])


def test_its_limit_holds_and_the_rest_spills(client: openai.OpenAI, cloud: MessagesCloud) -> None:
    """Before it has refused anybody: it comes back from that one stream at a time."""
    cloud.prefill, cloud.streams = 1.5, 2
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(served_by, client, "claude-first", max_tokens=4) for _ in range(6)]
        by = [answer.result() for answer in asked]
    assert cloud.peak == 2
    assert by.count("claude") >= 2
    assert by.count("own") >= 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [529, 500])
def test_what_it_refuses_another_serves_and_then_it_serves_again(
    client: openai.OpenAI, cloud: MessagesCloud, status: int, stream: bool
) -> None:
    cloud.refuse = (status, "not now", {"retry-after": "0"})
    assert served_by(client, "claude-first", stream=stream, max_tokens=4) == "own"
    cloud.refuse = None
    wait_for(lambda: served_by(client, "claude-first", stream=stream, max_tokens=4) == "claude", within=15.0)


@pytest.mark.parametrize("stream", [False, True])
def test_it_serves_what_another_cannot(
    client: openai.OpenAI, cloud: MessagesCloud, clouds: Clouds, stream: bool
) -> None:
    assert served_by(client, "own-first", stream=stream, max_tokens=4) == "own"
    clouds.set("own", fail="crash")
    assert served_by(client, "own-first", stream=stream) == "claude"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_who_leaves_frees_its_slot_at_once(client: openai.OpenAI, cloud: MessagesCloud, stream: bool) -> None:
    cloud.prefill, before = 60.0, cloud.hung_up
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="claude-first", messages=MESSAGES, stream=stream, timeout=1.0)
    wait_for(lambda: cloud.hung_up == before + 1, within=2.0)


def test_a_client_who_leaves_a_stream_frees_its_slot_at_once(client: openai.OpenAI, cloud: MessagesCloud) -> None:
    cloud.gap, before = 0.5, cloud.hung_up
    stream = client.chat.completions.create(model="claude-first", messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    wait_for(lambda: cloud.hung_up == before + 1, within=2.0)


def test_what_the_client_did_wrong_is_told_in_the_clouds_words(client: openai.OpenAI, cloud: MessagesCloud) -> None:
    cloud.refuse = (400, "prompt is too long: 210000 tokens > 200000 maximum", {})
    with pytest.raises(openai.BadRequestError, match="prompt is too long") as caught:
        client.chat.completions.create(model="claude-first", messages=MESSAGES)
    assert caught.value.code == "context_length_exceeded"


def test_an_answer_that_breaks_in_the_middle_ends_with_an_honest_error(
    client: openai.OpenAI, cloud: MessagesCloud
) -> None:
    cloud.breaks = "error"
    with pytest.raises(openai.APIError, match="ended the answer with an error"):
        list(client.chat.completions.create(model="claude-first", messages=MESSAGES, stream=True))
