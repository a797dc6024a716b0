"""What a frozen Redis costs those who ask: latency through the gateway, calm against frozen, in one run.

    python tests/bench/frozen.py [SECONDS]

One gateway with shares in a real Redis, one pretend cloud that answers after a constant time, a steady rate of
streamed and plain requests. Redis is stopped (SIGSTOP) for half of the run. Printed: what the gateway says that it
added (x-spillgate-overhead-ms) and what the client saw until the headers, p50, p99 and the longest.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import httpx

from gateway.testing.processes import Clouds, Gateway, Redis

RATE = 60.0

FLEET = """
control: 0
seed: 1
clouds:
  steady:
    port: 0
    dialect: vllm
    models: [r2]
    slots: 500
    laws: {t0: 5ms, k: 0ms, net: 1ms}
    answer: {median: 20, sigma: 0}
    style: {tokens_per_event: 10}
"""

DOCUMENT = """
models: {r2: {}}
backends:
  steady: {preset: vllm, base_url: "${STEADY_URL}", serves: {r2: r2}, limits: {streams: 400, rpm: 100000, tpm: 100M}}
policies:
  only: {tiers: [{backends: [steady]}]}
"""


async def one(http: httpx.AsyncClient, base: str, number: int, added: list[float], seen: list[float]) -> None:
    body = {"model": "r2", "messages": [{"role": "user", "content": "x" * 40}], "stream": number % 2 == 0}
    began = time.perf_counter()
    async with http.stream("POST", f"{base}/chat/completions", json=body) as answer:
        seen.append((time.perf_counter() - began) * 1000)
        answer.raise_for_status()
        added.append(float(answer.headers["x-spillgate-overhead-ms"]))
        await answer.aread()


async def load(base: str, seconds: float) -> tuple[list[float], list[float]]:
    added: list[float] = []
    seen: list[float] = []
    async with httpx.AsyncClient(timeout=30) as http, asyncio.TaskGroup() as group:
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            group.create_task(one(http, base, number, added, seen))
            number += 1
            await asyncio.sleep(1 / RATE)
    return added, seen


def told(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    p50, p99 = (ordered[int(len(ordered) * q)] for q in (0.5, 0.99))
    return f"{name} p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {ordered[-1]:.2f} ms"


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        fleet, document = Path(folder) / "fleet.yaml", Path(folder) / "gateway.yaml"
        fleet.write_text(FLEET)
        document.write_text(DOCUMENT)
        clouds, redis = Clouds(fleet), Redis()
        gateway = Gateway(document, clouds, "--no-reload", env={"REDIS_URL": redis.url})
        try:
            asyncio.run(load(gateway.base, 5))
            for name, number in (("calm", None), ("frozen", signal.SIGSTOP), ("back", signal.SIGCONT)):
                if number is not None:
                    redis.signal(number)
                added, seen = asyncio.run(load(gateway.base, seconds))
                print(f"Redis {name:<7}{told('added', added)}; {told('headers after', seen)}; {len(added)} requests")
        finally:
            gateway.stop()
            clouds.stop()
            redis.kill()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
