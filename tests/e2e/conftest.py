"""Real processes on loopback: `spillgate mock` and `spillgate serve`, started on free ports and always ended."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
KEYS = {
    "ACME_KEY": "sk-acme-1",
    "SLOW_KEY": "sk-slow-1",
    "ARK_KEY": "sk-ark-pretend",
    "DEEPSEEK_KEY": "sk-deepseek-pretend",
}


class Process:
    """A child that is waited for until it says it is ready, and ended by its id."""

    def __init__(self, words: list[str], ready: str, env: dict[str, str] | None = None) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "gateway", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.ready = self._until(ready)

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)
            self._queue.put(line)

    def _until(self, pattern: str) -> re.Match[str]:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                line = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self.child.poll() is not None:
                    break
                continue
            if found := re.search(pattern, line):
                return found
        self.stop()
        raise AssertionError("it never got ready:\n" + "".join(self.lines))

    def stop(self) -> int:
        if self.child.poll() is None:
            self.child.terminate()
        try:
            return self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        finally:
            self._reader.join(5)
            if self.child.stdout is not None:
                self.child.stdout.close()


class Clouds(Process):
    """The pretend clouds and their control port."""

    def __init__(self, fleet: Path) -> None:
        super().__init__(["mock", str(fleet), "--control", "0", "--json"], r"(\{.*\})")
        told = json.loads(self.ready.group(1))
        self.control = told["control"]
        self.urls = {name: cloud["base_url"] for name, cloud in told["clouds"].items()}

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.control}/stats").json()
        return found

    def set(self, name: str, **changes: object) -> None:
        httpx.post(f"{self.control}/clouds/{name}", json=changes).raise_for_status()

    def reset(self) -> None:
        httpx.post(f"{self.control}/reset").raise_for_status()

    def in_flight(self) -> int:
        return sum(int(cloud["in_flight"]) for cloud in self.stats().values())

    def quiet(self, within: float = 3.0) -> None:
        """Every slot is free again, soon."""
        until = time.monotonic() + within
        while self.in_flight():
            assert time.monotonic() < until, self.stats()
            time.sleep(0.02)


class Gateway(Process):
    """One gateway process."""

    def __init__(self, document: Path, clouds: Clouds, *words: str) -> None:
        env = {**KEYS, **{f"{name.upper()}_URL": url for name, url in clouds.urls.items()}}
        super().__init__(["serve", str(document), "--port", "0", *words], r"at (http://\S+)/v1", env)
        self.url = self.ready.group(1)
        self.base = f"{self.url}/v1"
        self.clouds = clouds

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/status").json()
        return found

    def quiet(self, within: float = 3.0) -> None:
        """Nothing runs, nothing waits, here and at the clouds."""
        until = time.monotonic() + within
        while True:
            totals = self.status()["fleet"]["totals"]
            if not totals["in_flight"] and not totals["waiting"]:
                break
            assert time.monotonic() < until, totals
            time.sleep(0.02)
        self.clouds.quiet()


@pytest.fixture(scope="session")
def clouds() -> Iterator[Clouds]:
    process = Clouds(HERE / "fleet.yaml")
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="session")
def shared_gateway(clouds: Clouds) -> Iterator[Gateway]:
    process = Gateway(HERE / "gateway.yaml", clouds)
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

    def begin(document: Path, *words: str) -> Gateway:
        process = Gateway(document, clouds, *words)
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
