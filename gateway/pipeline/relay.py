"""Carrying a stream from a cloud to a client after the first token. The lease rides inside.

A class with `aclose`, not an async generator: a generator that never starts would leak its slot. Bytes are cut at
frame ends and passed on; a frame is parsed only when it may hold a finish, usage, an error or the end. The
token-gap clock is looked after by a slow tick that asks whether tokens came, so that bytes (keep-alives, comments)
do not reset it and an ordinary event costs no timer.
"""

from __future__ import annotations

import asyncio

from gateway.core.nouns import Abandoned, Failed, Outcome, Overloaded, Served
from gateway.pipeline.desk import Desk
from gateway.pipeline.live import Line, Live
from gateway.service import Attempt, Call
from gateway.upstream.base import Reply, UpstreamError
from gateway.wire import sse
from gateway.wire.envelope import envelope
from gateway.wire.refusals import failed_finish, in_band, outcome

REPORT_EVERY = 64
REPORT_AFTER = 0.5
"""tokens, and seconds, between two reports to the dispatcher, whichever comes first"""
_CLOSING = 1.0
"""seconds a cloud may take to end its answer after the end mark, before we hang up"""


class StreamBody:
    """The rest of a streamed answer. Iterate it, then `aclose`; both settle the lease exactly once.

    Cancelling the iteration and calling `aclose` closes the connection to the cloud at once.
    """

    def __init__(self, call: Call, attempt: Attempt, line: Line, reply: Reply, live: Live, desk: Desk) -> None:
        self._call = call
        self._attempt = attempt
        self._line = line
        self._reply = reply
        self._live = live
        self._desk = desk
        self._splitter = sse.Splitter()
        self._held = b""
        self._ended = False
        self._reported = 0
        self._report_at = attempt.first_token + REPORT_AFTER
        self._finished = False
        self._broken: Outcome | None = None
        self._hide_usage = bool(call.chat and not call.chat.keeps_usage)
        self._last = b""
        self._reading = False
        self._token_at = self._came = attempt.first_token
        self._seen = 0
        self._timed_out = ""
        timeouts = live.policies[attempt.lease.policy].timeouts
        self._gap = timeouts.token_gap
        self._until = call.received + timeouts.total
        self._tick_every = min(self._gap / 4, 5.0)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, held: bytes, splitter: sse.Splitter) -> None:
        """Take over what was read before the first token."""
        self._splitter = splitter
        self._held = self._look(held)
        self._timer = self._desk.loop.call_later(self._tick_every, self._tick)

    def __aiter__(self) -> StreamBody:
        return self

    async def __anext__(self) -> bytes:
        if self._held:
            block, self._held = self._held, b""
            return block
        while not self._ended:
            self._reading = True
            try:
                data = await self._reply.read_any()
            except UpstreamError:
                return self._cut()
            finally:
                self._reading = False
            if not data:
                return self._cut()
            try:
                block = self._splitter.feed(data)
            except sse.FrameTooLong:
                self._reply.abort()
                return self._cut()
            if block and (block := self._look(block)):
                return block
        await self._drain()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the lease back. Closes the connection unless the answer was complete."""
        self._settle(self._broken or Abandoned())

    def _look(self, block: bytes) -> bytes:
        count = sse.count(block)
        attempt = self._attempt
        attempt.tokens += count
        self._last = block
        if self._finished or sse.needs_reading(block, count):
            block = self._read(block)
        now = self._desk.clock()
        if now - self._came > attempt.gap:
            attempt.gap = now - self._came
        self._came = now
        if attempt.tokens - self._reported >= REPORT_EVERY or now >= self._report_at:
            self._report()
        return block

    def _report(self) -> None:
        tokens, now = self._attempt.tokens, self._desk.clock()
        self._desk.dispatcher.progress(self._attempt.lease, tokens - self._reported, now)
        if self._call.tab is not None:
            self._call.tab.flow(tokens - self._reported, now)
        self._reported = tokens
        self._report_at = now + REPORT_AFTER

    def _read(self, block: bytes) -> bytes:
        """Look closely at a block that may end the answer; drop the usage frame that only we asked for."""
        kept: list[bytes] = []
        for raw in sse.frames(block):
            frame = sse.read(raw)
            if frame.usage is not None:
                self._attempt.usage = frame.usage
            if frame.finish is not None:
                self._finished = True
                if failed_finish(self._line.dialect, frame.finish):
                    self._broken = Overloaded()
            if frame.kind in {"unknown", "empty"} and (signal := in_band(self._line.dialect, frame.data)) is not None:
                self._broken = outcome(signal)
                kept.append(_interrupted("The cloud ended the answer with an error.", "upstream_error"))
                self._settle(self._broken)
                return b"".join(kept)
            if frame.kind == "usage" and self._hide_usage and self._line.dialect.ask_usage:
                continue
            kept.append(raw)
            if frame.kind == "done":
                self._settle(self._broken or Served(self._attempt.usage))
        return b"".join(kept)

    def _cut(self) -> bytes:
        """The connection ended. Fine after a finish; otherwise tell the client honestly."""
        rest, self._splitter.rest = self._splitter.rest, b""
        if self._finished and not self._timed_out:
            self._settle(self._broken or Served(self._attempt.usage))
            return (rest + b"\n\n" if rest.strip() else b"") + sse.DONE
        if self._timed_out:
            self._settle(Failed("stall" if self._timed_out == "token_gap_timeout" else "timeout", retryable=False))
            return _interrupted(f"{self._timed_out} ran out: no token came in time.", self._timed_out)
        self._settle(self._broken or Failed("protocol", retryable=False))
        return _interrupted("The connection to the cloud broke in the middle of the answer.", "upstream_cut")

    def _settle(self, result: Outcome) -> None:
        if self._ended:
            return
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        attempt = self._attempt
        if attempt.tokens != self._reported:
            self._report()
        if not isinstance(result, Served):
            self._reply.abort()
        attempt.outcome = result
        attempt.ended = self._desk.clock()
        self._desk.settle(attempt.lease, result)
        self._line.busy -= 1
        if self._line.retired:
            self._live.release(self._line)

    async def _drain(self) -> None:
        """Read to the end of the HTTP answer, so that the connection can serve again."""
        if self._reply.at_end():
            return
        try:
            async with asyncio.timeout(_CLOSING):
                while await self._reply.read_any():
                    pass
        except (TimeoutError, UpstreamError):
            self._reply.abort()

    def _tick(self) -> None:
        now = self._desk.clock()
        assert self._timer is not None
        if not self._reading:
            self._token_at = now  # a slow reader is not a silent cloud
        elif self._desk.loop.time() - self._timer.when() > self._tick_every:
            self._token_at = now  # nor is a cloud silent while we stood still (a frozen container, a paused machine)
        elif self._attempt.tokens != self._seen and sse.has_token(self._last):
            self._seen = self._attempt.tokens
            self._token_at = now
        if now - self._token_at >= self._gap:
            self._timed_out = "token_gap_timeout"
        elif now >= self._until:
            self._timed_out = "total_timeout"
        if self._timed_out:
            self._reply.abort()
            return
        self._timer = self._desk.loop.call_later(self._tick_every, self._tick)


def _interrupted(message: str, code: str) -> bytes:
    return sse.error_event(envelope(message, "upstream_error", code, None, {}))
