"""Sends a scene's demand at the gateway, open loop, and writes down what became of every request."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from functools import partial

from gateway.cli.demo_client import Client, Exchange
from gateway.sim.demand import Need
from gateway.sim.score import Record, Terms, good, percentile

MODEL = "deepseek-r2"
RECENT = 4.0
"""seconds that the live figures look back"""
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_CODE = re.compile(rb'"code":\s*"([a-z0-9_-]+)"')
_FILL = "a cloud that is full says so and another takes over "
_CLOUD_BYTES_PER_TOKEN = 4
_PER_MESSAGE = 4
_FRAME = len('{"role":"user","content":""}')


def body_of(need: Need) -> bytes:
    """The request body: its prompt counts `need.prompt` tokens at a pretend cloud, and no two share a beginning."""
    room = (need.prompt - _PER_MESSAGE) * _CLOUD_BYTES_PER_TOKEN - _FRAME
    text = (f"#{need.id} " + _FILL * (room // len(_FILL) + 1))[: max(room, 8)]
    asked: dict[str, object] = {
        "model": MODEL,
        "max_tokens": need.answer,
        "stream": need.stream,
        "messages": [{"role": "user", "content": text}],
    }
    if need.stream:
        asked["stream_options"] = {"include_usage": True}
    return json.dumps(asked, separators=(",", ":")).encode()


def record_of(need: Need, exchange: Exchange, begun: float) -> Record:
    """One finished exchange, judged. `begun` is the loop's time at the run's start."""
    tail, status = exchange.tail, exchange.status
    attempts = int(exchange.header(b"x-spillgate-attempts", "0"))
    code = _CODE.search(tail) if status >= 400 else None
    reason = code.group(1).decode().removeprefix("capacity_") if code else ""
    whole = not exchange.lost and (not need.stream or (b"data: [DONE]" in tail and b'"error":' not in tail))
    if status in {429, 503} and not attempts:
        fate, reason = "refused", reason or str(status)
    elif status == 200 and whole:
        fate, reason = "served", ""
    else:
        fate, reason = "failed", reason or ("lost" if exchange.lost else "torn")
    counted = _TOKENS.findall(tail)
    return Record(
        need,
        "served" if fate == "served" else "refused" if fate == "refused" else "failed",
        exchange.ended - begun,
        first=exchange.first - begun if need.stream and status == 200 and exchange.first else None,
        queued=float(exchange.header(b"x-spillgate-queue-ms", "0")) / 1e3,
        tokens=int(counted[-1]) if counted else need.answer if fate == "served" else 0,
        attempts=attempts,
        backend=exchange.header(b"x-spillgate-backend"),
        reason=reason,
        told=b"retry-after" in exchange.headers,
    )


class Load:
    """One run of a demand. Read `records` and the live figures at any time; `run` returns when all are answered."""

    def __init__(self, client: Client, needs: tuple[Need, ...], terms: Terms) -> None:
        self.records: list[Record] = []
        self.sent = 0
        self.served = 0
        self.refused = 0
        self.failed = 0
        self.late = 0.0
        """seconds by which the most delayed request was sent too late: how much the generator itself lagged"""
        self._client = client
        self._needs = needs
        self._bodies = [body_of(need) for need in needs]
        self._terms = terms
        self._began = 0.0
        self._all = asyncio.Event()
        self._recent: deque[Record] = deque()

    async def run(self, began: float) -> None:
        """Send everything at its time after `began` (loop time). Cancelling stops sending."""
        self._began = began
        clock = self._client.clock
        for need, body in zip(self._needs, self._bodies, strict=True):
            wait = began + need.at - clock()
            if wait > 0.001:
                await asyncio.sleep(wait)
            self.late = max(self.late, clock() - began - need.at)
            self.sent += 1
            self._client.send(
                Exchange(need.stream, partial(self._finished, need)), "POST", "/v1/chat/completions", body
            )
        if self._needs:
            await self._all.wait()

    def ttft(self, now: float) -> tuple[float | None, float | None]:
        """p50 and p95 of what ended lately; `now` in seconds from the start."""
        found = [record.ttft for record in self._lately(now) if record.ttft is not None and record.status == "served"]
        return percentile(found, 0.5), percentile(found, 0.95)

    def goodput(self, now: float) -> float:
        """Output tokens per second of good answers that ended lately."""
        tokens = sum(record.tokens for record in self._lately(now) if good(record, self._terms))
        return tokens / min(RECENT, max(now, 1.0))

    def _lately(self, now: float) -> deque[Record]:
        while self._recent and self._recent[0].ended < now - RECENT:
            self._recent.popleft()
        return self._recent

    def _finished(self, need: Need, exchange: Exchange) -> None:
        record = record_of(need, exchange, self._began)
        self.records.append(record)
        if record.status == "refused":
            self.refused += 1
        else:
            self.served += record.status == "served"
            self.failed += record.status == "failed"
            self._recent.append(record)
        if len(self.records) == len(self._needs):
            self._all.set()
