"""Takes usage records to where they are kept, in the background: one append per request, everything else in batches.

Every sink gets every record and has a backlog of its own, bounded by number and bytes, so that one that is down does
not hold up another. What a full backlog cannot take is counted and told. A record is written at the latest
`FLUSH` after its request has ended, unless its sink is down; a process that is killed loses what is younger.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from gateway.background import begin
from gateway.errors import SpillgateError
from gateway.service import Call
from gateway.telemetry.usage import Ended, OutcomeName, record

FLUSH = 0.25
BATCH = 250
"""Records per write, and per turn of the event loop: some 5 ms."""
MOST_FRESH = 50_000
MOST_RECORDS = 200_000
MOST_BYTES = 128 * 2**20
CEILING = 5.0
"""Longest pause between two attempts to write."""
TELL_AFTER = 1.0
TELL_EVERY = 10.0
_ASK_AGAIN = 0.5
CLOSING = 5.0
log = logging.getLogger("spillgate.usage")
_encode = msgspec.json.Encoder().encode


class Sink(Protocol):
    """Where records are kept. Calls never overlap."""

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        """Write records, one line of JSON each (without its end), all or none.

        Raises `OSError` or `SpillgateError`; the same number then comes again with the same lines, and what was
        written after all must not be written twice if that can be told.
        """

    async def aclose(self) -> None:
        """Let go. Never raises."""


@dataclass(frozen=True, slots=True)
class SinkHealth:
    """Records since start: `written`, `dropped` for want of room, `waiting`. `trouble`: why writing fails now."""

    name: str
    written: int
    dropped: int
    waiting: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Batch:
    """So many lines, and their size in bytes. Its number is one that no other batch of its sink has."""

    number: int
    lines: tuple[bytes, ...]
    size: int


class Feed:
    """One sink, what waits for it, and the task that writes. `what` it is, for messages."""

    def __init__(self, name: str, sink: Sink, clock: Callable[[], float], what: str = "usage records") -> None:
        self.name = name
        self._what = what
        self._sink = sink
        self._clock = clock
        self._backlog: deque[Batch] = deque()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._bytes = 0
        self._told = -TELL_EVERY
        self._failing_since: float | None = None
        self._trouble = ""
        self.waiting = 0
        self.written = 0
        self.dropped = 0
        self._task = begin(self._run(), log, "usage records are no longer written")

    def put(self, batch: Batch) -> None:
        """Queue a batch, or drop it when there is no room."""
        if self.waiting + len(batch.lines) > MOST_RECORDS or self._bytes + batch.size > MOST_BYTES:
            self.drop(len(batch.lines))
            return
        self._backlog.append(batch)
        self.waiting += len(batch.lines)
        self._bytes += batch.size
        self._empty.clear()
        self._more.set()

    def drop(self, count: int) -> None:
        """Count records that are lost to this sink, and say so every now and then."""
        self.dropped += count
        now = self._clock()
        if now - self._told >= TELL_EVERY:
            self._told = now
            log.error("%s lost to the %s: %d since start (%s)", self._what, self.name, self.dropped, self._why())

    def health(self) -> SinkHealth:
        return SinkHealth(self.name, self.written, self.dropped, self.waiting, self._trouble)

    async def aclose(self, within: float) -> None:
        """Write what waits, for so long at most, and say what could not be."""
        try:
            async with asyncio.timeout(within):
                await self._empty.wait()
        except TimeoutError:
            self.dropped += self.waiting
            log.error("%d %s could not be written to the %s: %s", self.waiting, self._what, self.name, self._why())
        while not self._task.done():
            self._task.cancel()  # once is not always enough: a cancellation can be lost in a client library
            await asyncio.wait({self._task}, timeout=_ASK_AGAIN)
        await self._sink.aclose()

    def _why(self) -> str:
        return self._trouble or "it is too slow"

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            while self._backlog:
                await self._write(self._backlog[0])
                batch = self._backlog.popleft()
                self.waiting -= len(batch.lines)
                self.written += len(batch.lines)
                self._bytes -= batch.size
            self._more.clear()
            self._empty.set()

    async def _write(self, batch: Batch) -> None:
        attempts = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.05, max=CEILING, min=0.02),
            retry=retry_if_exception_type((OSError, SpillgateError)),
            after=self._note,
        )
        await attempts(self._sink.write, batch.number, batch.lines)
        if self._trouble:
            log.warning("%s are written to the %s again; %d wait", self._what, self.name, self.waiting)
        self._failing_since, self._trouble = None, ""

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= TELL_AFTER:  # another process at the same file is no trouble
            if not self._trouble:
                log.error("%s cannot be written to the %s, they wait: %s", self._what, self.name, error)
            self._trouble = str(error) or type(error).__name__


class Recorder:
    """Makes records of calls and hands them to every feed. `wall` and `clock` return Unix and monotonic seconds."""

    def __init__(self, outcome_name: OutcomeName, wall: Callable[[], float], clock: Callable[[], float]) -> None:
        self._outcome_name = outcome_name
        self._wall = wall
        self._clock = clock
        self._feeds: dict[str, Feed] = {}
        self._fresh: deque[Ended] = deque()
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    def fold(self, call: Call) -> None:
        """Take note of a call that has ended. Strangers leave no record: nobody pays for them, and they are many."""
        caller = call.caller
        if caller is None or not self._feeds:
            return
        if len(self._fresh) >= MOST_FRESH:
            for feed in self._feeds.values():
                feed.drop(1)
            return
        self._fresh.append(Ended(call, caller.name, caller.class_))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def use(self, sinks: Mapping[str, Callable[[], Sink]]) -> None:
        """Write to these from now on, by name ("file /path"). One that was in use and still is stays as it is."""
        if not self._feeds.keys() <= sinks.keys():
            self._flush_all()
        for name in [name for name in self._feeds if name not in sinks]:
            task = asyncio.create_task(self._feeds.pop(name).aclose(CLOSING))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        for name, make in sinks.items():
            if name not in self._feeds:
                self._feeds[name] = Feed(name, make(), self._clock)

    def health(self) -> tuple[SinkHealth, ...]:
        """How every sink is doing."""
        return tuple(feed.health() for feed in self._feeds.values())

    async def aclose(self, within: float = CLOSING) -> None:
        """Write what there is, for `within` seconds at most."""
        self._flush_all()
        closing = [feed.aclose(within) for feed in self._feeds.values()]
        self._feeds = {}
        await asyncio.gather(*closing, *self._retiring)

    def _flush_all(self) -> None:
        while self._fresh:
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        """Make one batch; come again at once if that was not all."""
        wall = self._wall() - self._clock()
        fresh = [self._fresh.popleft() for _ in range(min(BATCH, len(self._fresh)))]
        lines = tuple(_encode(record(ended, self._outcome_name, wall)) for ended in fresh)
        if lines:
            self._number += 1
            batch = Batch(self._number, lines, sum(map(len, lines)))
            for feed in self._feeds.values():
                feed.put(batch)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(0.0, self._flush) if self._fresh else None
