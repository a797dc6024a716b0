"""The demo's two child processes: the pretend clouds and the gateway. They never outlive the demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

PATIENCE = 15.0
"""seconds a child may take to come up"""
_GREETING = re.compile(r" at (http://\S+)/v1")


class DemoError(Exception):
    """The demo cannot go on; the message says why, in the words of the child that failed."""


def policies() -> Path:
    """The folder of example documents: inside the installed package, or beside it in a checkout. Raises DemoError."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "policies", package.parent / "policies"):
        if (folder / "demo.yaml").is_file():
            return folder
    raise DemoError(f"policies/demo.yaml was found neither in {package} nor beside it")


def fleet_document(path: Path) -> dict[str, Any]:
    """The fleet file with every port free to choose and with answers as long as `max_tokens` says."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["control"] = 0
    for cloud in document["clouds"].values():
        cloud["port"] = 0
        cloud["answer"] = {**cloud.get("answer", {}), "median": 1_000_000, "sigma": 0, "most": 1_000_000}
    return document


class Child:
    """One process of ours. Leaving the context ends it: asked kindly, then killed; by its own id and nobody else's."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._environment = {**os.environ, **(environment or {})}
        for name in ("SPILLGATE_ADMIN_KEY", "PORT", "HOST"):
            self._environment.pop(name, None)
        self._process: asyncio.subprocess.Process | None = None
        self._drains: list[asyncio.Task[None]] = []
        self._said: deque[str] = deque(maxlen=20)
        self._lines: asyncio.Queue[str] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *self._words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
        )
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            self._drains.append(asyncio.create_task(self._drain(stream)))
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 3.0)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            for drain in self._drains:
                drain.cancel()

    async def line(self, pattern: re.Pattern[str]) -> str:
        """The first line it says that matches. Raises DemoError when it ends or says nothing of the kind."""
        assert self._process is not None
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    said = await self._lines.get()
                    if pattern.search(said):
                        return said
                    if not said:
                        raise DemoError(f"`{self._words[0]}` ended before it was up:\n" + "\n".join(self._said))
        except TimeoutError:
            raise DemoError(f"`{self._words[0]}` did not come up:\n" + "\n".join(self._said)) from None

    async def _drain(self, stream: asyncio.StreamReader) -> None:
        while raw := await stream.readline():
            said = raw.decode(errors="replace").rstrip()
            self._said.append(said)
            if said:
                self._lines.put_nowait(said)
        if stream is (self._process.stderr if self._process else None):
            self._lines.put_nowait("")


def mock(fleet: Path, seed: int) -> Child:
    """The pretend clouds."""
    return Child("mock", str(fleet), "--control", "0", "--seed", str(seed), "--json")


async def mock_ports(child: Child) -> tuple[str, dict[str, str]]:
    """Base URL of the control port, and of each cloud."""
    said: dict[str, Any] = json.loads(await child.line(re.compile(r"^\{")))
    return said["control"], {name: cloud["base_url"] for name, cloud in said["clouds"].items()}


def gateway(document: Path, port: int, clouds: Mapping[str, str]) -> Child:
    """The gateway, told where the clouds are."""
    urls = {f"DEMO_{name.upper().replace('-', '_')}_URL": url for name, url in clouds.items()}
    return Child("serve", str(document), "--host", "127.0.0.1", "--port", str(port), "--no-reload", environment=urls)


async def gateway_url(child: Child) -> str:
    """Where the gateway listens, without /v1."""
    found = _GREETING.search(await child.line(_GREETING))
    assert found is not None
    return found.group(1)
