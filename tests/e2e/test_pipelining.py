"""Several requests sent on one connection before the first is answered; heads without bodies; closing when asked to."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx


def talk(gateway: Any, text: bytes, until: int) -> bytes:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(text)
        found = b""
        while found.count(b"HTTP/1.1 ") < until or not found.endswith(b"}"):
            piece = client.recv(65536)
            if not piece:
                break
            found += piece
    return found


def post(key: str, *more: str, **fields: object) -> bytes:
    body = json.dumps({"model": "r2", "messages": [{"role": "user"}], "max_tokens": 4, **fields}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {key}", *more]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def test_answers_come_in_the_order_of_the_requests(gateway: Any, key: str) -> None:
    found = talk(gateway, post(key) + post(key, max_tokens=0) + post(key), until=3)
    statuses = [part[:3] for part in found.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200"]
    gateway.quiet()


def test_a_client_that_asks_to_close_is_told_and_closed(gateway: Any, key: str) -> None:
    found = talk(gateway, post(key, "connection: close"), until=99)
    assert b"\r\nconnection: close" in found.partition(b"\r\n\r\n")[0]
    assert found.endswith(b"}")


def test_a_client_that_waits_to_be_told_to_go_on_is_told(gateway: Any, key: str) -> None:
    found = talk(gateway, post(key, "expect: 100-continue"), until=2)
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_a_head_without_a_body_is_answered(gateway: Any) -> None:
    answer = httpx.head(f"{gateway.url}/livez", timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")
