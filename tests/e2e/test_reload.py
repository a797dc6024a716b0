"""Hot reload: atomic, keeps the last good document, never disturbs what runs."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

DOCUMENT = (Path(__file__).parent / "gateway.yaml").read_text()
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(DOCUMENT)
    return path


def models(gateway: Any, key: str) -> set[str]:
    answer = httpx.get(f"{gateway.base}/models", headers={"authorization": f"Bearer {key}"})
    return {model["id"] for model in answer.json()["data"]}


def soon(condition: Callable[[], bool], within: float = 5.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_change_takes_hold_while_a_stream_goes_on(start: Any, document: Path, key: str) -> None:
    gateway = start(document)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.stream(
        "POST", f"{gateway.base}/chat/completions", json={**BODY, "stream": True, "max_tokens": 300}, headers=headers
    ) as stream:
        assert stream.headers["x-spillgate-backend"] == "own"
        blocks = stream.iter_bytes()
        text = next(blocks)
        removed = DOCUMENT.replace("      - {backends: [own]}\n", "").replace("aliases: [r2]", "aliases: [r2, newest]")
        document.write_text(removed)
        soon(lambda: "newest" in models(gateway, key))
        other = httpx.post(f"{gateway.base}/chat/completions", json={**BODY, "max_tokens": 4}, headers=headers)
        assert other.headers["x-spillgate-backend"] in {"ark", "deepseek"}
        text += b"".join(blocks)
    assert text.endswith(b"data: [DONE]\n\n")
    assert text.count(b"data:") > 80
    gateway.quiet()


def test_a_broken_document_changes_nothing_and_is_told(start: Any, document: Path, key: str) -> None:
    gateway = start(document)
    version = gateway.status()["configuration"]
    document.write_text(DOCUMENT.replace("max_length: 20", "max_lenght: 20"))
    soon(lambda: bool(gateway.status()["reload_error"]))
    status = gateway.status()
    assert status["configuration"] == version
    assert "max_length" in status["reload_error"]
    assert "reload" in httpx.get(f"{gateway.url}/readyz").json()
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'spillgate_reloads_total{result="rejected"} 1.0' in metrics
    assert "r2" in models(gateway, key)
    document.write_text(DOCUMENT)
    soon(lambda: not gateway.status()["reload_error"])


def test_a_hangup_signal_reloads_at_once(start: Any, document: Path, key: str) -> None:
    gateway = start(document, "--no-reload")
    document.write_text(DOCUMENT.replace("aliases: [r2]", "aliases: [r2, other]"))
    time.sleep(1.5)
    assert "other" not in models(gateway, key)
    gateway.child.send_signal(signal.SIGHUP)
    soon(lambda: "other" in models(gateway, key))


def test_a_tenant_taken_out_is_a_stranger(start: Any, document: Path, key: str) -> None:
    gateway = start(document)
    kept = "\n".join(line for line in DOCUMENT.splitlines() if "acme:" not in line)
    document.write_text(kept + "\n")
    headers = {"authorization": f"Bearer {key}"}
    time.sleep(2.5)
    answer = httpx.post(f"{gateway.base}/chat/completions", content=json.dumps(BODY), headers=headers)
    assert answer.status_code == 401, (gateway.status(), gateway.lines)
