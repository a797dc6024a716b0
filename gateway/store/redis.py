"""Shared state in Redis: standalone, Sentinel or Cluster, 6.2 or newer (7, 8, Valkey).

One script call per account, all in one pipelined round trip, under one hard time-out. The script is sent by its hash
and, to a server that does not know it, in full (that also teaches it). A server that forbids hashes gets it in full
always. Nothing is retried here: who calls knows when.

    redis://[user:password@]host:port[/db]     rediss://… (TLS)     unix:///path
    redis+sentinel://[user:password@]host:port,host:port/master[/db]       rediss+sentinel://…
    redis+cluster://[user:password@]host:port,host:port                    rediss+cluster://…

With TLS, `?ssl_ca_certs=/path/ca.pem` names a private authority and `ssl_certfile=`, `ssl_keyfile=` a certificate of
our own, for all three kinds; `rediss+sentinel` speaks TLS to the sentinels too. `sentinel_username=` and
`sentinel_password=` are for sentinels that ask for one of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, NoScriptError, RedisError, ResponseError

from gateway.core.nouns import LimitKind
from gateway.store.base import Grant, Report, StoreDown, Terms

TIMEOUT = 0.5
"""Seconds for one round trip of everything."""


class Script:
    """A Lua script of this package and the hash that it is called by."""

    def __init__(self, name: str) -> None:
        self.text = (files("gateway.store") / name).read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


SHARES = Script("shares.lua")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script. Its keys are in one hash slot."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[bytes | str, ...]


Reply = tuple[str, int, int, int, dict[LimitKind, int] | bool, str | bool, str | bool]
"""Epoch, joins, replicas, learning, shares, the members if they are not those that were named, the silent ones."""

_decoder = msgspec.msgpack.Decoder(Reply | bool)


def key_of(account: str) -> str:
    """The account's key. Its end is the version of the layout: an older one's data is not misread."""
    return f"spillgate:{{{account}}}:shares:2"


def elder_key_of(account: str) -> str:
    """Where gateways before this layout keep the account; in the same hash slot."""
    return f"spillgate:{{{account}}}:shares"


class RedisStore:
    """See `Store`. `url` as in the module; its password is never shown. No connection is made before it is needed.

    Raises ValueError for a URL with an option that does not exist.
    """

    def __init__(self, url: str, terms: Terms | None = None, timeout: float = TIMEOUT) -> None:
        self._terms = terms or Terms()
        self._timeout = timeout
        self._where = shown(url)
        self._url = url
        self._client: Any = connect(url, timeout)
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
        calls = [_call(report, self._terms, clock) for report in reports]
        try:
            async with asyncio.timeout(self._timeout):
                replies = await self._ask(calls)
            return [_grant(report, reply) for report, reply in zip(reports, replies, strict=True)]
        except TimeoutError:
            await self._drop()
            raise StoreDown(f"{self._where} did not answer within {self._timeout:g} s") from None
        except (RedisError, OSError, msgspec.MsgspecError) as error:
            await self._drop()
            raise StoreDown(f"{self._where}: {type(error).__name__}: {error}") from error
        except BaseException:
            await self._drop()
            raise

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._drop()

    # --- one round trip ---------------------------------------------------------------------------------

    async def _ask(self, calls: Sequence[Call]) -> list[Any]:
        if self._client is None:
            self._client = connect(self._url, self._timeout)
        replies: list[Any] = [NoScriptError()] * len(calls)
        if self._by_hash:
            replies = await self._send("evalsha", calls)
            if any(forbidden(reply) for reply in replies):
                self._by_hash = False
        again = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError) or forbidden(reply)]
        if again:
            for i, reply in zip(again, await self._send("eval", [calls[i] for i in again]), strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, RedisError | OSError | TimeoutError):
                raise reply
            if isinstance(reply, Exception):
                # redis-py's Cluster client trips over connections that another call of its own has just closed.
                raise RedisError(f"{type(reply).__name__}: {reply}") from reply
        return replies

    async def _send(self, verb: str, calls: Sequence[Call]) -> list[Any]:
        self.calls += len(calls)
        client = self._client
        if isinstance(client, RedisCluster):
            # Slots differ: one call each, all under way at once.
            return await asyncio.gather(*(_give(client, verb, call) for call in calls), return_exceptions=True)
        pipe = client.pipeline(transaction=False)
        for call in calls:
            _give(pipe, verb, call)
        return cast("list[Any]", await pipe.execute(raise_on_error=False))

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await hang_up(client, self._timeout)


def connect(url: str, timeout: float) -> Any:
    """A client for the kind of deployment that the URL names. Connects later."""
    options: dict[str, Any] = {"socket_connect_timeout": timeout, "socket_timeout": timeout}
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return _checked(Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options))
    given = _query(parts.query, scheme == "rediss")
    if scheme == "rediss":
        options |= {"ssl": True, **{name: value for name, value in given.items() if name in _TLS}}
    asked = dict(options) | {n.removeprefix("sentinel_"): value for n, value in given.items() if n not in _TLS}
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    hosts = [_host(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    if kind == "cluster":
        # A slot that has moved is noted; that must not close connections on which other calls are under way.
        return RedisCluster(startup_nodes=[ClusterNode(h, p) for h, p in hosts], reinitialize_steps=0, **options)
    master, _, db = parts.path.strip("/").partition("/")
    make: Any = Sentinel
    sentinel = make(hosts, sentinel_kwargs=asked, **options)
    return sentinel.master_for(master or "mymaster", db=int(db or 0))


def _checked(client: Redis) -> Redis:
    """redis-py looks at what it does not know when it connects; we look now."""
    pool = client.connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise ValueError(f"REDIS_URL: {error}") from None
    return client


_TLS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


def _query(text: str, tls: bool) -> dict[str, str]:
    """The options of a Sentinel's or a Cluster's address."""
    given = dict(parse_qsl(text))
    known = {"sentinel_username", "sentinel_password"} | (_TLS if tls else set())
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"REDIS_URL: {unknown[0]} is not an option here; known are {', '.join(sorted(known))}")
    return given


async def hang_up(client: Any, within: float) -> None:
    """Close what `connect` made, and the connections to sentinels, which the client would leave open. Never raises
    for a server that is down."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    sentinels = manager.sentinels if manager is not None else ()
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(within):
            await asyncio.gather(*(one.aclose() for one in (client, *sentinels)))


def _host(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host else (text, 6379)


def shown(url: str) -> str:
    """The URL without what must not be seen."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"


def forbidden(reply: Any) -> bool:
    if isinstance(reply, NoPermissionError):
        return True
    return isinstance(reply, ResponseError) and "unknown command" in str(reply).lower()


def _give(to: Any, verb: str, call: Call) -> Awaitable[Any]:
    what = call.script.sha if verb == "evalsha" else call.script.text
    return cast("Awaitable[Any]", getattr(to, verb)(what, len(call.keys), *call.keys, *call.args))


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
