"""Callers' limits in Redis: one script call for all of a replica's limits, in one round trip. See `store.pool`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.caps import CapKind
from gateway.core.stock import TTL, Answer
from gateway.store.base import StoreDown
from gateway.store.line import TIMEOUT, Call, Line, Script
from gateway.store.pool import Answers, Asks, Told

POOL = Script("pool.lua")

MOST = 100
"""Scopes in one script call: so many keep the server busy for some 5 ms, and others get their turn between."""

_Reply = list[dict[CapKind, tuple[int, int, int, int]] | bool]
_decoder = msgspec.msgpack.Decoder(_Reply)


def key_of(scope: str) -> str:
    """The scope's key. All are in one hash slot; the number is the version of the layout."""
    return f"spillgate:{{limits}}:1:{scope}"


class RedisPool:
    """See `Pool`. `url` as in `store.address`; its password is never shown.

    Raises ValueError for a URL with an option that does not exist.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisPool {self._line.where}>"

    @property
    def calls(self) -> int:
        """Scripts called so far."""
        return self._line.calls

    async def exchange(self, told: Told) -> Sequence[Answers | None]:
        """See `Pool.exchange`. After a failure the connections are dropped: a late answer reaches nobody."""
        return await self.exchange_at(told, "")

    async def exchange_at(self, told: Told, clock: str) -> Sequence[Answers | None]:
        """The same by another clock than the server's (milliseconds, as text), to replay what has happened."""
        names = list(told.scopes)
        if not names:
            return ()
        head = msgspec.msgpack.encode((told.replica, told.seq, told.clock, int(TTL * 1000)))
        parts = [names[i : i + MOST] for i in range(0, len(names), MOST)]
        calls = [Call(POOL, tuple(map(key_of, part)), (head, _said(told, part), clock)) for part in parts]
        try:
            replies = await self._line.run(*calls)
            return [_answers(found) for reply in replies for found in _decoder.decode(reply)]
        except (msgspec.MsgspecError, TypeError) as error:
            raise StoreDown(f"{self._line.where}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """See `Pool.aclose`."""
        await self._line.aclose()


def _said(told: Told, names: Sequence[str]) -> bytes:
    return msgspec.msgpack.encode([_asks(told.scopes[name]) for name in names])


def _asks(asks: Asks) -> dict[CapKind, tuple[object, ...]]:
    return {
        kind: (a.limit, a.hold, a.need, a.like, a.unit, [number for use in a.uses for number in use])
        for kind, a in asks.items()
    }


def _answers(found: dict[CapKind, tuple[int, int, int, int]] | bool) -> Answers | None:
    if isinstance(found, bool):
        return None
    return {kind: Answer(gift, used, opens, bool(calm)) for kind, (gift, used, opens, calm) in found.items()}
