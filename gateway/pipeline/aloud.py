"""Waiting aloud: who waits for a stream is told his place in comments of that stream.

Off unless the policy says `comment_after`, since the first comment commits the status 200: what goes wrong afterwards
is an error frame in the stream, and the facts that are headers otherwise are in a last comment. Serving goes on in a
task of its own; whoever closes the body, or is cancelled while it is awaited, ends that task at once, and with it the
place in the queue or the attempt under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from math import ceil
from typing import Any

from gateway.errors import RequestError
from gateway.pipeline.desk import Desk
from gateway.service import Call, Headers, Response
from gateway.wire.envelope import encode_error
from gateway.wire.sse import error_event

EVERY = 5.0
"""seconds between two comments"""
_AGAIN = 1.0
Facts = Callable[[Call], Headers]


async def aloud(
    call: Call, serving: Coroutine[Any, Any, Response], desk: Desk, after: float, stream: Headers, facts: Facts
) -> Response:
    """What `serving` answers; or, when it still waits in the queue after `after` seconds, a stream that tells so.

    `stream` are the headers of a stream, `facts` those that tell of a call.
    """
    task = desk.loop.create_task(serving)
    pause = after
    while True:
        try:
            await asyncio.wait({task}, timeout=pause)
        except asyncio.CancelledError:
            await _drop(task)
            raise
        if task.done():
            return task.result()
        if (comment := _comment(call, desk)) is not None:
            return Response(200, [*stream], _Aloud(call, task, desk, comment, facts))
        pause = max(after, _AGAIN)  # it runs; should that fail, it may have to wait again


class _Aloud:
    """Comments while it waits, then the answer, or an error frame. Iterate it, then `aclose`."""

    def __init__(self, call: Call, task: asyncio.Task[Response], desk: Desk, comment: bytes, facts: Facts) -> None:
        self._call = call
        self._task = task
        self._desk = desk
        self._comment = comment
        self._facts = facts
        self._answer: AsyncIterator[bytes] | None = None
        self._failed = False

    def __aiter__(self) -> _Aloud:
        return self

    async def __anext__(self) -> bytes:
        if self._answer is not None:
            return await anext(self._answer)
        if self._failed:
            raise StopAsyncIteration
        comment: bytes | None
        comment, self._comment = self._comment, b""
        while not comment:
            await asyncio.wait({self._task}, timeout=EVERY)
            if self._task.done():
                return self._begin(self._task)
            comment = _comment(self._call, self._desk)
        return comment

    async def aclose(self) -> None:
        """End the serving, however far it got."""
        await _drop(self._task)

    def _begin(self, task: asyncio.Task[Response]) -> bytes:
        """The end of the waiting, in one block: an error, or what the headers would have said."""
        call = self._call
        call.responded = self._desk.clock()
        try:
            response = task.result()
        except RequestError as error:
            self._failed = True
            call.status = error.http_status
            return error_event(encode_error(error))
        assert not isinstance(response.body, bytes)
        self._answer = aiter(response.body)
        facts = b" ".join(name + b"=" + value.replace(b" ", b"") for name, value in self._facts(call))
        return b": " + facts + b"\n\n"


def _comment(call: Call, desk: Desk) -> bytes | None:
    """The place of a request in the queue, None when it does not wait."""
    assert call.request is not None
    place = desk.dispatcher.outlook.place(call.request, desk.clock())
    if place is None:
        return None
    ahead, wait = place
    expected = b"" if wait is None else b" expected=%ds" % ceil(wait)
    return b": waiting position=%d%s\n\n" % (ahead + 1, expected)


async def _drop(task: asyncio.Task[Response]) -> None:
    """End a serving and give back what it holds."""
    task.cancel()
    try:
        response = await task
    except (asyncio.CancelledError, RequestError):
        return
    if not isinstance(response.body, bytes):
        await response.body.aclose()
