"""The demo's HTTP client: real sockets, keep-alive, one callback per answer, and next to nothing per event.

The load generator shares two cores with a gateway and five clouds and must not be what is measured, so there is no
task, no timer and no JSON per event: a body is only looked at when it is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import urlsplit

import httptools

KEPT = 4096
"""bytes of a streamed body's end that are kept: the usage and the end mark stand there"""
_WHOLE = 4 * 1024 * 1024


class Exchange:
    """One request and its answer. Times are the loop's; `first` is the first byte of the body. `lost`: torn off."""

    __slots__ = ("done", "ended", "first", "headers", "lost", "sent", "status", "stream", "tail")

    def __init__(self, stream: bool, done: Callable[[Exchange], None]) -> None:
        self.stream = stream
        self.done = done
        self.sent = self.first = self.ended = 0.0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.tail = b""
        self.lost = False

    def header(self, name: bytes, default: str = "") -> str:
        found = self.headers.get(name)
        return default if found is None else found.decode("latin-1")


class _Line(asyncio.Protocol):
    """One connection: at most one exchange at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.exchange: Exchange | None = None

    def send(self, exchange: Exchange, data: bytes) -> None:
        assert self._transport is not None
        self.exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        exchange, self.exchange = self.exchange, None
        self._client.gone(self)
        if exchange is not None:
            exchange.lost = True
            self._client.finish(exchange)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_status(self, _status: bytes) -> None:
        if self.exchange is not None:
            self.exchange.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.exchange is not None:
            self.exchange.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            if not exchange.first:
                exchange.first = self._client.clock()
            exchange.tail = (exchange.tail + body)[-KEPT if exchange.stream else -_WHOLE :]

    def on_message_complete(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self._parser.should_keep_alive():
            self._client.idle(self)
        else:
            self.close()
        self._client.finish(exchange)


class Client:
    """Talks to one address. `close` tears everything off without calling anybody back."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Line] = []
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self._closed = False

    def send(self, exchange: Exchange, method: str, path: str, body: bytes = b"") -> None:
        """Send a request; `exchange.done` is called with the end of its answer, or when the connection is lost."""
        exchange.sent = self.clock()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\nauthorization: Bearer demo\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        data = head.encode() + body
        if self._idle:
            self._idle.pop().send(exchange, data)
            return
        task = self._loop.create_task(self._dial(exchange, data))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ask(self, method: str, path: str, body: bytes = b"") -> Exchange:
        """The same, awaited."""
        answered: asyncio.Future[Exchange] = self._loop.create_future()

        def done(exchange: Exchange) -> None:
            if not answered.done():
                answered.set_result(exchange)

        self.send(Exchange(False, done), method, path, body)
        return await answered

    async def _dial(self, exchange: Exchange, data: bytes) -> None:
        try:
            _, line = await self._loop.create_connection(lambda: _Line(self), self._host, self._port)
        except OSError:
            exchange.lost = True
            self.finish(exchange)
            return
        self._lines.add(line)
        line.send(exchange, data)

    def idle(self, line: _Line) -> None:
        self._idle.append(line)

    def gone(self, line: _Line) -> None:
        self._lines.discard(line)
        with contextlib.suppress(ValueError):
            self._idle.remove(line)

    def finish(self, exchange: Exchange) -> None:
        if not self._closed:
            exchange.ended = self.clock()
            exchange.done(exchange)

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for line in list(self._lines):
            line.close()
