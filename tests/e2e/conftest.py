"""Real processes on loopback: `spillgate mock` and `spillgate serve`, started on free ports and always ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from gateway.testing.processes import Clouds, Gateway

HERE = Path(__file__).parent
KEYS = {
    "ACME_KEY": "sk-acme-1",
    "SLOW_KEY": "sk-slow-1",
    "ARK_KEY": "sk-ark-pretend",
    "DEEPSEEK_KEY": "sk-deepseek-pretend",
}


@pytest.fixture(scope="session")
def clouds() -> Iterator[Clouds]:
    process = Clouds(HERE / "fleet.yaml")
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="session")
def shared_gateway(clouds: Clouds) -> Iterator[Gateway]:
    process = Gateway(HERE / "gateway.yaml", clouds, env=KEYS)
    yield process
    assert process.stop() == 0
    assert "Traceback" not in "".join(process.lines)


@pytest.fixture
def gateway(shared_gateway: Gateway) -> Iterator[Gateway]:
    """The shared gateway, quiet before and after."""
    yield shared_gateway
    shared_gateway.quiet()


@pytest.fixture
def start(clouds: Clouds) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway of one's own; it is ended after the test."""
    started: list[Gateway] = []

    def begin(document: Path, *words: str, env: Mapping[str, str] | None = None) -> Gateway:
        process = Gateway(document, clouds, *words, env={**KEYS, **(env or {})})
        started.append(process)
        return process

    yield begin
    for process in started:
        process.stop()


@pytest.fixture
def key() -> str:
    return KEYS["ACME_KEY"]


@pytest.fixture
def spillgate() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command as a person would."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gateway", *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**os.environ, **env}, check=False
        )

    return run
