"""Budgets in Redis: one hash for each budget and period, one script call for each exchange. See `store.purse`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.money import Ask, Told
from gateway.store.base import StoreDown
from gateway.store.line import TIMEOUT, Call, Line, Script

_PURSE = Script("purse.lua")
_decoder = msgspec.msgpack.Decoder(tuple[int, int, int, int, dict[str, int] | bool] | bool)
_BATCH = 100


class RedisPurses:
    """See `Purses`. The URL's password is never shown. No connection is made before it is needed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisPurses {self._line.where}>"

    async def exchange(self, asks: Sequence[Ask]) -> Sequence[Told]:
        """See `Purses.exchange`. Many asks take several round trips, each under the time-out."""
        return await self.exchange_at(asks, "")

    async def exchange_at(self, asks: Sequence[Ask], clock: str) -> Sequence[Told]:
        """The same by another clock than the server's (milliseconds, as text), to replay what has happened."""
        found: list[Told] = []
        for start in range(0, len(asks), _BATCH):
            replies = await self._line.run(*(_call(ask, clock) for ask in asks[start : start + _BATCH]))
            try:
                found += [_told(reply) for reply in replies]
            except (msgspec.MsgspecError, TypeError) as error:
                raise StoreDown(f"{self._line.where}: {type(error).__name__}: {error}") from error
        return found

    async def aclose(self) -> None:
        """See `Purses.aclose`."""
        await self._line.aclose()


def _call(ask: Ask, clock: str) -> Call:
    said = msgspec.msgpack.encode((
        ask.member, ask.seq, ask.amount, ask.total, ask.cap, ask.need, ask.least, ask.want, ask.gen, ask.members,
        ask.leaving, round(ask.life * 1000),
    ))  # fmt: skip
    return Call(_PURSE, (ask.key,), (said, clock))


def _told(raw: bytes) -> Told:
    reply = _decoder.decode(raw)
    if isinstance(reply, bool):
        return Told(stale=True)
    cap, free, live, gen, members = reply
    return Told(cap, free, live, gen, {} if isinstance(members, bool) else members)
