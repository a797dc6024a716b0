"""Answers in Redis, with those used last at hand in this process. Redis slow or gone means that there are none.

A look waits for `PATIENCE` and no longer; the exchange goes on in the background, and until one has succeeded nobody
else waits at all. What is at hand is dropped when the number of purges has changed, which is asked for once a second
while it is used and comes with every look; when it has not been learnt for `TRUST`, nothing at hand is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from gateway.store.answers import Answer, Bounds, Kept, Look, Shelf, Standing, Which, pack, unpack
from gateway.store.base import StoreDown
from gateway.store.line import TIMEOUT, Call, Line, Script

PATIENCE = 0.005
"""Seconds."""
CONFIRM = 1.0
TRUST = 10.0
RETRY = 0.25
MOST_ASKING = 128
"""Exchanges at a time; who comes then finds nothing."""
NEAR = Bounds(0.0, 4096, 64 * 2**20)
"""What is at hand of each space, at most."""
_TAG = "spillgate:{answers}:1"
"""The end is the version of the layout."""
_SPACES = f"{_TAG}:spaces"
_SCRIPT = Script("answers.lua")
_PAGE = 500
_TURNS = 4
"""Turns of the loop from bytes that have come to the answer they make."""
_LATE_TURNS = 4
"""How often it is waited again when the loop came back late: a busy machine is not a slow Redis."""


class RedisAnswers:
    """See `Answers`. `wall` and `clock` return Unix and monotonic seconds. The URL's password is never shown."""

    def __init__(
        self, url: str, wall: Callable[[], float], clock: Callable[[], float], timeout: float = TIMEOUT
    ) -> None:
        self._line = Line(url, timeout)
        self._clock = clock
        self.shelf = Shelf(wall)
        self.failures = 0
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._away = False
        self._again = 0.0

    def __repr__(self) -> str:
        return f"<RedisAnswers {self._line.where} {self.shelf!r}>"

    def peek(self, space: str, key: bytes) -> Answer | None:
        """See `Answers.peek`."""
        seen = self._seen.get(space)
        if seen is None:
            return None
        since = self._clock() - seen[1]
        if since > CONFIRM:
            self._probe(space)
            if since > TRUST:
                return None
        return self.shelf.get(space, key)

    async def look(self, space: str, key: bytes, bounds: Bounds) -> Look:
        """See `Answers.look`."""
        if self._away:
            self._probe(space)
            return Look()
        if len(self._tasks) >= MOST_ASKING:
            return Look()
        task = self._spawn(self._ask(space, key, bounds))
        loop = asyncio.get_running_loop()
        for _ in range(_LATE_TURNS):
            began = loop.time()
            await asyncio.wait({task}, timeout=PATIENCE)
            if task.done() or loop.time() - began < 2 * PATIENCE:
                break
        for _ in range(_TURNS):
            if task.done():
                return task.result()
            await asyncio.sleep(0)
        self._away = True
        return Look(late=lambda: task.result().mark if task.done() and not task.cancelled() else None)

    async def keep(self, space: str, key: bytes, answer: Answer, bounds: Bounds, mark: bytes) -> None:
        """See `Answers.keep`. At hand at once; waits for Redis as long as an exchange may take."""
        if self._away or len(self._tasks) >= MOST_ASKING:
            return
        self._hold(space, key, answer, bounds)
        await self._tell(space, key, answer, bounds, mark)

    def standing(self) -> Standing:
        """See `Answers.standing`."""
        return Standing(self.shelf.entries, self.shelf.size, self.failures)

    async def entries(self) -> AsyncIterator[Kept]:
        """See `Answers.entries`."""
        for space in await self._spaces():
            async for page in self._pages(space):
                for kept in page:
                    yield kept

    async def purge(self, which: Which) -> int:
        """See `Answers.purge`. Other replicas drop what they have at hand within a second or so of its next use."""
        dropped = 0
        for space in await self._spaces():
            self.shelf.clear(space)
            await self._line.run(_call("purged", space))
            async for page in self._pages(space):
                if chosen := [kept.key.hex() for kept in page if kept in which]:
                    dropped += (await self._line.run(_call("drop", space, *chosen)))[0]
        return dropped

    async def aclose(self) -> None:
        """See `Answers.aclose`. What is on its way to Redis is given the time of one exchange."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._line.timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._line.aclose()

    # --- in the background ------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, Look]) -> asyncio.Task[Look]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _probe(self, space: str) -> None:
        """Ask again, seldom, without anybody waiting."""
        now = self._clock()
        if now >= self._again and len(self._tasks) < MOST_ASKING:
            self._again = now + RETRY
            self._spawn(self._ask(space, b"", NEAR))

    async def _ask(self, space: str, key: bytes, bounds: Bounds) -> Look:
        sent = self._clock()
        name = key.hex()
        try:
            gen, entry = await self._line.say(lambda client: client.hmget(_keys(space)[0], ["gen", name]))
        except StoreDown:
            self._failed()
            return Look()
        self._away = False
        mark = gen or b""
        seen = self._seen.get(space)
        if seen is not None and seen[0] != mark:
            self.shelf.clear(space)
        self._seen[space] = (mark, sent)
        answer = None if entry is None else unpack(key, entry)
        if answer is not None:
            self._hold(space, key, answer, bounds)
        return Look(answer, mark)

    async def _tell(self, space: str, key: bytes, answer: Answer, bounds: Bounds, mark: bytes) -> None:
        entry = pack(key, answer)
        info = f"{len(entry)} {answer.at:.3f} {answer.tenant} {answer.model}"
        said = (key.hex(), entry, info, str(round(bounds.ttl * 1000)), str(bounds.entries), str(bounds.bytes), mark)
        try:
            await self._line.run(_call("keep", space, *said))
        except StoreDown:
            self._failed()

    def _failed(self) -> None:
        self.failures += 1
        self._away = True
        self._again = self._clock() + RETRY

    def _hold(self, space: str, key: bytes, answer: Answer, bounds: Bounds) -> None:
        near = Bounds(bounds.ttl, min(bounds.entries, NEAR.entries), min(bounds.bytes, NEAR.bytes))
        self.shelf.put(space, key, answer, near)

    # --- for operators ----------------------------------------------------------------------------------

    async def _spaces(self) -> list[str]:
        found: set[bytes] = await self._line.say(lambda client: client.smembers(_SPACES))
        return sorted(name.decode() for name in found)

    async def _pages(self, space: str) -> AsyncIterator[list[Kept]]:
        cursor = 0
        while True:
            cursor, page = await self._line.say(partial(_scan, _keys(space)[2], cursor))
            yield [kept for name, about in page.items() if (kept := _kept(space, name, about)) is not None]
            if not cursor:
                return


def _keys(space: str) -> tuple[str, str, str, str]:
    at = f"{_TAG}:{space}"
    return f"{at}:values", f"{at}:index", f"{at}:info", _SPACES


def _call(verb: str, space: str, *said: bytes | str) -> Call:
    return Call(_SCRIPT, _keys(space), (verb, space, *said))


async def _scan(name: str, cursor: int, client: Any) -> tuple[int, dict[bytes, bytes]]:
    found: tuple[int, dict[bytes, bytes]] = await client.hscan(name, cursor, count=_PAGE)
    return found


def _kept(space: str, name: bytes, about: bytes) -> Kept | None:
    try:
        size, at, tenant, model = about.decode().split(" ")
        return Kept(space, bytes.fromhex(name.decode()), int(size), float(at), tenant, model)
    except ValueError:
        return None
