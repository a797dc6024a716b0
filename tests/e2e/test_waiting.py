"""Waiting aloud and giving something up, over sockets and through the real OpenAI SDK."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

MESSAGES: Any = [{"role": "user", "content": "Why do dams have spillways?"}]
DOCUMENT = """
models: {r2: {}}
backends: {own: {preset: vllm, base_url: "${OWN_URL}", serves: {r2: r2-own}, limits: {streams: 2}, learn: off}}
policies:
  p:
    tiers: [{backends: [own]}]
    queue: {max_wait: 1s, comment_after: 200ms}
    degrade: [{at: 0.5, max_tokens: 12, thinking: off}]
tenants: {acme: {keys: ["${ACME_KEY}"]}}
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("waiting") / "gateway.yaml"
    path.write_text(DOCUMENT)
    return path


@pytest.fixture
def house(start: Any, document: Path) -> Iterator[Any]:
    gateway = start(document)
    yield gateway
    gateway.quiet()


def asking(gateway: Any, key: str, **more: object) -> socket.socket:
    """A streamed request on a plain socket, whose head has been answered."""
    fields = {"model": "r2", "messages": MESSAGES, "stream": True, "max_tokens": 20000, **more}
    body = json.dumps(fields).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    never = "x-spillgate-degrade: never\r\n"
    client.sendall(f"{head}{never}content-length: {len(body)}\r\n\r\n".encode() + body)
    return client


def heard(client: socket.socket, what: bytes) -> bytes:
    found = b""
    while what not in found:
        block = client.recv(65536)
        assert block, found
        found += block
    return found


@pytest.fixture
def full(house: Any, key: str) -> Iterator[list[socket.socket]]:
    """Both places are taken, for as long as these are open."""
    holders = [asking(house, key) for _ in range(2)]
    for holder in holders:
        heard(holder, b"data: ")
    yield holders
    for holder in holders:
        holder.close()


@pytest.fixture
def client(house: Any, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=house.base, api_key=key, max_retries=0) as found:
        yield found


def test_the_sdk_reads_over_comments_to_the_answer(full: list[socket.socket], client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="r2", messages=MESSAGES, stream=True, max_tokens=6) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["x-spillgate-policy"] == "p"
        assert stream.response.headers["x-spillgate-attempts"] == "0"
        for holder in full:
            holder.close()
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text


def test_the_sdk_raises_what_went_wrong_after_a_comment(full: list[socket.socket], client: openai.OpenAI) -> None:
    assert full
    stream = client.chat.completions.create(model="r2", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="No capacity came free") as caught:
        list(stream)
    body: Any = caught.value.body
    assert (body["code"], body["reason"]) == ("capacity_max_wait", "max-wait")
    assert body["limit"] == "own: streams 2 of 2"


def test_a_plain_request_gets_its_status_and_says_why(full: list[socket.socket], client: openai.OpenAI) -> None:
    assert full
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="r2", messages=MESSAGES)
    body: Any = caught.value.body
    assert {"reason", "limit", "expected_wait", "retry_after"} <= body.keys()
    assert caught.value.response.headers["retry-after"] == str(body["retry_after"])


def test_who_leaves_while_he_is_told_frees_his_place(house: Any, full: list[socket.socket], key: str) -> None:
    waiting = asking(house, key)
    assert b": waiting position=1" in heard(waiting, b": waiting")
    fleet = house.status()["fleet"]
    assert fleet["waiting_classes"]["standard"] == 1
    assert fleet["waiting_oldest"]["standard"] >= 0.2
    assert fleet["pressures"][1]["pressure"] >= 1.0
    metrics = httpx.get(f"{house.url}/metrics").text
    assert 'spillgate_rung{class="standard",model="r2"}' in metrics
    assert 'spillgate_waiting_oldest_seconds{class="batch"} 0.0' in metrics
    waiting.close()
    until = time.monotonic() + 1.0
    while house.status()["fleet"]["totals"]["waiting"]:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert full


def test_a_rung_shortens_the_answer_and_says_so(house: Any, key: str, client: openai.OpenAI) -> None:
    with asking(house, key) as holder:
        heard(holder, b"data: ")
        raw = client.chat.completions.with_raw_response.create(model="r2", messages=MESSAGES, max_tokens=500)
        insists = client.chat.completions.create(
            model="r2", messages=MESSAGES, max_tokens=20, extra_headers={"x-spillgate-degrade": "never"}
        )
    assert raw.headers["x-spillgate-degraded"] == "max_tokens=12, thinking=off"
    answer = raw.parse()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    assert insists.usage is not None
    assert insists.usage.completion_tokens == 20
