"""POST /v1/chat/completions as a pure ASGI endpoint: the hot path.

Reads lazily (a stranger's body is never buffered), bounds what it reads, carries the response out and makes sure
that a client who leaves ends the call at once, whether it was waiting, prefilling or streaming.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.core.nouns import Served
from gateway.errors import BadRequest, BodyTooLarge, MethodNotAllowed, RequestError
from gateway.pipeline.live import Live
from gateway.pipeline.observe import error_response, routing_headers
from gateway.service import Call, Response, Service
from gateway.wire.envelope import encode_error
from gateway.wire.sse import error_event

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_TIMEOUT = 60.0
HOOK = "spillgate.connection"
"""Where a call finds its connection in its scope, if that is one of ours (see `edge.server`)."""
log = logging.getLogger("spillgate.edge")


class ChatDoor:
    """The ASGI endpoint. One per process; `active` counts calls under way."""

    def __init__(self, service: Service, live: Live, clock: Callable[[], float]) -> None:
        self._service = service
        self._live = live
        self._clock = clock
        self._prefix = "req-" + secrets.token_hex(6) + "-"
        self._serial = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.active = 0
        self.farewell: Callable[[], RequestError] | None = None
        """set when a call that is cancelled is one that we end: what its client is told"""

    def new_id(self) -> str:
        """A request id nobody else has: a random prefix of this process and a serial number."""
        return f"{self._prefix}{next(self._serial):x}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        call = Call(
            self.new_id(),
            self._clock(),
            headers,
            lambda: self._read(call, receive),
            _credential(headers.get(b"authorization", b"")),
        )
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        gone = _Gone(scope, self._loop)
        self.active += 1
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Use POST.", code="method_not_allowed")
            response = await self._service(call)
            await self._answer(scope, response, send)
        except asyncio.CancelledError:
            if gone.swallow():
                call.status = call.status or 499
            elif self.farewell is not None:
                gone.close()
                await self._cut(scope, call, self.farewell(), send)
            else:
                raise
        except RequestError as error:
            await self._answer(scope, _with_id(call, error), send)
        except Exception:
            log.exception("a call failed inside the gateway", extra={"request_id": call.id})
            if call.responded == 0.0:
                failure = RequestError("The gateway failed to handle this request.", code="internal_error")
                await self._answer(scope, _with_id(call, failure), send)
        finally:
            self.active -= 1
            gone.close()
            call.ended = self._clock()
            for tell in reversed(call.on_end):
                tell(call)

    async def _answer(self, scope: Scope, response: Response, send: Send) -> None:
        body = response.body
        headers = response.headers
        if isinstance(body, bytes):
            headers.append((b"content-length", b"%d" % len(body)))
            connection = scope.get(HOOK)
            if connection is not None and connection.respond(scope, response.status, headers, body):
                return
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        try:
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for block in body:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await body.aclose()

    async def _cut(self, scope: Scope, call: Call, error: RequestError, send: Send) -> None:
        """End a call that we have cancelled, in the form that its answer has."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        task.uncancel()
        if call.responded == 0.0:
            await self._answer(scope, _with_id(call, error), send)
        elif call.chat is not None and call.chat.stream:
            ended = bool(call.attempts) and isinstance(call.attempts[-1].outcome, Served)
            await send({"type": "http.response.body", "body": b"" if ended else error_event(encode_error(error))})

    async def _read(self, call: Call, receive: Receive) -> bytes:
        call.reading = self._clock()
        limit = self._live.max_body
        declared = call.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        message = await receive()
        if not message.get("more_body"):
            call.got = self._clock()
            return _checked(message.get("body", b""), limit)
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                return await _rest(message.get("body", b""), limit, receive)
        except TimeoutError:
            raise BadRequest("The request body did not arrive in time.", code="body_timeout", status=408) from None
        finally:
            call.got = self._clock()


async def _rest(first: bytes, limit: int, receive: Receive) -> bytes:
    body = bytearray(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        body += message.get("body", b"")
        _checked(body, limit)
        if not message.get("more_body"):
            return bytes(body)


def _checked(body: bytes | bytearray, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes (server.max_body).", code="body_too_large")


def _credential(header: bytes) -> str:
    if header.startswith(b"Bearer "):
        return header[7:].decode("latin-1").strip()
    scheme, _, key = header.decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _with_id(call: Call, error: RequestError) -> Response:
    response = error_response(error)
    call.status = response.status
    response.headers += routing_headers(call)
    return response


class _Gone:
    """Cancels the serving task when its client closes the connection, and knows that it did."""

    __slots__ = ("_connection", "_fired", "_task")

    def __init__(self, scope: Scope, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self._task = task
        self._fired = False
        self._connection = scope.get(HOOK)
        if self._connection is not None:
            self._connection.on_lost = self._lost

    def _lost(self) -> None:
        if not self._fired:
            self._fired = True
            self._task.cancel()

    def swallow(self) -> bool:
        """Whether the cancellation was ours; if so the task is no longer considered cancelled."""
        if self._fired:
            self._task.uncancel()
        return self._fired

    def close(self) -> None:
        if self._connection is not None:
            self._connection.on_lost = None
