"""The endpoint of the stack: carries out what the dispatcher decides, attempt by attempt.

Until the first meaningful frame nothing has been said to the client, so an attempt that breaks is followed by the
dispatcher's next verdict and the client never knows. From then on the answer belongs to one cloud.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from math import ceil

from gateway.core.estimate import BYTES_PER_TOKEN
from gateway.core.nouns import (
    Abandoned,
    Beaten,
    Failed,
    Go,
    Lease,
    Outcome,
    Overloaded,
    Request,
    Served,
    Verdict,
    Wait,
)
from gateway.errors import RequestError, UpstreamRejected
from gateway.pipeline.aloud import aloud
from gateway.pipeline.deadline import Deadline
from gateway.pipeline.desk import Desk
from gateway.pipeline.faults import exhausted, refused
from gateway.pipeline.hedge import Failure, Races
from gateway.pipeline.live import Line, Live
from gateway.pipeline.observe import routing_headers
from gateway.pipeline.relay import StreamBody
from gateway.pipeline.witness import Witness, untraced
from gateway.service import Attempt, Call, Headers, Response
from gateway.telemetry.context import propagated
from gateway.upstream.base import Reply, UpstreamError
from gateway.wire import rateheaders, sse
from gateway.wire.refusals import classify, client_error, failed_finish, in_band, outcome
from gateway.wire.usage import summarise

MAX_ANSWER = 32 * 1024 * 1024
MAX_REFUSAL = 64 * 1024
MAX_HELD = 1024 * 1024
_JSON: Headers = [(b"content-type", b"application/json")]
_STREAM: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_NO_HEADERS: dict[str, str] = {}


class Dispatch:
    """The service at the end of the stack. Cancelling a call ends its attempt, or its wait, at once.

    `wall` returns Unix seconds: some clouds name the time of day at which a quota returns. `begin` is told of every
    call before it is offered: it may give it a place in a trace.
    """

    def __init__(
        self, live: Live, desk: Desk, wall: Callable[[], float], begin: Callable[[Call], None] = untraced
    ) -> None:
        self._live = live
        self._desk = desk
        self._wall = wall
        self._begin = begin
        self._witness = Witness(desk)
        self._races = Races(desk, self._attempt)

    async def __call__(self, call: Call) -> Response:
        call.request = request = self._request(call)
        call.offered = self._desk.clock()
        self._begin(call)
        return await self._serve(call, self._desk.offer(request))

    async def _serve(
        self, call: Call, verdict: Verdict | None, failure: Failure | None = None, *, told: bool = False
    ) -> Response:
        """Carry out verdicts to the answer. `told`: the client is told already if this takes long."""
        while verdict is not None:
            if type(verdict) is Wait and not told and (after := self._tell_after(call)) is not None:
                serving = self._serve(call, verdict, failure, told=True)
                return await aloud(call, serving, self._desk, after, _STREAM, routing_headers)
            self._witness.see(call, verdict)
            lease = await self._lease(call, verdict, failure)
            if lease.policy in self._live.hedging and (at := self._desk.dispatcher.hedge_at(lease)) is not None:
                result, verdict = await self._races.run(call, lease, at)
            else:
                result = await self._attempt(call, lease)
                verdict = None if isinstance(result, Response) else self._desk.settle(lease, result.outcome)
            if isinstance(result, Response):
                return result
            failure = result
        assert failure is not None
        raise _final(call, failure)

    def _tell_after(self, call: Call) -> float | None:
        chat, policy = call.chat, self._live.policies.get(call.policy)  # a reload may have taken it away
        assert chat is not None
        return policy.queue.comment_after if policy is not None and chat.stream else None

    def _request(self, call: Call) -> Request:
        chat, caller = call.chat, call.caller
        assert chat is not None
        assert caller is not None
        return Request(
            id=call.id,
            tenant=caller.name,
            model=call.model,
            class_=caller.class_,
            prompt_bytes=chat.prompt_bytes,
            max_tokens=chat.max_tokens,
            stream=chat.stream,
            arrived=call.received,
            deadline=None if call.max_wait is None else call.received + call.max_wait,
            affinity=call.affinity,
            weight=caller.weight,
        )

    async def _lease(self, call: Call, verdict: Verdict, failure: Failure | None) -> Lease:
        if isinstance(verdict, Wait):
            assert call.request is not None
            began = self._desk.clock()
            try:
                verdict = await self._desk.wait(call.request)
            finally:
                now = self._desk.clock()
                call.queued += now - began
                call.waits = (*call.waits, (began, now))
        if isinstance(verdict, Go):
            return verdict.lease
        raise refused(call, verdict, failure.outcome if failure else None)

    async def _attempt(self, call: Call, lease: Lease) -> Response | Failure:
        """One try. Returns a response that carries the lease, or a failure whose lease the caller settles."""
        line = self._live.lines.get(lease.backend)
        attempt = Attempt(lease, self._desk.clock())
        call.attempts.append(attempt)
        if line is None or lease.model_id not in line.model_json:  # a reload took it away in this very instant
            return self._note(attempt, Failure(Failed("connect")))
        line.busy += 1
        kept = False
        try:
            result = await self._exchange(call, attempt, line)
            kept = isinstance(result, Response) and not isinstance(result.body, bytes)
        except UpstreamError as error:
            result = Failure(Failed("connect" if error.phase == "connect" else "server"))
        except BaseException as error:
            self._note(attempt, Failure(_interrupted(call, error)))
            self._desk.settle(lease, attempt.outcome or Abandoned())
            raise
        finally:
            if not kept:
                line.busy -= 1
                self._live.release(line)
        return self._note(attempt, result) if isinstance(result, Failure) else result

    def _note(self, attempt: Attempt, failure: Failure) -> Failure:
        attempt.outcome = failure.outcome
        attempt.ended = self._desk.clock()
        return failure

    async def _exchange(self, call: Call, attempt: Attempt, line: Line) -> Response | Failure:
        chat = call.chat
        assert chat is not None
        timeouts = self._live.policies[call.policy].timeouts
        left = call.received + timeouts.total - self._desk.clock()
        limit = min(timeouts.first_token, left) if chat.stream else left
        name = "first_token_timeout" if chat.stream and limit == timeouts.first_token else "total_timeout"
        deadline = Deadline(self._desk.loop, self._desk.deadlines, limit)
        holder: list[Reply] = []
        try:
            return await self._converse(call, attempt, line, holder)
        except asyncio.CancelledError:
            _hang_up(holder)
            if not deadline.caught():
                raise
            return Failure(Failed("timeout", retryable=name == "first_token_timeout"), timeout=name)
        except sse.FrameTooLong:
            _hang_up(holder)
            return Failure(Failed("protocol"))
        except BaseException:
            _hang_up(holder)
            raise
        finally:
            deadline.close()

    async def _converse(self, call: Call, attempt: Attempt, line: Line, holder: list[Reply]) -> Response | Failure:
        """Send, and read as far as it takes to know whether this attempt will answer. `holder` gets the reply."""
        chat = call.chat
        assert chat is not None
        user = _user(call) if line.dialect.tell_user else b""
        more = b""
        if call.easing is not None:
            more, call.easing.told[attempt.lease.backend] = call.easing.fields(line.dialect)
        model = line.model_json[attempt.lease.model_id]
        body = chat.body(model, ask_usage=line.dialect.ask_usage, user_id=user, more=more)
        context = call.context
        headers = _NO_HEADERS if context is None or not line.traced else propagated(context, attempt.lease.attempt)
        reply = await line.upstream.send(body, headers)
        holder.append(reply)
        attempt.first_byte = self._desk.clock()
        attempt.connect = reply.connect
        if not line.rated.isdisjoint(reply.header_names):
            self._advertise(line, reply)
        if reply.status != 200:
            return self._refusal(line, reply, await reply.read_all(MAX_REFUSAL))
        if not chat.stream:
            return await self._whole(attempt, line, reply)
        return await self._head(call, attempt, line, reply)

    def _advertise(self, line: Line, reply: Reply) -> None:
        for advertised in rateheaders.read(line.dialect, reply.headers, line.backend.account):
            self._desk.apply(advertised)

    def _refusal(self, line: Line, reply: Reply, body: bytes) -> Failure:
        signal = classify(line.dialect, reply.status, reply.headers, body, wall=self._wall())
        return Failure(outcome(signal), signal)

    async def _whole(self, attempt: Attempt, line: Line, reply: Reply) -> Response | Failure:
        """A complete answer: errors may hide in a 200, so it is looked at before the client gets it."""
        body = (await reply.read_all(MAX_ANSWER)).lstrip()
        summary = summarise(body)
        attempt.usage = summary.usage if summary else None  # also of an answer that will not do: it is billed
        if (signal := in_band(line.dialect, body)) is not None:
            return Failure(outcome(signal), signal)
        if summary is None or not summary.has_choices:
            return Failure(Failed("protocol"))
        if summary.finish and failed_finish(line.dialect, summary.finish):
            return Failure(Overloaded())
        now = self._desk.clock()
        attempt.first_token = attempt.ended = now
        if summary.usage is None:
            attempt.tokens = ceil(len(body) / BYTES_PER_TOKEN)
        attempt.outcome = Served(summary.usage)
        self._desk.settle(attempt.lease, attempt.outcome)
        return Response(200, _JSON, body)

    async def _head(self, call: Call, attempt: Attempt, line: Line, reply: Reply) -> Response | Failure:
        """Read up to the first meaningful frame, which commits the answer to this cloud."""
        splitter = sse.Splitter()
        held = bytearray()
        while (data := await reply.read_any()) and len(held) < MAX_HELD:
            offset = 0
            block = splitter.feed(data)
            for raw in sse.frames(block):
                frame = sse.read(raw)
                if (failure := self._refused_in_band(line, frame)) is not None:
                    attempt.usage = frame.usage
                    reply.abort()
                    return failure
                if frame.kind in {"token", "finish"}:
                    return self._commit(call, attempt, line, reply, bytes(held) + block[offset:], splitter)
                if frame.kind not in {"comment", "done"}:
                    held += raw
                offset += len(raw)
        reply.abort()
        if (signal := in_band(line.dialect, bytes(held) + splitter.rest)) is not None:
            return Failure(outcome(signal), signal)
        return Failure(Failed("protocol"))

    def _refused_in_band(self, line: Line, frame: sse.Frame) -> Failure | None:
        if frame.kind == "finish" and frame.finish and failed_finish(line.dialect, frame.finish):
            return Failure(Overloaded())
        if frame.kind in {"unknown", "empty"} and (signal := in_band(line.dialect, frame.data)) is not None:
            return Failure(outcome(signal), signal)
        return None

    def _commit(
        self, call: Call, attempt: Attempt, line: Line, reply: Reply, held: bytes, splitter: sse.Splitter
    ) -> Response:
        attempt.first_token = now = self._desk.clock()
        self._desk.dispatcher.started(attempt.lease, now)
        if self._races.running:
            self._races.won(call, attempt)
        body = StreamBody(call, attempt, line, reply, self._live, self._desk)
        body.start(held, splitter)
        return Response(200, _STREAM, body)


def _user(call: Call) -> bytes:
    """Who asks, for a cloud that keeps users apart, as JSON; empty: nothing of ours is told.

    A name that the client gave to a user of its own is hashed together with the tenant's: users of one tenant are kept
    apart, and no tenant can pass for another.
    """
    chat, caller = call.chat, call.caller
    assert chat is not None
    assert caller is not None
    if not caller.user_id or not chat.user_id:
        return b'"' + caller.user_id.encode() + b'"' if caller.user_id else b""
    own = hashlib.sha256(caller.user_id.encode() + b"\0" + chat.user_id).hexdigest()[:32]
    return f'"{caller.user_id}-{own}"'.encode()


def _interrupted(call: Call, error: BaseException) -> Outcome:
    """How an attempt ended that was not let end: by its twin, by its client, or by a fault of ours."""
    if not isinstance(error, asyncio.CancelledError):
        return Failed("protocol", retryable=False)
    return Beaten() if any(attempt.first_token for attempt in call.attempts) else Abandoned()


def _hang_up(holder: list[Reply]) -> None:
    for reply in holder:
        reply.abort()


def _final(call: Call, failure: Failure) -> RequestError:
    signal = failure.signal
    if signal is not None and signal.kind in {"content", "invalid"}:
        status, type_, code, message = client_error(signal)
        error = UpstreamRejected(message, code=code, status=status)
        error.kind = type_
        return error
    return exhausted(call, failure.outcome, failure.timeout)
