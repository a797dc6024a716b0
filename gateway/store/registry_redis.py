"""The registry in Redis: one hash, changed by one script. See `store.redis` for the addresses it understands.

The hash has no expiry and is small. Redis should keep it (`appendonly yes`, or snapshots); where it does not, the
replicas that still run put back what was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, TypeVar

from redis.exceptions import RedisError

from gateway.store.base import StoreDown
from gateway.store.redis import TIMEOUT, connect, hang_up, shown
from gateway.store.registry import NOTHING, Changes, Stored, Token, token

KEY = "spillgate:{tenants}"
SCRIPT = (files("gateway.store") / "registry.lua").read_text("utf-8")
_TOKEN = b"token"
T = TypeVar("T")


class RedisRegistry:
    """See `Registry`. The URL's password is never shown. No connection is made before it is needed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._where = shown(url)
        self._timeout = timeout
        self._client: Any = None

    def __repr__(self) -> str:
        return f"<RedisRegistry {self._where}>"

    async def token(self) -> Token:
        """See `Registry.token`."""

        async def ask(client: Any) -> Token:
            return _token(await client.hget(KEY, "token"))

        return await self._say(ask)

    async def read(self) -> Stored:
        """See `Registry.read`."""

        async def ask(client: Any) -> Stored:
            found: dict[bytes, bytes] = await client.hgetall(KEY)
            named = _token(found.pop(_TOKEN, None))
            return Stored(named, {name.decode("utf-8", "replace"): raw for name, raw in found.items()})

        return await self._say(ask)

    async def commit(self, seen: Token, changes: Changes) -> Token | None:
        """See `Registry.commit`."""
        new = seen.next()
        return new if await self._write("commit", str(seen), new, changes) else None

    async def restore(self, stored: Stored) -> bool:
        """See `Registry.restore`."""
        return await self._write("restore", str(stored.token.count), stored.token, stored.fields)

    async def aclose(self) -> None:
        """See `Registry.aclose`."""
        await self._drop()

    async def _write(self, verb: str, seen: str, new: Token, changes: Changes) -> bool:
        puts = [part for name, raw in changes.items() if raw is not None for part in (name, raw)]
        drops = [name for name, raw in changes.items() if raw is None]

        async def ask(client: Any) -> bool:
            return bool(await client.eval(SCRIPT, 1, KEY, verb, seen, str(new), len(puts) // 2, *puts, *drops))

        return await self._say(ask)

    async def _say(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """One exchange under the time-out. After a failure the connection is dropped: a late answer reaches nobody."""
        if self._client is None:
            self._client = connect(self._url, self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                return await ask(self._client)
        except TimeoutError:
            await self._drop()
            raise StoreDown(f"{self._where} did not answer within {self._timeout:g} s") from None
        except (RedisError, OSError) as error:
            await self._drop()
            raise StoreDown(f"{self._where}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await hang_up(client, self._timeout)


def _token(raw: bytes | None) -> Token:
    return token(raw.decode("utf-8", "replace")) if raw else NOTHING
