"""A client who leaves ends his request at once, wherever it is: slots free, the cloud told, nobody else delayed."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import httpx
import pytest

BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2000}


def head(key: str, length: int) -> bytes:
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: x",
        f"authorization: Bearer {key}",
        f"content-length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def raw(gateway: Any, key: str, **fields: object) -> socket.socket:
    """A request on a plain socket, so that leaving is just closing it."""
    body = json.dumps({**BODY, **fields}).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(head(key, len(body)) + body)
    return client


def wait_for(condition: Any, within: float = 3.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reset", [True, False])
def test_leaving_a_running_request_stops_the_cloud(gateway: Any, key: str, stream: bool, reset: bool) -> None:
    client = raw(gateway, key, stream=stream)
    wait_for(lambda: gateway.clouds.in_flight() == 1)
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    gateway.quiet(within=1.0)


def test_leaving_during_the_stream_stops_the_cloud(gateway: Any, key: str) -> None:
    client = raw(gateway, key, stream=True)
    while b"data:" not in client.recv(4096):
        pass
    client.close()
    gateway.quiet(within=1.0)


def test_leaving_the_queue_leaves_nothing_behind(gateway: Any, key: str) -> None:
    clients = [raw(gateway, key, stream=True) for _ in range(10)]
    wait_for(lambda: gateway.clouds.in_flight() == 10)
    waiting = [raw(gateway, key, stream=index % 2 == 0) for index in range(5)]
    wait_for(lambda: gateway.status()["fleet"]["totals"]["waiting"] == 5)
    for client in waiting:
        client.close()
    wait_for(lambda: gateway.status()["fleet"]["totals"]["waiting"] == 0)
    assert gateway.clouds.in_flight() == 10
    for client in clients:
        client.close()
    gateway.quiet(within=1.0)


def test_leaving_before_the_body_is_complete_leaves_nothing_behind(gateway: Any, key: str) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head(key, 500) + b"{")
        time.sleep(0.05)
    wait_for(lambda: gateway.status()["active"] == 0)


def test_a_slot_freed_by_one_who_left_serves_the_next(gateway: Any, key: str) -> None:
    clients = [raw(gateway, key, stream=True) for _ in range(10)]
    wait_for(lambda: gateway.clouds.in_flight() == 10)

    async def scenario() -> httpx.Response:
        async with httpx.AsyncClient() as http:
            headers = {"authorization": f"Bearer {key}"}
            task = asyncio.create_task(
                http.post(
                    f"{gateway.base}/chat/completions", json={**BODY, "max_tokens": 4}, headers=headers, timeout=10
                )
            )
            await asyncio.sleep(0.2)
            assert not task.done()
            clients.pop(0).close()
            return await task

    answer = asyncio.run(scenario())
    assert answer.status_code == 200, answer.text
    assert 100 < float(answer.headers["x-spillgate-queue-ms"]) < 1900
    for client in clients:
        client.close()
    gateway.quiet(within=1.0)
