"""Calls that several replicas listen to, in Redis: one script, all keys of a call in one hash slot."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from gateway.store.flights import AT_ONCE, KEEP, LEASE, WANT, Post, Seen, Written
from gateway.store.line import Call, Line, Script

TIMEOUT = 0.25
"""Seconds for one exchange: a request waits for the first of them."""
_SCRIPT = Script("flight.lua")


class RedisFlights:
    """See `Flights`. The URL's password is never shown. No connection is made before it is needed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisFlights {self._line.where}>"

    async def claim(self, name: str) -> Post:
        """See `Flights.claim`."""
        token = secrets.token_hex(8)
        (holder,) = await self._line.run(_call(name, token, "claim", _ms(LEASE), _ms(WANT)))
        return Post(name, holder.decode(), holder.decode() == token)

    async def publish(self, post: Post, start: int, items: Sequence[bytes], last: int) -> Written:
        """See `Flights.publish`."""
        call = _call(post.name, post.token, "publish", _ms(LEASE), _ms(KEEP), str(start), str(last), *items)
        ((wanted, length, over),) = await self._line.run(call)
        return Written(bool(wanted), length, bool(over))

    async def read(self, post: Post, start: int) -> Seen:
        """See `Flights.read`."""
        call = _call(post.name, post.token, "read", _ms(WANT), str(start), str(start + AT_ONCE - 1))
        ((alive, *items),) = await self._line.run(call)
        return Seen(alive == b"1", tuple(items))

    async def aclose(self) -> None:
        """See `Flights.aclose`."""
        await self._line.aclose()


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _call(name: str, token: str, verb: str, *said: bytes | str) -> Call:
    at = f"spillgate:{{flight:{name}}}"
    return Call(_SCRIPT, (f"{at}:lease", f"{at}:want", f"{at}:{token}"), (verb, token, *said))
