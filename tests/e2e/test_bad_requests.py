"""Thirty broken requests: each gets a 4xx in OpenAI's envelope with the routing headers; nothing leaks."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

GOOD = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def j(**fields: object) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def without(*names: str) -> bytes:
    return json.dumps({k: v for k, v in GOOD.items() if k not in names}).encode()


BROKEN: dict[str, tuple[str, str, dict[str, str], bytes, int, str]] = {
    "empty body": ("POST", "/v1/chat/completions", {}, b"", 400, "invalid_json"),
    "not JSON": ("POST", "/v1/chat/completions", {}, b"hello", 400, "invalid_json"),
    "half JSON": ("POST", "/v1/chat/completions", {}, j()[:30], 400, "invalid_json"),
    "an array": ("POST", "/v1/chat/completions", {}, b"[1]", 400, "invalid_json"),
    "a number": ("POST", "/v1/chat/completions", {}, b"7", 400, "invalid_json"),
    "two objects": ("POST", "/v1/chat/completions", {}, j() + j(), 400, "invalid_json"),
    "bad bytes": ("POST", "/v1/chat/completions", {}, b"\xff\xfe\x00", 400, "invalid_json"),
    "no model": ("POST", "/v1/chat/completions", {}, without("model"), 400, "missing_model"),
    "empty model": ("POST", "/v1/chat/completions", {}, j(model=""), 400, "invalid_type"),
    "model a number": ("POST", "/v1/chat/completions", {}, j(model=5), 400, "invalid_type"),
    "model null": ("POST", "/v1/chat/completions", {}, j(model=None), 400, "invalid_type"),
    "unknown model": ("POST", "/v1/chat/completions", {}, j(model="gpt-9"), 404, "model_not_found"),
    "a very long model": ("POST", "/v1/chat/completions", {}, j(model="m" * 100_000), 404, "model_not_found"),
    "no messages": ("POST", "/v1/chat/completions", {}, without("messages"), 400, "invalid_messages"),
    "messages a string": ("POST", "/v1/chat/completions", {}, j(messages="hi"), 400, "invalid_messages"),
    "messages empty": ("POST", "/v1/chat/completions", {}, j(messages=[]), 400, "invalid_messages"),
    "messages null": ("POST", "/v1/chat/completions", {}, j(messages=None), 400, "invalid_messages"),
    "stream a string": ("POST", "/v1/chat/completions", {}, j(stream="true"), 400, "invalid_type"),
    "stream a number": ("POST", "/v1/chat/completions", {}, j(stream=1), 400, "invalid_type"),
    "stream_options a list": ("POST", "/v1/chat/completions", {}, j(stream_options=[]), 400, "invalid_type"),
    "max_tokens zero": ("POST", "/v1/chat/completions", {}, j(max_tokens=0), 400, "invalid_value"),
    "max_tokens negative": ("POST", "/v1/chat/completions", {}, j(max_tokens=-5), 400, "invalid_value"),
    "max_tokens a float": ("POST", "/v1/chat/completions", {}, j(max_tokens=1.5), 400, "invalid_value"),
    "max_completion_tokens a string": (
        "POST", "/v1/chat/completions", {}, j(max_completion_tokens="9"), 400, "invalid_value",
    ),
    "no key": ("POST", "/v1/chat/completions", {"authorization": ""}, j(), 401, "missing_api_key"),
    "a wrong key": ("POST", "/v1/chat/completions", {"authorization": "Bearer nope"}, j(), 401, "invalid_api_key"),
    "another scheme": ("POST", "/v1/chat/completions", {"authorization": "Basic YTpi"}, j(), 401, "missing_api_key"),
    "a key that is no ASCII": (
        "POST", "/v1/chat/completions", {"authorization": "Bearer sk-\xe9"}, j(), 401, "invalid_api_key",
    ),
    "too large": ("POST", "/v1/chat/completions", {}, j(x="y" * (17 << 20)), 413, "body_too_large"),
    "another method": ("GET", "/v1/chat/completions", {}, b"", 405, "method_not_allowed"),
    "another place": ("POST", "/v1/chat/completion", {}, j(), 404, "unknown_url"),
    "posting to the list of models": ("POST", "/v1/models", {}, j(), 405, "method_not_allowed"),
    "models without a key": ("GET", "/v1/models", {"authorization": ""}, b"", 401, "missing_api_key"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "body", "status", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_request_gets_a_clear_answer(
    gateway: Any, key: str, method: str, path: str, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    before = gateway.clouds.stats()
    sent = {"authorization": f"Bearer {key}", **headers}
    sent = {name: value for name, value in sent.items() if value}
    answer = httpx.request(
        method, gateway.url + path, content=body, headers={n: v.encode("latin-1") for n, v in sent.items()}
    )
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) >= {"message", "type", "param", "code"}
    assert len(answer.content) < 2000
    for name in ("x-request-id", "x-spillgate-backend", "x-spillgate-attempts", "x-spillgate-overhead-ms"):
        assert name in answer.headers, name
    after = gateway.clouds.stats()
    assert [cloud["requests"] for cloud in after.values()] == [cloud["requests"] for cloud in before.values()]


def test_a_chunked_body_is_bounded_too(gateway: Any, key: str) -> None:
    def endless() -> Any:
        for _ in range(400):
            yield b"x" * 65536

    headers = {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.post(f"{gateway.base}/chat/completions", content=endless(), headers=headers)
    except httpx.WriteError:
        return  # it hung up on us while we were still talking: fine too
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "junk", [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n"]
)
def test_what_is_not_http_is_answered_or_hung_up_on(gateway: Any, junk: bytes) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(junk)
        assert client.recv(100)[:12] in {b"", b"HTTP/1.1 400"}


def test_looking_inside_is_for_this_machine_or_the_admin(gateway: Any) -> None:
    assert httpx.get(f"{gateway.url}/livez").json() == {"status": "alive"}
    assert httpx.get(f"{gateway.url}/readyz").json()["status"] == "ready"
    assert "spillgate_requests_total" in httpx.get(f"{gateway.url}/metrics").text
    assert httpx.get(f"{gateway.url}/status").json()["fleet"]["backends"]
