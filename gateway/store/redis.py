"""Shares and lessons in Redis: standalone, Sentinel or Cluster, 6.2 or newer (7, 8, Valkey). One script call per
account, and one more where a lesson is told, all in one pipelined round trip, under one hard time-out. See
`store.line`; for addresses `store.address`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import msgspec

from gateway.core.nouns import LimitKind
from gateway.store import lessontext
from gateway.store.base import Grant, Report, StoreDown, Terms
from gateway.store.line import TIMEOUT, Call, Line, Script

SHARES, LESSONS = Script("shares.lua"), Script("lessons.lua")


Reply = tuple[str, int, int, int, dict[LimitKind, int] | bool, str | bool, str | bool]
"""Epoch, joins, replicas, learning, shares, the members if they are not those that were named, the silent ones."""

_decoder = msgspec.msgpack.Decoder(Reply | bool)


def key_of(account: str) -> str:
    """The account's key. Its end is the version of the layout: an older one's data is not misread."""
    return f"spillgate:{{{account}}}:shares:2"


def elder_key_of(account: str) -> str:
    """Where gateways before this layout keep the account; in the same hash slot."""
    return f"spillgate:{{{account}}}:shares"


def lesson_key_of(account: str) -> str:
    """Where its lessons are: all keys of an account lie in one hash slot."""
    return f"spillgate:{{{account}}}:lesson"


class RedisStore:
    """See `Store`. `url` as in `store.address`; its password is never shown. No connection is made before it is needed.

    Raises ValueError for a URL with an option that does not exist.
    """

    def __init__(self, url: str, terms: Terms | None = None, timeout: float = TIMEOUT) -> None:
        self._terms = terms or Terms()
        self._line = Line(url, timeout)

    def __repr__(self) -> str:
        return f"<RedisStore {self._line.where}>"

    @property
    def calls(self) -> int:
        """Scripts called so far."""
        return self._line.calls

    async def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        """See `Store.exchange`. After a failure the connections are dropped: a late answer reaches nobody."""
        return await self.exchange_at(reports, "")

    async def exchange_at(self, reports: Sequence[Report], clock: str) -> Sequence[Grant]:
        """The same by another clock than the server's (milliseconds, as text), to replay what has happened."""
        if not reports:
            return ()
        calls = [_call(report, self._terms, clock) for report in reports]
        told = [i for i, report in enumerate(reports) if report.lesson is not None]
        calls += [_telling(reports[i], self._terms, clock) for i in told]
        replies = await self._line.run(*calls)
        try:
            grants = [_grant(report, reply) for report, reply in zip(reports, replies, strict=False)]
            for i, reply in zip(told, replies[len(reports) :], strict=True):
                grants[i] = replace(grants[i], lesson=lessontext.told(reply))
            return grants
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise StoreDown(f"{self._line.where}: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._line.aclose()


@lru_cache(1024)
def _joined(names: tuple[str, ...]) -> str:
    return ",".join(names)


@lru_cache(1024)
def _parted(names: str) -> tuple[str, ...]:
    return tuple(names.split(","))


def _call(report: Report, terms: Terms, clock: str) -> Call:
    needs = {k: (n.limit, n.share, n.used, n.want, n.unit) for k, n in report.needs.items()}
    said = msgspec.msgpack.encode((
        report.replica, report.seq, round(terms.ttl * 1000), round(terms.ghost * 1000), report.epoch, report.ack,
        report.crowd, int(report.leaving), report.alive, needs,
    ))  # fmt: skip
    keys = (key_of(report.account), elder_key_of(report.account))
    return Call(SHARES, keys, (said, _joined(report.known), clock))


def _telling(report: Report, terms: Terms, clock: str) -> Call:
    assert report.lesson is not None
    return Call(LESSONS, (lesson_key_of(report.account),), lessontext.words(report, report.lesson, terms, clock))


def _grant(report: Report, raw: bytes) -> Grant:
    reply = _decoder.decode(raw)
    if isinstance(reply, bool):
        return Grant(report.account, stale=True)
    epoch, joins, replicas, learning, shares, members, silent = reply
    return Grant(
        report.account,
        dict.fromkeys(report.needs, 0) if isinstance(shares, bool) else shares,
        epoch,
        joins,
        replicas,
        report.known if isinstance(members, bool) else _parted(members),
        () if isinstance(silent, bool) else _parted(silent),
        bool(learning),
    )
