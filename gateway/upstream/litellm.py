"""`driver: litellm`: clouds of other dialects. The only file that imports litellm, late, and in a thread of its own.

litellm takes seconds to import and milliseconds of processor time for each request, so it lives in a room apart: one
thread with an event loop, started with the first backend that wants it and ended with the last. Its asynchronous
interface is used: measured against a pretend Anthropic, cancelling it closes the connection within 12 ms, before the
head and in the middle of a stream, while its synchronous interface in a thread goes on until the answer has come
(docs/decisions/0012-litellm.md).

Between the two loops nothing is shared: the room tells a reply what came, and the reply tells the room what was read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from gateway.upstream.base import UpstreamError
from gateway.upstream.handed import HIGH_WATER, HandedReply
from gateway.wire import foreign
from gateway.wire.sse import DONE

CLOSING = 10.0
"""seconds that ending the room may take"""
SETTLING = 0.05
"""seconds for closed connections to end: their transports do so in a later pass of the loop"""
HELPERS = 4
"""threads in which litellm prepares requests"""

ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
    "AIOHTTP_CONNECTOR_LIMIT": "1000000",
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "1000000",
    "LOGGING_EXECUTOR_MAX_THREADS": "1",
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000000",
}
"""Set before the import: everything bundled, nothing fetched; no `.env` file read; no image fetched for a client (who
could name an address of ours); no queue in its connection pools, ours is the only one; no opinion on answers that say
the same word a hundred times."""

_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
log = logging.getLogger("spillgate")


@dataclass(frozen=True, slots=True)
class Target:
    """One backend. `key` and `headers` are kept out of every repr; an empty `base_url` is the cloud's usual address."""

    base_url: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout: float = 5.0


def imported() -> ModuleType:
    """litellm, kept local and silent. Takes seconds the first time; opens no socket. Raises `ImportError`."""
    os.environ.update(ENVIRONMENT)
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.num_retries = 0
    litellm.model_fallbacks = None
    for name in ("callbacks", "input_callback", "success_callback", "failure_callback"):
        setattr(litellm, name, [])
    for name in [known for known in logging.root.manager.loggerDict if known.lower().startswith("litellm")]:
        logging.getLogger(name).disabled = True
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it names addresses, and some clouds' have the key in them
    found: ModuleType = litellm
    return found


