"""How a gateway starts: from a file, a folder or a text in the environment; soon, and small."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.testing.processes import Clouds, Process

HERE = Path(__file__).parent
HEADERS = {"authorization": "Bearer sk-acme-1"}
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}
TEXT = (HERE / "drain_gateway.yaml").read_text().replace('usage: {file: "${USAGE_FILE}"}', "")
ONE_LINE = (
    '{models: {r2: {}}, backends: {own: {preset: vllm, base_url: "${OWN_URL}", serves: {r2: r2-own}}}, '
    'policies: {p: {tiers: [{backends: [own]}]}}, tenants: {acme: {keys: ["${ACME_KEY}"]}}}'
)


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    found = Clouds(HERE / "drain_fleet.yaml")
    yield found
    assert found.stop() == 0


class Served(Process):
    """A gateway that is told everything by its environment."""

    def __init__(self, clouds: Clouds, **env: str) -> None:
        told = {"PORT": "0", "OWN_URL": clouds.urls["own"], "ACME_KEY": "sk-acme-1", "STREAMS": "9", **env}
        super().__init__(["serve"], r"at (http://\S+)/v1", told)

    def ask(self) -> httpx.Response:
        return httpx.post(f"{self.ready.group(1)}/v1/chat/completions", json=BODY, headers=HEADERS, timeout=10)


@pytest.mark.parametrize("how", ["file", "folder", "text", "one line"])
def test_the_document_may_be_a_file_a_folder_or_a_text(clouds: Clouds, tmp_path: Path, how: str) -> None:
    (tmp_path / "spillgate.yaml").write_text(TEXT)
    words = {"file": str(tmp_path / "spillgate.yaml"), "folder": str(tmp_path), "text": TEXT, "one line": ONE_LINE}
    gateway = Served(clouds, SPILLGATE_CONFIG=words[how])
    try:
        assert gateway.ask().status_code == 200
    finally:
        assert gateway.stop() == 0


def test_a_mistake_in_the_environments_text_is_told_with_its_place(spillgate: Any) -> None:
    found = spillgate("check", SPILLGATE_CONFIG="models:\n  r2: {}\nbackend: {}\n")
    assert found.returncode == 2
    assert "SPILLGATE_CONFIG:3:1" in found.stderr
    assert "backends" in found.stderr


def test_without_a_document_it_says_where_one_may_come_from(spillgate: Any) -> None:
    found = spillgate("serve", SPILLGATE_CONFIG="")
    assert found.returncode == 2
    assert "set SPILLGATE_CONFIG" in found.stderr


def test_a_setting_that_is_wrong_is_named(spillgate: Any) -> None:
    for name, word in {
        "SPILLGATE_DRAIN_SECONDS": "soon",
        "SPILLGATE_DRAIN_QUEUE": "drop",
        "SPILLGATE_WORKERS": "0",
        "SPILLGATE_RELOAD": "perhaps",
    }.items():
        found = spillgate("serve", SPILLGATE_CONFIG=ONE_LINE, **{name: word})
        assert found.returncode == 2
        assert name in found.stderr


@pytest.mark.parametrize(("listens", "told"), [("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "")])
def test_the_health_check_asks_where_serve_listens(clouds: Clouds, spillgate: Any, listens: str, told: str) -> None:
    gateway = Served(clouds, SPILLGATE_CONFIG=ONE_LINE, HOST=listens)
    port = gateway.ready.group(1).rpartition(":")[2]
    try:
        assert spillgate("healthcheck", PORT=port, HOST=told).returncode == 0
    finally:
        assert gateway.stop() == 0
    gone = spillgate("healthcheck", PORT=port, HOST=told)
    assert gone.returncode == 1
    assert "no answer" in gone.stderr


def test_the_first_answer_costs_less_than_three_quarters_of_a_second_and_ninety_megabytes(clouds: Clouds) -> None:
    """Processor time: what else runs on the machine is not the gateway's. The best of three."""
    spent, resident = [], []
    for _ in range(3):
        gateway = Served(clouds, SPILLGATE_CONFIG=ONE_LINE)
        try:
            assert gateway.ask().status_code == 200
            words = Path(f"/proc/{gateway.child.pid}/stat").read_text().rpartition(")")[2].split()
            spent.append((int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK"))
            status = Path(f"/proc/{gateway.child.pid}/status").read_text()
            resident.append(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        finally:
            assert gateway.stop() == 0
    assert min(spent) <= 0.7, spent
    assert max(resident) <= 90, resident


def test_pretend_clouds_listen_where_they_are_told_and_their_control_port_never_does() -> None:
    fleet = HERE / "drain_fleet.yaml"
    process = Process(["mock", str(fleet), "--control", "0", "--host", "127.0.0.2", "--json"], r"(\{.*\})")
    try:
        told = json.loads(process.ready.group(1))
        url = told["clouds"]["own"]["base_url"]
        assert url.startswith("http://127.0.0.2:")
        assert httpx.post(f"{url}/chat/completions", json={**BODY, "model": "r2-own"}).status_code == 200
        assert told["control"].startswith("http://127.0.0.1:")
        assert httpx.get(f"{told['control']}/stats").json()["own"]["completed"] == 1
    finally:
        assert process.stop() == 0
