"""Real sockets: what a client of a pretend cloud sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.clouds.server import Running

Live = Callable[..., None]
FAST = {"t0": "1ms", "prefill": 1_000_000}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "deepseek-r2", "messages": [{"role": "user", "content": "hello there"}], "stream": True, **more}


async def ask(client: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await client.post("/chat/completions", json=chat(**more))


def chunks(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


def text(body: str, field: str = "content") -> str:
    return "".join(c["choices"][0]["delta"].get(field) or "" for c in chunks(body) if c["choices"])


async def until(claim: Callable[[], bool], within: float) -> None:
    async with asyncio.timeout(within):
        while not claim():
            await asyncio.sleep(0.002)


def test_a_stream_is_well_formed_and_ends_with_done(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        answer = await ask(client)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"] == "cloud-00000001"
        assert answer.text.endswith("data: [DONE]\n\n")
        found = chunks(answer.text)
        assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [c["choices"][0]["finish_reason"] for c in found] == [None] * 11 + ["stop"]
        assert len(text(answer.text).split()) == 10
        plain = (await ask(client, stream=False)).json()
        assert plain["choices"][0]["message"]["content"] == text(answer.text)
        assert plain["usage"]["completion_tokens"] == 10
        assert running.stats()["cloud"]["completed"] == 2

    live(scenario, laws=FAST)


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/chat/completions", "/api/v3/chat/completions"])
def test_any_base_path_will_do(live: Live, path: str) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"http://127.0.0.1:{running.ports['cloud']}{path}", json=chat())
        assert answer.status_code == 200

    live(scenario, laws=FAST)


def test_keep_alives_are_comments_in_a_stream_and_blank_lines_before_json(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        streamed, plain = await asyncio.gather(ask(client), ask(client, stream=False))
        assert streamed.text.startswith(": keep-alive\n\n")
        assert plain.text.startswith("\n")
        assert plain.json()["choices"][0]["finish_reason"] == "stop"

    live(scenario, laws={"net": 0.1}, style={"keep_alive": 0.02})


def test_a_stall_leaves_the_socket_open_and_the_slot_taken(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/chat/completions", json=chat(), timeout=0.3)
        await until(lambda: running.stats()["cloud"]["in_flight"] == 0, 0.1)
        assert running.stats()["cloud"]["disconnects"] == 1

    live(scenario, laws=FAST, faults={"stall": 1})


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_ends_without_an_end(live: Live, stream: bool) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(client, stream=stream)

    live(scenario, laws=FAST, faults={"cut": 1})


def test_an_error_may_come_as_a_frame_after_200(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        answer = await ask(client)
        assert answer.status_code == 200
        assert chunks(answer.text)[-1]["error"]["object"] == "error"
        plain = await ask(client, stream=False)
        assert plain.status_code == 500

    live(scenario, laws=FAST, dialect="vllm", faults={"error_frame": 1})


def test_an_error_may_be_the_first_frame(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        answer = await ask(client)
        (only,) = chunks(answer.text)
        assert (answer.status_code, set(only)) == (200, {"error"})

    live(scenario, laws=FAST, faults={"error_first": 1})


def test_an_answer_may_be_nothing_but_done(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        assert (await ask(client)).text == "data: [DONE]\n\n"
        assert (await ask(client, stream=False)).json()["choices"] == []

    live(scenario, laws=FAST, faults={"only_done": 1})


@pytest.mark.parametrize("stream", [True, False])
def test_a_disconnect_frees_the_slot_within_100_ms(live: Live, stream: bool) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        task = asyncio.create_task(ask(client, stream=stream))
        await until(lambda: running.stats()["cloud"]["in_flight"] == 1, 2)
        assert (await ask(client)).status_code == 429
        task.cancel()
        await until(lambda: running.stats()["cloud"]["in_flight"] == 0, 0.1)
        assert running.stats()["cloud"]["disconnects"] == 1

    live(scenario, limits={"streams": 1}, laws={"net": 5})


def test_whoever_reads_the_end_of_an_answer_finds_the_slot_free(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        for stream in (True, False) * 10:
            assert (await ask(client, stream=stream)).status_code == 200

    live(scenario, limits={"streams": 1}, laws=FAST)


@pytest.mark.parametrize(
    ("limit", "code"), [("rps", "limit_requests"), ("rpm", "limit_requests"), ("ramp", "limit_burst_rate")]
)
def test_requests_above_a_rate_are_refused_in_the_clouds_own_words(live: Live, limit: str, code: str) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(ask(client) for _ in range(5)))
        refused = [a for a in answers if a.status_code == 429]
        assert len(refused) == 2
        assert {a.json()["error"]["code"] for a in refused} == {code}
        assert running.stats()["cloud"]["overruns"] == {limit: 2}
        assert running.stats()["cloud"]["peak"]["streams"] <= 5

    live(scenario, dialect="dashscope", limits={limit: 3}, laws=FAST)


def test_a_wrong_key_an_unknown_model_and_a_broken_body_are_refused(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        assert (await ask(client)).status_code == 401
        assert (await client.get("/models")).status_code == 401
        client.headers["authorization"] = "Bearer sk-1"
        assert (await ask(client, model="gpt")).status_code == 404
        assert (await client.post("/chat/completions", content=b"{")).status_code == 400
        assert (await client.get("/chat/completions")).status_code == 405
        assert (await client.get("/nowhere")).status_code == 404
        models = (await client.get("/models")).json()
        assert [model["id"] for model in models["data"]] == ["deepseek-r2"]
        assert running.stats()["cloud"]["refused"] == {"auth": 1, "not_found": 1, "invalid": 1}

    live(scenario, key="sk-1")


def test_rate_headers_tell_what_is_left(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        headers = (await ask(client, max_tokens=1)).headers
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-remaining-requests"] == "9"
        assert int(headers["x-ratelimit-remaining-tokens"]) < 500

    live(scenario, dialect="qianfan", limits={"rpm": 10, "tpm": 500}, laws=FAST)


def test_modelscope_counts_calls_of_a_day(live: Live) -> None:
    async def scenario(_: Running, client: httpx.AsyncClient) -> None:
        headers = (await ask(client)).headers
        assert headers["modelscope-ratelimit-requests-limit"] == "5"
        assert headers["modelscope-ratelimit-model-requests-remaining"] == "4"

    live(scenario, style={"rate_headers": "modelscope"}, limits={"daily": 5}, laws=FAST)


def test_requests_on_one_connection_are_answered_in_order(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports["cloud"])
        body = json.dumps(chat(stream=False)).encode()
        one = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        writer.write(one + one + b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = (await reader.read()).decode()
        assert answer.count("HTTP/1.1 200 OK") == 3
        assert answer.index("00000001") < answer.index("00000002") < answer.index('"object":"list"')
        assert running.stats()["cloud"]["peak"]["streams"] == 1
        writer.close()

    live(scenario, laws=FAST)


def test_what_is_not_http_is_answered_with_400_and_closed(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports["cloud"])
        writer.write(b"hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request")
        writer.close()

    live(scenario)


def test_a_large_body_is_asked_for_before_it_is_sent(live: Live) -> None:
    async def scenario(running: Running, _: httpx.AsyncClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports["cloud"])
        body = json.dumps(chat(stream=False)).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(body))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()

    live(scenario, laws=FAST)


def test_cut_for_lack_of_capacity_is_a_finish_reason(live: Live) -> None:
    async def scenario(running: Running, client: httpx.AsyncClient) -> None:
        answer = await ask(client)
        assert chunks(answer.text)[-1]["choices"][0]["finish_reason"] == "insufficient_system_resource"
        assert running.stats()["cloud"]["cut"] == 1

    live(scenario, laws=FAST, faults={"no_resource": 1})
