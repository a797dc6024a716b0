"""The registry in Redis: one hash, changed by one script. See `store.address` for the addresses it understands.

The hash has no expiry and is small. Redis should keep it (`appendonly yes`, or snapshots); where it does not, the
replicas that still run put back what was lost.
"""

from __future__ import annotations

from typing import Any

from gateway.store.line import TIMEOUT, Call, Line, Script
from gateway.store.registry import NOTHING, Changes, Stored, Token, token

KEY = "spillgate:{tenants}"
_CHANGE = Script("registry.lua")
_TOKEN = b"token"


class RedisRegistry:
    """See `Registry`. The URL's password is never shown. No connection is made before it is needed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisRegistry {self._line.where}>"

    async def token(self) -> Token:
        """See `Registry.token`."""

        async def ask(client: Any) -> Token:
            return _token(await client.hget(KEY, "token"))

        return await self._line.say(ask)

    async def read(self) -> Stored:
        """See `Registry.read`."""

        async def ask(client: Any) -> Stored:
            found: dict[bytes, bytes] = await client.hgetall(KEY)
            named = _token(found.pop(_TOKEN, None))
            return Stored(named, {name.decode("utf-8", "replace"): raw for name, raw in found.items()})

        return await self._line.say(ask)

    async def commit(self, seen: Token, changes: Changes) -> Token | None:
        """See `Registry.commit`."""
        new = seen.next()
        return new if await self._write("commit", str(seen), new, changes) else None

    async def restore(self, stored: Stored) -> bool:
        """See `Registry.restore`."""
        return await self._write("restore", str(stored.token.count), stored.token, stored.fields)

    async def aclose(self) -> None:
        """See `Registry.aclose`."""
        await self._line.aclose()

    async def _write(self, verb: str, seen: str, new: Token, changes: Changes) -> bool:
        puts = [part for name, raw in changes.items() if raw is not None for part in (name, raw)]
        drops = [name for name, raw in changes.items() if raw is None]

        said = (verb, seen, str(new), str(len(puts) // 2), *puts, *drops)
        (done,) = await self._line.run(Call(_CHANGE, (KEY,), said))
        return bool(done)


def _token(raw: bytes | None) -> Token:
    return token(raw.decode("utf-8", "replace")) if raw else NOTHING
