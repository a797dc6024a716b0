"""Shared state in Redis: standalone, Sentinel or Cluster, 6.2 or newer (7, 8, Valkey).

One script call per account, and one more where a lesson is told, all in one pipelined round trip, under one hard
time-out. A script is sent by its hash and, to a server that does not know it, in full (that also teaches it). A server
that forbids hashes gets it in full always. Nothing is retried here: who calls knows when.

    redis://[user:password@]host:port[/db]     rediss://… (TLS)     unix:///path
    redis+sentinel://[user:password@]host:port,host:port/master[/db]       rediss+sentinel://…
    redis+cluster://[user:password@]host:port,host:port                    rediss+cluster://…
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from gateway.core.nouns import LimitKind
from gateway.store import lessontext
from gateway.store.base import Grant, Report, StoreDown, Terms

TIMEOUT = 0.5
"""Seconds for one round trip of everything."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and its hash."""

    text: str
    sha: str


def _script(name: str) -> Script:
    text = (files("gateway.store") / name).read_text("utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


SHARES, LESSONS = _script("shares.lua"), _script("lessons.lua")

Call = tuple[Script, str, *tuple[bytes | str, ...]]
"""A script, its key, its arguments."""


class _Reply(msgspec.Struct):
    """What the script answers; absent lists are empty."""

    shares: dict[LimitKind, int] = {}
    epoch: str = ""
    joins: int = 0
    replicas: int = 1
    members: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    learning: bool = False
    stale: bool = False


_decoder = msgspec.json.Decoder(_Reply)


def key_of(account: str, what: str = "shares") -> str:
    """The account's key: all keys of an account lie in one hash slot."""
    return f"spillgate:{{{account}}}:{what}"


class RedisStore:
    """See `Store`. `url` as in the module; its password is never shown. No connection is made before it is needed."""

    def __init__(self, url: str, terms: Terms | None = None, timeout: float = TIMEOUT) -> None:
        self._terms = terms or Terms()
        self._timeout = timeout
        self._where = shown(url)
        self._url = url
        self._client: Any = None
        self._by_hash = True
        self.calls = 0

    def __repr__(self) -> str:
        return f"<RedisStore {self._where}>"

    async def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        """See `Store.exchange`. After a failure the connections are dropped: a late answer reaches nobody."""
        return await self.exchange_at(reports, "")

    async def exchange_at(self, reports: Sequence[Report], clock: str) -> Sequence[Grant]:
        """The same by another clock than the server's (milliseconds, as text), to replay what has happened."""
        if not reports:
            return ()
        calls: list[Call] = [
            (SHARES, key_of(report.account), _encode(report, self._terms), clock) for report in reports
        ]
        tellings = [(i, report, report.lesson) for i, report in enumerate(reports) if report.lesson is not None]
        for _, report, telling in tellings:
            args = lessontext.words(report, telling, self._terms, clock)
            calls.append((LESSONS, key_of(report.account, "lesson"), *args))
        try:
            async with asyncio.timeout(self._timeout):
                replies = await self._ask(calls)
            grants = [_grant(report, reply) for report, reply in zip(reports, replies, strict=False)]
            for (i, _, _), reply in zip(tellings, replies[len(reports) :], strict=True):
                grants[i] = replace(grants[i], lesson=lessontext.told(reply))
            return grants
        except TimeoutError:
            await self._drop()
            raise StoreDown(f"{self._where} did not answer within {self._timeout:g} s") from None
        except (RedisError, OSError, ValueError) as error:
            await self._drop()
            raise StoreDown(f"{self._where}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self._drop()
            raise

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._drop()

    # --- one round trip ---------------------------------------------------------------------------------

    async def _ask(self, calls: list[Call]) -> list[Any]:
        if self._client is None:
            self._client = connect(self._url, self._timeout)
        replies: list[Any] = [NoScriptError()] * len(calls)
        if self._by_hash:
            replies = await self._send("evalsha", calls)
            if any(_forbidden(reply) for reply in replies):
                self._by_hash = False
        again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError) or _forbidden(reply)]
        if again:
            for i, reply in zip(again, await self._send("eval", [calls[i] for i in again]), strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _send(self, verb: str, calls: list[Call]) -> list[Any]:
        self.calls += len(calls)
        words = [(script.sha if verb == "evalsha" else script.text, 1, *rest) for script, *rest in calls]
        client = self._client
        if isinstance(client, RedisCluster):
            # Slots differ: one call each, all under way at once.
            ask = getattr(client, verb)
            return await asyncio.gather(*(cast("Awaitable[Any]", ask(*call)) for call in words), return_exceptions=True)
        pipe = client.pipeline(transaction=False)
        for call in words:
            getattr(pipe, verb)(*call)
        return cast("list[Any]", await pipe.execute(raise_on_error=False))

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self._timeout):
                    await client.aclose()
            except (RedisError, OSError, TimeoutError):
                pass


def connect(url: str, timeout: float) -> Any:
    """A client for the kind of deployment that the URL names. Connects later."""
    options: dict[str, Any] = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options)
    if scheme == "rediss":
        options["ssl"] = True
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    hosts = [_host(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    if kind == "cluster":
        return RedisCluster(startup_nodes=[ClusterNode(h, p) for h, p in hosts], **options)
    master, _, db = parts.path.strip("/").partition("/")
    asked = {key: value for key, value in options.items() if key.startswith("socket_")}
    make: Any = Sentinel
    sentinel = make(hosts, sentinel_kwargs=asked, **options)
    return sentinel.master_for(master or "mymaster", db=int(db or 0))


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host else (text, 6379)


def shown(url: str) -> str:
    """The URL without what must not be seen."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def _forbidden(reply: Any) -> bool:
    if isinstance(reply, NoPermissionError):
        return True
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()


def _encode(report: Report, terms: Terms) -> bytes:
    return msgspec.json.encode({
        "me": report.replica,
        "seq": report.seq,
        "ttl": round(terms.ttl * 1000),
        "ghost": round(terms.ghost * 1000),
        "epoch": report.epoch,
        "ack": report.ack,
        "known": report.known,
        "alive": report.alive,
        "leaving": report.leaving,
        "needs": {k: (n.limit, n.share, n.used, n.want, n.unit) for k, n in report.needs.items()},
    })  # fmt: skip


def _grant(report: Report, raw: bytes | str) -> Grant:
    reply = _decoder.decode(raw)
    return Grant(
        report.account, reply.shares, reply.epoch, reply.joins, reply.replicas, reply.members, reply.silent,
        reply.learning, reply.stale,
    )  # fmt: skip
