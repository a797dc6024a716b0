"""Where Redis is: an address, and a client for the kind of deployment that it names.

    redis://[user:password@]host:port[/db]     rediss://… (TLS)     unix:///path
    redis+sentinel://[user:password@]host:port,host:port/master[/db]       rediss+sentinel://…
    redis+cluster://[user:password@]host:port,host:port                    rediss+cluster://…

With TLS, `?ssl_ca_certs=/path/ca.pem` names a private authority and `ssl_certfile=`, `ssl_keyfile=` a certificate of
our own, for all three kinds; `rediss+sentinel` speaks TLS to the sentinels too. `sentinel_username=` and
`sentinel_password=` are for sentinels that ask for one of their own.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError


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
