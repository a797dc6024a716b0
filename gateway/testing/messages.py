"""A pretend cloud of another dialect: Anthropic's Messages API over a real socket, as its documentation describes it.

It asks for `x-api-key`, `anthropic-version` and `max_tokens`, answers whole or as typed events (thinking, text, tool
use, pings, usage in two places), refuses in its own words, and notices when a caller hangs up. What it does is set by
attributes, at any time; what it saw can be read from others.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

KEY = "sk-ant-pretend-0001"

Event = dict[str, Any]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class MessagesCloud:
    """One listening server. `requests` are the bodies it was sent, `heads` their headers; `peak` is the most at once.

    refuse      (status, message, headers) for every request, or None
    words       the answer's words, one event each
    thinks      whether it thinks aloud first; tools in a request are always used
    prefill     seconds before the head; `gap` seconds between events
    breaks      after this many words: "cut" hangs up, "error" says overloaded_error as an event, "" goes on
    streams     with more than this at once it refuses with 429, as the real one does
    """

    def __init__(self) -> None:
        self.url = ""
        self.refuse: tuple[int, str, Mapping[str, str]] | None = None
        self.words = ["Dams ", "need ", "spillways."]
        self.thinks = False
        self.prefill = 0.0
        self.gap = 0.0
        self.breaks = ""
        self.streams = 1_000_000
        self.requests: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.in_flight = 0
        self.peak = 0
        self.hung_up = 0
        self.sent = 0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: request after request until the caller has enough."""
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = _head(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(int(head.get("content-length", 0)))
                await self._until_gone(writer, self._serve(writer, head, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _until_gone(self, writer: asyncio.StreamWriter, work: Coroutine[Any, Any, None]) -> None:
        """Answer, and stop at once when the caller hangs up."""
        door = writer.transport.get_protocol()
        assert isinstance(door, _Door)
        answering = asyncio.create_task(work)
        gone = asyncio.create_task(door.gone.wait())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self.hung_up += 1
                raise ConnectionResetError
            await answering
        finally:
            self.in_flight -= 1
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    async def _serve(self, writer: asyncio.StreamWriter, head: Mapping[str, str], body: bytes) -> None:
        self.heads.append(dict(head))
        request: dict[str, Any] = json.loads(body)
        self.requests.append(request)
        wrong = self.refuse or self._complaint(head, request)
        if wrong is None and self.in_flight > self.streams:
            wrong = (429, "Number of concurrent connections has exceeded your rate limit", {"retry-after": "3"})
        if wrong is not None:
            await _whole(writer, wrong[0], _error(wrong[0], wrong[1]), wrong[2])
            return
        await asyncio.sleep(self.prefill)
        if request.get("stream"):
            await self._stream(writer, request)
        else:
            await _whole(writer, 200, self._message(request), {})

    def _complaint(self, head: Mapping[str, str], request: Mapping[str, Any]) -> tuple[int, str, dict[str, str]] | None:
        if head.get("x-api-key") != KEY:
            return 401, "invalid x-api-key", {}
        for missing in ("anthropic-version",):
            if missing not in head:
                return 400, f"{missing}: header is required", {}
        for missing in ("model", "max_tokens", "messages"):
            if missing not in request:
                return 400, f"{missing}: Field required", {}
        return None

    def _usage(self) -> dict[str, int]:
        return {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 1}

    def _message(self, request: Mapping[str, Any]) -> Event:
        content = [block for block, _ in self._blocks(request)]
        return {
            "id": "msg_01",
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": content,
            "stop_reason": "tool_use" if request.get("tools") else "end_turn",
            "stop_sequence": None,
            "usage": {**self._usage(), "output_tokens": len(self.words)},
        }

    def _blocks(self, request: Mapping[str, Any]) -> list[tuple[Event, list[Event]]]:
        """Every content block: whole, and as the deltas that make it."""
        found: list[tuple[Event, list[Event]]] = []
        if self.thinks or request.get("thinking"):
            thought = {"type": "thinking", "thinking": "Water rises.", "signature": "c2ln"}
            deltas = [
                {"type": "thinking_delta", "thinking": "Water "},
                {"type": "thinking_delta", "thinking": "rises."},
                {"type": "signature_delta", "signature": "c2ln"},
            ]
            found.append((thought, deltas))
        if self.words:
            text = {"type": "text", "text": "".join(self.words)}
            found.append((text, [{"type": "text_delta", "text": word} for word in self.words]))
        for tool in request.get("tools") or ():
            use = {"type": "tool_use", "id": "toolu_01", "name": tool["name"], "input": {"dam": "Banqiao"}}
            pieces = ['{"dam": "Ban', 'qiao"}']
            found.append((use, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]))
        return found

    def _events(self, request: Mapping[str, Any]) -> list[Event]:
        start = {**self._message(request), "content": [], "stop_reason": None, "usage": self._usage()}
        events: list[Event] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, (block, deltas) in enumerate(self._blocks(request)):
            empty: Event = {**block, **dict.fromkeys({"text", "thinking", "signature"} & block.keys(), "")}
            if "input" in empty:
                empty["input"] = {}
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        reason = "tool_use" if request.get("tools") else "end_turn"
        usage = {**self._usage(), "output_tokens": len(self.words)}
        events.append(
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}
        )
        events.append({"type": "message_stop"})
        return events

    async def _stream(self, writer: asyncio.StreamWriter, request: Mapping[str, Any]) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        said = 0
        for event in self._events(request):
            is_text = event.get("delta", {}).get("type") == "text_delta"
            if is_text and said == 1 and self.breaks:
                if self.breaks == "cut":
                    raise ConnectionResetError
                event = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            said += is_text
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            self.sent += len(data)
            if event["type"] == "error":
                break
            if self.gap:
                await asyncio.sleep(self.gap)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def hang_up(self) -> None:
        """Close every connection."""
        writers = tuple(self._writers)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
        await asyncio.sleep(0)


def _head(raw: bytes) -> dict[str, str]:
    lines = raw.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


class _Door(asyncio.StreamReaderProtocol):
    """A connection that notices when its caller hangs up, also while nothing is read."""

    def __init__(self, connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        super().__init__(asyncio.StreamReader(), connected)
        self.gone = asyncio.Event()

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


async def _whole(writer: asyncio.StreamWriter, status: int, answer: Event, headers: Mapping[str, str]) -> None:
    body = json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {status} -", "content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in {"request-id": "req_pretend", **headers}.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()


def _error(status: int, message: str) -> Event:
    return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": message}}


@asynccontextmanager
async def messages_cloud() -> AsyncIterator[MessagesCloud]:
    """A running one, on a free port of this machine."""
    cloud = MessagesCloud()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: _Door(cloud.connected), "127.0.0.1", 0, backlog=1024)
    cloud.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield cloud
        await cloud.hang_up()
