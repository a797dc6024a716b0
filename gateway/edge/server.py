"""uvicorn's HTTP protocol, with three things that only the connection can do well.

- It tells a waiting call at once when its client has gone. Plain ASGI would need a task per request that waits on
  `receive()`; a callback on the connection costs nothing. The call finds the connection in its scope.
- It sends a response's head together with the first piece of its body: one system call instead of two, which is a
  tenth of an answer's cost.
- It sends a whole answer in one go (`respond`), which spares two messages and a second look at every header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.service import Headers

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

    def respond(self, scope: object, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole response at once. False, and nothing is sent, where that is not a plain matter.

        It does what two ASGI messages would, without looking at every header twice: ours are made of checked names.
        """
        cycle = self.cycle
        if cycle.scope is not scope or cycle.response_started or cycle.disconnected:
            return False  # another request is behind this one in the pipe, or there is nobody to answer
        if cycle.flow.write_paused:
            return False
        pieces = [STATUS_LINE[status]]
        for name, value in headers:
            pieces += (name, b": ", value, b"\r\n")
        pieces.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        pieces.append(body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(pieces))
        self._corked.flush()
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        self._corked.flush()
        super().on_response_complete()

    def finish(self) -> None:
        """Close the connection after the answer that is under way."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        if cycle is not None:
            cycle.keep_alive = False

    def drop(self) -> None:
        """Close the connection now, whatever is under way."""
        self._corked.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
        if not self.connections and (nobody := getattr(self.server_state, "nobody", None)) is not None:
            nobody.set()
