"""Counters of fairness in Redis: one hash and one script call per pool, all in one round trip. See `store.line`.

The hash expires when nobody has told anything for a quarter of an hour.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from gateway.core.fair import CLASSES
from gateway.store.base import StoreDown
from gateway.store.fairness import MANY, Telling, Told
from gateway.store.line import TIMEOUT, Call, Line, Script

_FAIRNESS = Script("fairness.lua")
_Reply = tuple[str, tuple[float, ...], tuple[float | bool, ...]]
_decoder = msgspec.msgpack.Decoder(_Reply)


def key_of(pool: str) -> str:
    """The pool's key. Its end is the version of the layout. Many accounts make a long name: a hash stands for them."""
    return f"spillgate:{{pool-{hashlib.sha256(pool.encode()).hexdigest()[:16]}}}:counters:1"


class RedisCounters:
    """See `Counters`. `url` as in `store.address`; its password is never shown. Connects when it is first needed."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisCounters {self._line.where}>"

    async def exchange(self, tellings: Sequence[Telling]) -> Sequence[Told]:
        """See `Counters.exchange`. After a failure the connections are dropped: a late answer reaches nobody."""
        replies = await self._line.run(*map(_call, tellings))
        try:
            return [_told(telling, _decoder.decode(raw)) for telling, raw in zip(tellings, replies, strict=True)]
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise StoreDown(f"{self._line.where}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """See `Counters.aclose`."""
        await self._line.aclose()


def _call(telling: Telling) -> Call:
    words = [(f"{CLASSES.index(w.class_)}{w.tenant}", w.base, w.spent, w.lifted) for w in telling.words]
    said = (telling.replica, telling.epoch, telling.seq, MANY, telling.clocks, words)
    return Call(_FAIRNESS, (key_of(telling.pool),), (msgspec.msgpack.encode(said),))


def _told(telling: Telling, reply: _Reply) -> Told:
    epoch, clocks, counters = reply
    if len(clocks) != len(telling.clocks) or len(counters) != len(telling.words):
        raise ValueError("an answer to something else")
    return Told(epoch, clocks, tuple(None if counter is False else float(counter) for counter in counters))
