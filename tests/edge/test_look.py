"""/traces and /explain: for who may see /status, in plain data."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from gateway.core.explain import Candidate
from gateway.core.nouns import Request
from gateway.edge import routes
from gateway.pipeline.authenticate import LOCAL
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.live import Live
from gateway.pipeline.lookup import Lookup
from gateway.policy.load import load_text
from gateway.service import Call
from gateway.telemetry.traces import Tracing
from gateway.testing import MemoryUpstream, Script
from gateway.upstream import presets
from gateway.wire.dialect import Dialect

DOCUMENT = """
models: {r2: {aliases: [deepseek-r2]}, flash: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, flash: y}}}
policies: {p: {tiers: [{backends: [one]}]}}
"""
asked: list[Request] = []


def explain(request: Request) -> tuple[Candidate, ...]:
    asked.append(request)
    return (Candidate("one", 0, True, True, (), (), float("inf"), chosen=True),)


async def _nothing() -> bytes:
    return b""


def get(path: str, *, admin_key: str = "", key: str = "", remembered: bool = True) -> httpx.Response:
    async def whole() -> httpx.Response:
        live = Live(lambda connection, timeout: (MemoryUpstream(Script()), Dialect("plain")))
        live.install(load_text(DOCUMENT, {}, presets.infos()))
        tracing = Tracing(outcome_name, lambda: 1.8e9, lambda: 0.0)
        for number in range(3):
            call = Call(f"req-{number}", float(number), {}, _nothing)
            call.caller, call.ended = LOCAL, number + 1.0 + number
            tracing.fold(call)
        inside = routes.Inside(
            live, lambda: 0.0, lambda: (True, {}), lambda: b"", dict, lambda: "req-x", admin_key,
            lookup=Lookup(tracing) if remembered else None, explain=explain,
        )  # fmt: skip
        transport = httpx.ASGITransport(routes.build(inside), client=("127.0.0.1" if not key else "10.9.9.9", 1))
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(whole())


def data(path: str) -> Any:
    answer = get(path)
    assert answer.is_success, answer.text
    return answer.json()


def test_one_request_is_found_and_another_is_not() -> None:
    found = data("/traces/req-1")
    assert (found["id"], found["root"]["name"]) == ("req-1", "POST /v1/chat/completions")
    lost = get("/traces/req-9")
    assert (lost.status_code, lost.json()["error"]["code"]) == (404, "trace_not_found")
    assert get("/traces/req-1", remembered=False).status_code == 404


def test_requests_are_picked() -> None:
    assert [told["id"] for told in data("/traces")["data"]] == ["req-2", "req-1", "req-0"]
    assert [told["id"] for told in data("/traces?pick=slow&count=1")["data"]] == ["req-2"]
    assert data("/traces?pick=failed")["data"] == []
    assert get("/traces?pick=best").json()["error"]["param"] == "pick"
    assert get("/traces?count=many").json()["error"]["param"] == "count"
    assert get("/traces?count=1001").status_code == 400
    assert get("/traces", remembered=False).json()["data"] == []


def test_who_may_not_see_the_status_may_not_look_here_either() -> None:
    for path in ("/traces", "/traces/req-1", "/explain?model=r2"):
        assert get(path, admin_key="sk-admin", key="sk-other").status_code == 401
        assert get(path, key="sk-other").status_code == 403
        assert get(path, admin_key="sk-admin", key="sk-admin").status_code == 200


def test_every_answer_has_its_server_timing() -> None:
    assert get("/traces").headers["server-timing"].startswith("read;dur=0.00, queue;dur=0.00")


def test_a_running_gateway_explains_a_request() -> None:
    asked.clear()
    words = "model=deepseek-r2&class=batch&tenant=acme&prompt_tokens=100&max_tokens=7&stream=no"
    found = data(f"/explain?{words}")
    assert (found["model"], found["policy"]) == ("r2", "p")
    assert found["candidates"][0]["score"] is None
    (request,) = asked
    assert (request.tenant, request.class_, request.max_tokens, request.stream) == ("acme", "batch", 7, False)
    assert request.prompt_bytes >= 300
    assert get("/explain").json()["error"]["code"] == "model_not_found"
    assert get("/explain?model=r3").status_code == 404
    assert get("/explain?model=r2&class=vip").json()["error"]["param"] == "class"
