"""The data-plane client: HTTP/1.1 over asyncio and httptools, one pool per backend, which never queues.

Small on purpose: it posts one kind of request and streams the answer. It closes the connection at once when the
waiting task is cancelled, which frees the cloud's slot during a long prefill. Why not a general client:
docs/decisions/0002.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from gateway.upstream.arriving import Arriving
from gateway.upstream.base import UpstreamError

HIGH_WATER = 1024 * 1024
"""bytes held for a slow reader before the cloud is told to wait"""
IDLE_FOR = 15.0
"""seconds an unused connection is kept"""
MAX_HEADER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one backend listens and how to knock. `secret_headers` (the key) is kept out of every repr."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = 5.0


class HttpReply(Arriving):
    """One answer. Bytes pile up here until they are read; the connection is returned when the last has come."""

    __slots__ = (
        "_bytes", "_connection", "_error", "_raw_headers", "_until_close", "header_names", "status",
    )  # fmt: skip

    def __init__(self, connection: _Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.status = 0
        self._connection: _Connection | None = connection
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self.header_names: AbstractSet[bytes] = frozenset()
        self._bytes = 0
        self._error = ""
        self._until_close = True

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names in lower case; of repeated ones the last."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._raw_headers}

    async def head(self) -> None:
        """Wait for status and headers."""
        while not self.status and not self._error:
            await self._more()
        if not self.status:
            raise UpstreamError("protocol", self._error)

    async def read_any(self) -> bytes:
        while not self._pieces:
            if self._done:
                return b""
            if self._error:
                raise UpstreamError("protocol", self._error)
            await self._more()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._bytes > HIGH_WATER and self._connection is not None:
            self._connection.resume()
        self._bytes = 0
        return data

    async def read_all(self, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read_any():
            size += len(piece)
            if size > limit:
                self.abort()
                raise UpstreamError("protocol", f"an answer of more than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.fail("aborted")
            connection.drop()

    # --- told by the connection -------------------------------------------------------------------------

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._raw_headers = headers
        self.header_names = names = {name.lower() for name, _ in headers}
        self._until_close = b"content-length" not in names and b"transfer-encoding" not in names
        self.status = status
        self._wake()

    def add(self, data: bytes) -> bool:
        """Take bytes in; True when there are now more than a slow reader should hold."""
        self._pieces.append(data)
        self._bytes += len(data)
        self._wake()
        return self._bytes > HIGH_WATER

    def end(self) -> None:
        self._done = True
        self._connection = None
        self._wake()

    def fail(self, cause: str) -> None:
        if not self._done:
            self._error = self._error or cause
            self._wake()

    def closed(self, cause: str) -> None:
        """The connection is gone: the proper end of an answer without a length, a fault for any other."""
        if self.status and self._until_close and not self._error:
            self.end()
        else:
            self._connection = None
            self.fail(cause)


class _Connection(asyncio.Protocol):
    """One connection, serving one answer at a time. httptools calls the `on_…` methods."""

    def __init__(self, pool: HttpUpstream) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._reply: HttpReply | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self.unheard = True
        self._interim = False
        self._paused = False
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0

    def request(self, head: bytes, body: bytes) -> HttpReply:
        assert self.transport is not None
        self._reply = reply = HttpReply(self, self._pool.loop)
        self._headers = []
        self._header_bytes = 0
        self.unheard = True
        self.transport.write(head + body)
        return reply

    def resume(self) -> None:
        """Read on, if reading was paused for a slow reader."""
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def drop(self) -> None:
        """Hang up now; whatever was not sent is not sent."""
        self._reply = None
        if self.transport is not None:
            self.transport.abort()

    # --- asyncio ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        self.unheard = False
        if self._reply is None:  # nobody asked
            self.drop()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._reply is not None:
                self._reply.fail(f"not HTTP: {type(error).__name__}")
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._pool.forget(self)
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.closed(type(exc).__name__ if exc else "closed by the server")

    # --- httptools --------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("headers too large")
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._interim = status < 200
        headers, self._headers = self._headers, []
        if not self._interim and self._reply is not None:
            self._reply.begin(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._reply is not None and self._reply.add(data) and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._interim:
            return
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end()
        self.resume()
        if self._parser.should_keep_alive():
            self._pool.keep(self)
        else:
            self.drop()


class HttpUpstream:
    """One backend over HTTP/1.1. Opens as many connections as there are requests; our queue is the only one.

    Belongs to the event loop in which it was made. `tls` gives the context for https; share one among backends, it
    holds the whole list of authorities.
    """

    def __init__(self, endpoint: Endpoint, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        parts = urlsplit(endpoint.url)
        self._host = parts.hostname or ""
        self._ssl = tls() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        self._timeout = endpoint.connect_timeout
        self.loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        fields = {
            "host": parts.netloc.rpartition("@")[2],
            "user-agent": "spillgate",
            "accept": "*/*",
            "content-type": "application/json",
            **{name.lower(): value for name, value in {**endpoint.headers, **endpoint.secret_headers}.items()},
        }
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header may not contain a line break")
        self._head = "\r\n".join(lines).encode() + b"\r\n"

    def __repr__(self) -> str:
        return f"<HttpUpstream {self._host}:{self._port} [open {len(self._open)}, idle {len(self._idle)}]>"

    async def send(self, body: bytes, headers: Mapping[str, str]) -> HttpReply:
        """See `base.Upstream`. Raises `UpstreamError`; cancelling closes the connection at once."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() if headers else b""
        head = b"%b%bcontent-length: %d\r\n\r\n" % (self._head, more, len(body))
        while (connection := self._reuse()) is not None:
            reply = connection.request(head, body)
            try:
                return await self._answered(reply)
            except UpstreamError:
                # Many servers close a connection right after an answer. One that ends without a word about a new
                # request was closed before it came: that says nothing about the cloud.
                if not connection.unheard:
                    raise
        began = time.monotonic()
        connection = await self._connect()
        took = time.monotonic() - began
        reply = await self._answered(connection.request(head, body))
        reply.connect = took
        return reply

    async def _answered(self, reply: HttpReply) -> HttpReply:
        try:
            await reply.head()
        except BaseException:
            reply.abort()
            raise
        return reply

    def keep(self, connection: _Connection) -> None:
        """The connection is free again."""
        if connection in self._open:
            connection.idle_since = self.loop.time()
            self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """The connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def aclose(self) -> None:
        for connection in tuple(self._open):
            connection.drop()
        self._open.clear()
        self._idle.clear()

    def _reuse(self) -> _Connection | None:
        oldest = self.loop.time() - IDLE_FOR
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest and connection.transport is not None:
                return connection
            connection.drop()
        return None

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await self.loop.create_connection(
                    lambda: _Connection(self),
                    self._host,
                    self._port,
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl else None,
                )
        except TimeoutError:
            raise UpstreamError("connect", f"no connection within {self._timeout:g} s") from None
        except OSError as error:
            raise UpstreamError("connect", type(error).__name__) from None
        self._open.add(connection)
        return connection
