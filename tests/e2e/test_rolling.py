"""Three replicas behind a plain TCP balancer are restarted one after another under load."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from gateway.testing.processes import HOST, Clouds, Gateway, Redis

HERE = Path(__file__).parent
KEY = "sk-acme-1"
CLIENTS = 24
REPLICAS = 3
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 60}


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    found = Clouds(HERE / "drain_fleet.yaml")
    yield found
    assert found.stop() == 0


@pytest.fixture
def redis() -> Iterator[Redis]:
    found = Redis()
    yield found
    found.kill()


class Balancer:
    """Hands connections to the replicas in turn, and to the next where nobody listens. It knows nothing of HTTP."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._turn = 0
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._take, HOST, 0)
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._open)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closing(writer):
            for _ in self._ports:
                self._turn += 1
                try:
                    port = self._ports[self._turn % len(self._ports)]
                    answers, there = await asyncio.open_connection(HOST, port)
                except OSError:
                    continue
                async with closing(there):
                    await asyncio.gather(_pump(reader, there), _pump(answers, writer))
                return


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


class Clients:
    """They ask one question after another, and come again when they are told to."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        self.endings: Counter[str] = Counter()
        self.answered: list[str] = []
        self.over = False

    async def run(self, http: httpx.AsyncClient) -> None:
        while not self.over:
            async with http.stream("POST", self._url, json=BODY) as answer:
                text = (await answer.aread()).decode()
            if answer.status_code == 200:
                self.answered.append(answer.headers["x-request-id"])
                whole = text.endswith("data: [DONE]\n\n") and '"error"' not in text
                self.endings["whole" if whole else "broken"] += 1
            else:
                self.endings[str(json.loads(text)["error"]["code"])] += 1
                assert int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])


class Replicas:
    def __init__(self, clouds: Clouds, env: dict[str, str]) -> None:
        self.ports = [free_port() for _ in range(REPLICAS)]
        self._clouds = clouds
        self._env = env
        self.running: list[Gateway] = []

    def start(self, place: int) -> Gateway:
        words = ("--port", str(self.ports[place]))
        return Gateway(HERE / "drain_gateway.yaml", self._clouds, *words, env=self._env)

    async def restart(self, place: int) -> None:
        old = self.running[place]
        old.child.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(old.child.wait, 30) == 0
        old.stop()
        self.running[place] = new = await asyncio.to_thread(self.start, place)
        async with httpx.AsyncClient() as http:
            while (await http.get(f"{new.url}/readyz")).status_code != 200:
                pass

    def stop(self) -> None:
        codes = [replica.stop() for replica in self.running]
        assert codes == [0] * len(codes)
        assert "Traceback" not in "".join(line for replica in self.running for line in replica.lines)


def test_a_rolling_restart_loses_no_stream_and_no_record(clouds: Clouds, redis: Redis, tmp_path: Path) -> None:
    file = tmp_path / "usage.jsonl"
    env = {
        "ACME_KEY": KEY, "USAGE_FILE": str(file), "STREAMS": "400",
        "REDIS_URL": redis.url, "SPILLGATE_REPLICAS": str(REPLICAS),
    }  # fmt: skip
    replicas = Replicas(clouds, env)

    async def scenario() -> Clients:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"authorization": f"Bearer {KEY}"}
        async with (
            Balancer(replicas.ports) as url,
            httpx.AsyncClient(limits=limits, headers=headers, timeout=30) as http,
        ):
            clients = Clients(url)
            tasks = [asyncio.create_task(clients.run(http)) for _ in range(CLIENTS)]
            while clients.endings["whole"] < CLIENTS:
                await asyncio.sleep(0.05)
            for place in range(REPLICAS):
                before = clients.endings["whole"]
                await replicas.restart(place)
                while clients.endings["whole"] < before + CLIENTS:
                    await asyncio.sleep(0.05)
            clients.over = True
            await asyncio.gather(*tasks)
        return clients

    try:
        replicas.running = [replicas.start(place) for place in range(REPLICAS)]
        clients = asyncio.run(scenario())
    finally:
        replicas.stop()
    assert clients.endings["broken"] == 0
    assert set(clients.endings) <= {"whole", "broken", "draining"}, clients.endings
    found = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert Counter(record["id"] for record in found) == Counter(clients.answered)
    assert {record["outcome"] for record in found} == {"served"}
    clouds.quiet()