class Room:
    """The thread in which litellm runs. `enter` and `leave` count its users; call them from a running event loop.

    litellm keeps its connections in one place for the whole process, so there is one room for all (`SHARED`).
    """

    def __init__(self, load: Callable[[], ModuleType] = imported) -> None:
        self._load = load
        self._users = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ended: Callable[[], object] = lambda: None
        self.litellm: ModuleType | None = None

    def enter(self) -> None:
        """One more backend; the first starts the thread, which begins with the import."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                arguments = (self._loop, self._thread)
                self._thread = threading.Thread(target=self._run, args=arguments, name="spillgate-litellm", daemon=True)
                self._thread.start()

    async def leave(self) -> None:
        """One less; the last ends the thread and everything in it, and waits for that."""
        with self._lock:
            self._users -= 1
            loop, thread = self._loop, self._thread
            if self._users or loop is None or thread is None:
                return
            self._loop = None
        home, ended = asyncio.get_running_loop(), asyncio.Event()
        self._ended = lambda: home.call_soon_threadsafe(ended.set)
        loop.call_soon_threadsafe(loop.stop)
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), CLOSING)
            thread.join(1.0)  # it has said its last word

    def post(self, what: Callable[..., object], *args: object) -> None:
        """Have something done in the room, in the order of posting. Nothing happens when it has ended."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(what, *args)

    def _run(self, loop: asyncio.AbstractEventLoop, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()
        asyncio.set_event_loop(loop)
        helpers = ThreadPoolExecutor(HELPERS, "spillgate-litellm")
        loop.set_default_executor(helpers)
        try:
            self.litellm = self._load()
        except Exception as error:  # noqa: BLE001 - whatever keeps it from loading: its backends cannot be reached
            log.error("litellm cannot be used: %s", type(error).__name__)
        try:
            loop.run_forever()
            loop.run_until_complete(self._tidy())
        finally:
            helpers.shutdown(wait=True, cancel_futures=True)
            loop.close()
            with suppress(RuntimeError):  # nobody waits any more
                self._ended()

    async def _tidy(self) -> None:
        """End every task and close every connection."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.litellm is not None:
            await self.litellm.close_litellm_async_clients()
            self.litellm.in_memory_llm_clients_cache.flush_cache()
            vars(self.litellm).pop("module_level_aclient", None)  # one of those, made again when it is asked for
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.sleep(SETTLING)


SHARED = Room()


class _Exchange:
    """One call of litellm. Made in the gateway's loop, carried out in the room's."""

    def __init__(
        self, room: Room, wishes: dict[str, Any], secrets: tuple[str, ...], over: Callable[[HandedReply], None]
    ) -> None:
        self._room = room
        self._home = asyncio.get_running_loop()
        self._wishes = wishes
        self._secrets = secrets
        self._stream = bool(wishes.get("stream"))
        self._told_head = False
        self._on_the_way = 0
        self._free = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.reply = HandedReply(lambda: room.post(self._cancel), lambda size: room.post(self._read, size), over)

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _read(self, size: int) -> None:
        self._on_the_way -= size
        self._free.set()

    def _tell(self, what: Callable[..., object], *args: object) -> None:
        with suppress(RuntimeError):  # the gateway's loop has ended
            self._home.call_soon_threadsafe(what, *args)

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._told_head = True
        self._tell(self.reply.begin, status, headers)

    async def _add(self, data: bytes) -> None:
        while self._on_the_way >= HIGH_WATER:
            self._free.clear()
            await self._free.wait()
        self._on_the_way += len(data)
        self._tell(self.reply.add, data)

    async def _run(self) -> None:
        litellm = self._room.litellm
        if litellm is None:
            self._tell(self.reply.fail, "connect", "litellm is not installed")
            return
        try:
            answer = await litellm.acompletion(**self._wishes)
            if self._stream:
                await self._relay(answer)
            else:
                self._begin(200, _JSON)
                self._tell(self.reply.add, foreign.whole(answer.model_dump()))
            self._tell(self.reply.end)
        except Exception as error:  # noqa: BLE001 - a cloud's refusals are litellm's exceptions, of any class
            self._refuse(error)

    async def _relay(self, answer: Any) -> None:
        self._begin(200, _EVENTS)
        try:
            async for chunk in answer:
                await self._add(foreign.frame(chunk.model_dump()))
        finally:
            await answer.aclose()
        await self._add(DONE)

    def _refuse(self, error: Exception) -> None:
        """Say what went wrong as a cloud would: below HTTP, with a status, or as a frame once frames have come."""
        from gateway.upstream.litellm_errors import understood

        told = understood(error)
        if told.phase:
            self._tell(self.reply.fail, told.phase, told.kind)
            return
        body = foreign.refusal(told.kind, told.said, self._secrets)
        if self._told_head:
            body = b"data: " + body + b"\n\n"
        else:
            self._begin(told.status, told.headers)
        self._tell(self.reply.add, body)
        self._tell(self.reply.end)


class LitellmUpstream:
    """One backend through litellm. Belongs to the event loop in which it was made."""

    def __init__(self, target: Target, room: Room) -> None:
        import httpx

        self._room = room
        self._open: set[HandedReply] = set()
        self._closed = False
        self._secrets = tuple(secret for secret in (target.key, *target.headers.values()) if len(secret) >= 6)
        self._headers = dict(target.headers)
        self._settings: dict[str, Any] = {
            "api_key": target.key or None,
            "base_url": target.base_url or None,
            "timeout": httpx.Timeout(None, connect=target.connect_timeout),
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,
            "no-log": True,
        }
        room.enter()

    def __repr__(self) -> str:
        return f"<LitellmUpstream [open {len(self._open)}]>"

    async def send(self, body: bytes, headers: Mapping[str, str]) -> HandedReply:
        """See `base.Upstream`. Raises `UpstreamError`; cancelling closes the connection at once."""
        try:
            wishes = foreign.arguments(body)
        except foreign.NotForLitellm as error:
            return _refused(str(error))
        if self._closed:
            raise UpstreamError("connect", "closed")
        wishes |= {**self._settings, "extra_headers": {**self._headers, **headers} or None}
        exchange = _Exchange(self._room, wishes, self._secrets, self._open.discard)
        reply = exchange.reply
        self._open.add(reply)
        self._room.post(exchange.begin)
        try:
            await reply.head()
        except BaseException:
            reply.abort()
            raise
        return reply

    async def aclose(self) -> None:
        for reply in tuple(self._open):
            reply.abort()
        self._open.clear()
        if not self._closed:
            self._closed = True
            await self._room.leave()


def _refused(message: str) -> HandedReply:
    """A refusal of our own: litellm was not asked."""
    reply = HandedReply(lambda: None, lambda size: None, lambda reply: None)
    reply.begin(400, _JSON)
    reply.add(foreign.refusal("BadRequestError", message))
    reply.end()
    return reply
