"""Ways to reach Redis: passwords, TLS, Cluster, servers that forbid hashes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.store.base import Need, Report, StoreDown, Terms
from gateway.store.redis import RedisStore, connect

TERMS = Terms()
RIGHTS = ("+hmget", "+hset", "+hdel", "+del", "+pttl", "+pexpire", "+time")
"""What the script does, beside asking for the server's run id."""


async def spoken(url: str, first: int = 1, accounts: int = 20) -> int:
    """Two exchanges; the commands that they took."""
    store = RedisStore(url, TERMS, timeout=5.0)
    try:
        for seq in (first, first + 1):
            reports = [Report(f"a{i}", "me", seq, {"streams": Need(5, 0, 0, 1)}) for i in range(accounts)]
            grants = await store.exchange(reports)
            assert [g.account for g in grants] == [f"a{i}" for i in range(accounts)]
            assert all(g.members == ("me",) for g in grants)
        return store.calls
    finally:
        await store.aclose()


def test_a_script_is_sent_once_and_then_named(own_redis: Any) -> None:
    assert asyncio.run(spoken(own_redis.url)) == 60, "twenty unknown hashes, twenty scripts, twenty hashes"
    assert asyncio.run(spoken(own_redis.url, 3)) == 40


def test_a_user_without_the_right_to_hashes_and_info_is_served(own_redis: Any) -> None:
    own_redis.cli("ACL", "SETUSER", "app", "on", ">sesame", "~spillgate:*", "+eval", *RIGHTS)
    url = own_redis.url.replace("//", "//app:sesame@")
    assert asyncio.run(spoken(url)) == 60, "the hash is tried once"


def test_a_wrong_password_is_trouble_and_is_not_shown(own_redis: Any) -> None:
    own_redis.cli("CONFIG", "SET", "requirepass", "right")

    async def ask() -> None:
        with pytest.raises(StoreDown) as caught:
            await spoken(own_redis.url.replace("//", "//:wrong-word@"))
        assert "wrong-word" not in str(caught.value)

    asyncio.run(ask())
    assert asyncio.run(spoken(own_redis.url.replace("//", "//:right@"))) == 60


def test_cluster_mode_works(cluster: Any) -> None:
    cluster.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    if b"unknown" in cluster.cli("CLUSTER", "ADDSLOTSRANGE", "0").lower():
        cluster.cli("CLUSTER", "ADDSLOTS", *map(str, range(16384)))
    until = time.monotonic() + 5
    while b"cluster_state:ok" not in cluster.cli("CLUSTER", "INFO"):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert asyncio.run(spoken(f"redis+cluster://127.0.0.1:{cluster.port}")) >= 40


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    from_conftest = __import__("sys").modules
    server_class = next(m.RedisServer for n, m in from_conftest.items() if n.endswith("store.conftest"))
    server = server_class(tmp_path, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
    server.start()
    yield server
    server.kill()


def test_addresses_with_tls_are_understood() -> None:
    store = RedisStore("rediss://localhost:1/0")
    kwargs = connect("rediss://127.0.0.1:1/0?ssl_ca_certs=/x", 0.5).connection_pool.connection_kwargs
    assert kwargs["ssl_ca_certs"] == "/x"
    assert repr(store) == "<RedisStore rediss://localhost:1/0>"


def test_sentinel_urls_name_the_master_and_keep_the_password_for_it() -> None:
    client = connect("rediss+sentinel://user:p%40ss@one:26379,two:26380/main/2", 0.5)
    pool = client.connection_pool
    assert pool.service_name == "main"
    assert pool.connection_kwargs["password"] == "p@ss"
    assert pool.connection_kwargs["db"] == 2
    hosts = [s.connection_pool.connection_kwargs["host"] for s in pool.sentinel_manager.sentinels]
    assert hosts == ["one", "two"]
