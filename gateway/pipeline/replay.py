"""A whole answer, given again in the form in which it is asked for: as JSON, or as a stream, at a pace if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gateway.service import Headers, Response
from gateway.wire.answer import unfold
from gateway.wire.chat import Chat

_JSON: Headers = [(b"content-type", b"application/json")]
STREAM: Headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


def given(chat: Chat, whole: bytes, pace: float = 0.0) -> Response | None:
    """The answer to this request. `pace`: tokens per second, about; 0: at once. None: it is no completion."""
    if not chat.stream:
        return Response(200, _JSON, whole)
    try:
        if pace:
            return Response(200, STREAM, Paced(unfold(whole, usage=chat.include_usage, pieces=True), 1.0 / pace))
        return Response(200, STREAM, b"".join(unfold(whole, usage=chat.include_usage)))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


class Paced:
    """Frames at even distances (seconds), late ones at once. Cancelling it is harmless."""

    def __init__(self, frames: Iterator[bytes], gap: float) -> None:
        self._frames = frames
        self._gap = gap
        self._due = 0.0

    def __aiter__(self) -> Paced:
        return self

    async def __anext__(self) -> bytes:
        frame = next(self._frames, None)
        if frame is None:
            raise StopAsyncIteration
        now = asyncio.get_running_loop().time()
        if self._due > now:
            await asyncio.sleep(self._due - now)
        self._due = max(self._due, now - self._gap) + self._gap if self._due else now + self._gap
        return frame

    async def aclose(self) -> None:
        """Nothing is held."""
