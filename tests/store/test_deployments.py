"""Ways to reach Redis: passwords, TLS, Cluster, servers that forbid hashes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.store.address import connect
from gateway.store.base import Need, Report, StoreDown, Terms
from gateway.store.redis import RedisStore, key_of

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


# --- Cluster --------------------------------------------------------------------------------------------


CLUSTER = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def eventually(claim: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.05)


def word(server: Any, *words: str) -> str:
    answer: str = server.cli(*words).decode().split("\r\n")[1]
    return answer


@pytest.fixture
def cluster(make_redis: Any) -> list[Any]:
    """Two masters with half of the slots each."""
    nodes = [make_redis(*CLUSTER), make_redis(*CLUSTER)]
    for node, slots in zip(nodes, (range(8192), range(8192, 16384)), strict=True):
        node.cli("CLUSTER", "ADDSLOTS", *map(str, slots))
    nodes[1].cli("CLUSTER", "SET-CONFIG-EPOCH", "2")
    nodes[0].cli("CLUSTER", "MEET", "127.0.0.1", str(nodes[1].port))
    for node in nodes:
        eventually(lambda node=node: b"cluster_state:ok" in node.cli("CLUSTER", "INFO"))
        eventually(lambda node=node: b"cluster_slots_ok:16384" in node.cli("CLUSTER", "INFO"))
    return nodes


def test_cluster_mode_works(cluster: list[Any]) -> None:
    assert asyncio.run(spoken(f"redis+cluster://127.0.0.1:{cluster[0].port}")) >= 40
    assert all(b"db0:keys" in node.cli("INFO", "keyspace") for node in cluster), "accounts are spread"


def test_an_account_whose_slot_has_moved_is_followed_and_taken_for_lost(cluster: list[Any]) -> None:
    slot = cluster[0].cli("CLUSTER", "KEYSLOT", key_of("ark"))[1:-2].decode()
    names = [word(node, "CLUSTER", "MYID") for node in cluster]
    old, new = (0, 1) if int(slot) < 8192 else (1, 0)

    async def body() -> None:
        store = RedisStore(f"redis+cluster://127.0.0.1:{cluster[0].port}", TERMS, timeout=5.0)
        try:
            (before,) = await store.exchange([Report("ark", "me", 1, {"streams": Need(5, 0, 0, 1)})])
            cluster[new].cli("CLUSTER", "SETSLOT", slot, "IMPORTING", names[old])
            cluster[old].cli("CLUSTER", "SETSLOT", slot, "MIGRATING", names[new])
            cluster[old].cli("MIGRATE", "127.0.0.1", str(cluster[new].port), key_of("ark"), "0", "5000")
            for node in (cluster[new], cluster[old]):
                assert b"OK" in node.cli("CLUSTER", "SETSLOT", slot, "NODE", names[new])
            (after,) = await store.exchange([Report("ark", "me", 2, {"streams": Need(5, 0, 0, 1)}, before.epoch)])
            assert after.members == ("me",)
            assert after.epoch != before.epoch, "another server: what it has may be old"
        finally:
            await store.aclose()

    asyncio.run(body())


# --- TLS ------------------------------------------------------------------------------------------------


@pytest.fixture
def secured(make_redis: Any, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server that speaks TLS only, its port, and a private authority. Behind a proxy if it was built without TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    port = free_port()
    try:
        make_redis(
            "--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(tmp_path / "ca.pem"),
            "--tls-cert-file", str(tmp_path / "cert.pem"), "--tls-key-file", str(tmp_path / "key.pem"),
        )  # fmt: skip
        yield port, tmp_path / "ca.pem"
    except AssertionError:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        with proxied(make_redis().port, context) as port:
            yield port, tmp_path / "ca.pem"


@contextmanager
def proxied(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """TLS in front of a plain server, on a thread of its own."""
    loop = asyncio.new_event_loop()

    async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pour(reader, inner[1]), pour(inner[0], writer))

    loop.set_exception_handler(lambda *_: None)  # handshakes that are refused
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_private_authority_is_named_in_the_address(secured: tuple[int, Path]) -> None:
    port, authority = secured
    assert asyncio.run(spoken(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority}")) == 60


def test_a_server_whose_authority_is_not_trusted_is_told_nothing(secured: tuple[int, Path]) -> None:
    async def ask(url: str) -> None:
        with pytest.raises(StoreDown):
            await spoken(url)

    asyncio.run(ask(f"rediss://127.0.0.1:{secured[0]}/0"))
    asyncio.run(ask(f"redis://127.0.0.1:{secured[0]}/0"))


def test_options_that_do_not_exist_are_named_at_start() -> None:
    for url in ("redis://h/0?nonsense=1", "redis+cluster://h:1?nonsense=1", "redis+sentinel://h:1/m?nonsense=1",
                "redis+sentinel://h:1/m?ssl_ca_certs=/x"):  # fmt: skip
        with pytest.raises(ValueError, match=r"REDIS_URL: .*(nonsense|ssl_ca_certs)"):
            RedisStore(url)


# --- addresses ------------------------------------------------------------------------------------------


def test_an_authority_counts_for_the_master_and_for_every_sentinel_and_node() -> None:
    sentinel = connect("rediss+sentinel://one:1,two:2/main?ssl_ca_certs=/x&sentinel_password=s3", 0.5).connection_pool
    kwargs = [s.connection_pool.connection_kwargs for s in sentinel.sentinel_manager.sentinels]
    assert [k["ssl_ca_certs"] for k in [sentinel.connection_kwargs, *kwargs]] == ["/x"] * 3
    assert [k.get("password") for k in [sentinel.connection_kwargs, *kwargs]] == [None, "s3", "s3"]
    cluster = connect("rediss+cluster://one:1?ssl_ca_certs=/x", 0.5)
    assert cluster.connection_kwargs["ssl_ca_certs"] == "/x"


def test_sentinel_urls_name_the_master_and_keep_the_password_for_it() -> None:
    client = connect("rediss+sentinel://user:p%40ss@one:26379,two:26380/main/2", 0.5)
    pool = client.connection_pool
    assert pool.service_name == "main"
    assert pool.connection_kwargs["password"] == "p@ss"
    assert pool.connection_kwargs["db"] == 2
    sentinels = [s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels]
    assert [kwargs["host"] for kwargs in sentinels] == ["one", "two"]
    assert not any("password" in kwargs and kwargs["password"] for kwargs in sentinels)


def test_the_password_is_not_in_what_is_shown() -> None:
    assert repr(RedisStore("rediss://:sesame@localhost:1/0?ssl_ca_certs=/x")) == "<RedisStore rediss://localhost:1/0>"
