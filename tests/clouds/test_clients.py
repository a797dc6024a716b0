"""The official SDK against a pretend cloud, and `spillgate mock` as a real process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest

from gateway.clouds.server import Running

Live = Callable[..., None]
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def test_the_openai_sdk_can_talk_to_it(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        http = openai.DefaultAsyncHttpxClient(trust_env=False)
        async with openai.AsyncOpenAI(base_url=running.base_url("cloud"), api_key="k", http_client=http) as client:
            ask = client.chat.completions.create
            say = [{"role": "user", "content": "hi"}]
            plain = await ask(model="deepseek-r2", messages=say)
            stream = await ask(model="deepseek-r2", messages=say, stream=True, stream_options={"include_usage": True})
            chunks = [chunk async for chunk in stream]
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert streamed == plain.choices[0].message.content
            assert chunks[-1].usage == plain.usage
            called = await ask(model="deepseek-r2", messages=say, tools=TOOLS)
            assert called.choices[0].finish_reason == "tool_calls"
            assert [model.id for model in (await client.models.list()).data] == ["deepseek-r2"]
            await running.set("cloud", limits={"rpm": 1})
            with pytest.raises(openai.RateLimitError):
                await client.with_options(max_retries=0).chat.completions.create(model="deepseek-r2", messages=say)

    live(scenario, laws={"t0": "1ms", "prefill": 1e6}, answer={"reasoning": 0.3})


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_mock_verb_serves_and_exits_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("clouds: {a: {key: sk-1, limits: {streams: 3}, dialect: ark}}")
    command = [sys.executable, "-m", "gateway", "mock", str(path), "--control", "0", "--seed", "4", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        base = told["clouds"]["a"]["base_url"]
        assert "preset: volcengine-ark" in told["clouds"]["a"]["stanza"]
        assert httpx.get(f"{base}/models", headers={"authorization": "Bearer sk-1"}, trust_env=False).status_code == 200
        assert httpx.get(f"{told['control']}/stats", trust_env=False).json()["a"]["limits"] == {"streams": 3}
        process.send_signal(number)
        assert process.wait(5) == 0


def test_the_mock_verb_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("clouds: {a: {keys: 1}}")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "mock", str(path)], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    assert "did you mean key?" in done.stderr


def test_many_streams_at_once_are_all_answered(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        call = {"model": "deepseek-r2", "messages": [{"role": "user", "content": "x"}], "stream": True}
        answers = await asyncio.gather(*(client.post("/chat/completions", json=call) for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
        stats = running.stats()["cloud"]
        assert (stats["completed"], stats["peak"]["running"]) == (60, 20)

    live(scenario, laws={"t0": "1ms", "prefill": 1e6}, slots=20, queue="unbounded")
