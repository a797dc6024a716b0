"""uvicorn's HTTP protocol, with two things that only the connection can do well.

- It tells a waiting call at once when its client has gone. Plain ASGI would need a task per request that waits on
  `receive()`; a callback on the connection costs nothing. The call finds the connection in its scope.
- It sends a response's head together with the first piece of its body: one system call instead of two, which is a
  tenth of an answer's cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HOOK = "spillgate.connection"
_HEAD = b"HTTP/1.1 "


class Corked:
    """A transport that holds a response's head back until the next write, the end of the response, or the close.

    An interim head (100 Continue) goes out at once.
    """

    __slots__ = ("_held", "_transport", "_write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(_HEAD) and data[9:10] != b"1":
            self._held = data
            return
        self._write(data)

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            data, self._held = self._held, b""
            self._write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One client connection. `on_lost` is called when it closes while a call is being served."""

    on_lost: Callable[[], None] | None = None

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._corked = Corked(transport)
        self.transport = cast("asyncio.Transport", self._corked)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[HOOK] = self

    def on_response_complete(self) -> None:
        self._corked.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
