"""One line to Redis: every exchange under one hard time-out, scripts by their hash, and no late answers.

Nothing is retried here: who calls knows when. After a failure the connections are dropped, so that an answer that
comes late reaches nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypeVar, cast

from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from gateway.store.address import connect, hang_up, shown
from gateway.store.base import StoreDown

TIMEOUT = 0.5
"""Seconds for one round trip of everything."""
T = TypeVar("T")


class Script:
    """A Lua script of this package and the hash that it is called by."""

    def __init__(self, name: str) -> None:
        self.text = (files("gateway.store") / name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script. Its keys are in one hash slot."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[bytes | str, ...]


class Line:
    """A client that is made when it is needed and dropped when it fails. `url` as in `store.address`; its password is
    never shown. No connection is made before it is needed. Exchanges may overlap; a failure ends those under way.

    Raises ValueError for a URL with an option that does not exist.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.where = shown(url)
        """the address without what must not be seen"""
        self.timeout = timeout
        self.calls = 0
        """scripts called, for the bills"""
        self._url = url
        self._client: Any = connect(url, timeout)
        self._by_hash = True

    def __repr__(self) -> str:
        return f"<Line {self.where}>"

    async def say(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """One exchange, with redis-py's client. Raises `StoreDown`; then nothing is known about what Redis did.
        Cancelled: the same, and the connections are dropped."""
        if self._client is None:
            self._client = connect(self._url, self.timeout)
        client = self._client
        try:
            async with asyncio.timeout(self.timeout):
                return await ask(client)
        except TimeoutError:
            await self._drop(client)
            raise StoreDown(f"{self.where} did not answer within {self.timeout:g} s") from None
        except (RedisError, OSError) as error:
            await self._drop(client)
            raise StoreDown(f"{self.where}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self._drop(client)
            raise

    async def run(self, *calls: Call) -> list[Any]:
        """Call scripts in one pipelined round trip, answers in their order; as `say`.

        They are sent by their hash and, to a server that does not know one, in full (that also teaches it). A server
        that forbids hashes gets them in full always. To a cluster every call goes on its own, all at once.
        """
        return await self.say(lambda client: self._run(client, calls))

    async def aclose(self) -> None:
        """Close the connections; the next exchange opens new ones. Never raises for a server that is down."""
        await self._drop(self._client)

    async def _run(self, client: Any, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = [NoScriptError()] * len(calls)
        if self._by_hash:
            replies = await self._send(client, "evalsha", calls)
            if any(_forbidden(reply) for reply in replies):
                self._by_hash = False
        again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError) or _forbidden(reply)]
        if again:
            for i, reply in zip(again, await self._send(client, "eval", [calls[i] for i in again]), strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, RedisError | OSError | TimeoutError):
                raise reply
            if isinstance(reply, Exception):
                # redis-py's Cluster client trips over connections that another call of its own has just closed.
                raise RedisError(f"{type(reply).__name__}: {reply}") from reply
        return replies

    async def _send(self, client: Any, verb: str, calls: Sequence[Call]) -> list[Any]:
        self.calls += len(calls)
        if isinstance(client, RedisCluster):
            # Slots differ: one call each, all under way at once.
            return await asyncio.gather(*(_give(client, verb, call) for call in calls), return_exceptions=True)
        pipe = client.pipeline(transaction=False)
        for call in calls:
            _give(pipe, verb, call)
        return cast("list[Any]", await pipe.execute(raise_on_error=False))

    async def _drop(self, client: Any) -> None:
        if client is not None:
            if client is self._client:  # else somebody else has dropped it, and has perhaps opened another
                self._client = None
            await hang_up(client, self.timeout)


def _forbidden(reply: Any) -> bool:
    if isinstance(reply, NoPermissionError):
        return True
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()


def _give(to: Any, verb: str, call: Call) -> Awaitable[Any]:
    what = call.script.sha if verb == "evalsha" else call.script.text
    return cast("Awaitable[Any]", getattr(to, verb)(what, len(call.keys), *call.keys, *call.args))
