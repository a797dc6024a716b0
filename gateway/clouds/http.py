"""Just enough of an HTTP/1.1 server for pretend clouds, on one `asyncio.Protocol`.

Why not a framework: a cloud must be able to be rude (reset, stall, cut in the middle of a chunk), must notice a
disconnect in the same loop iteration, and must cost a few microseconds per streamed event, because the demo, the
gateway and five clouds share two cores. Answers are written synchronously from one timer; there is no task per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import httptools

MAX_BODY = 64 * 1024 * 1024
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read completely. Header names are lower case."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Site(Protocol):
    """Who answers on a port. `handle` answers through the connection, now or later; `left` tells that it is gone."""

    connections: set[Connection]

    def handle(self, call: Call, connection: Connection) -> None: ...

    def left(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One client connection; requests on it are answered one after the other."""

    __slots__ = (
        "_body", "_close", "_headers", "_parser", "_queue", "_size", "_transport", "_url", "begun", "busy", "site",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        self.site = site
        self.busy = False
        self.begun = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Call, bool]] = deque()
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._url = b""
        self._close = False

    # --- asyncio ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.site.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._queue.clear()
        self.site.connections.discard(self)
        self.site.left(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close = True
            self.reply(400, (), b"")

    # --- httptools ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self.abort()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        call = Call(self._parser.get_method().decode(), path, self._headers, b"".join(self._body))
        self._queue.append((call, not self._parser.should_keep_alive()))
        self._next()

    # --- answering ----------------------------------------------------------------------------------------

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer at once."""
        fields = (*headers, ("content-length", str(len(body))))
        self._write(_head(status, fields, self._close) + body)
        self._finished()

    def begin(self, headers: Headers, first: bytes = b"") -> None:
        """Status 200 and the start of a body of unknown length."""
        self.begun = True
        self._write(_head(200, (*headers, ("transfer-encoding", "chunked")), self._close) + _chunk(first))

    def send(self, data: bytes) -> None:
        """More of a body that has begun."""
        self._write(_chunk(data))

    def end(self, data: bytes = b"") -> None:
        """The last of it."""
        self._write(_chunk(data) + b"0\r\n\r\n")
        self._finished()

    def cut(self) -> None:
        """Close without the end of the body, after what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _finished(self) -> None:
        self.busy = self.begun = False
        if self._close:
            self.cut()
        elif self._queue:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if not self.busy and self._queue and self._transport is not None:
            call, self._close = self._queue.popleft()
            self.busy = True
            self.site.handle(call, self)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _head(status: int, headers: Headers, close: bool) -> bytes:
    reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    if close:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
