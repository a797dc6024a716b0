"""HTTPS to a cloud: the certificate is checked, and a wrong one is a connect error before anything is sent."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from gateway.upstream.base import UpstreamError
from gateway.upstream.http import Endpoint, HttpUpstream


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


def exchange(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, folder: Path, *, trusted: bool) -> bytes:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    bundle = folder / "ca.pem"
    (authority if trusted else trustme.CA()).cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    async def scenario() -> bytes:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the refused handshake, on the server's side
        async with server:
            port = server.sockets[0].getsockname()[1]
            upstream = HttpUpstream(Endpoint(f"https://localhost:{port}/v1/chat/completions", connect_timeout=5.0))
            try:
                reply = await upstream.send(b"x" * 300_000, {})
                return await reply.read_all(1_000_000)
            finally:
                await upstream.aclose()

    return asyncio.run(scenario())


def test_a_trusted_cloud_is_talked_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert exchange(("localhost",), monkeypatch, tmp_path, trusted=True) == b"x" * 300_000


@pytest.mark.parametrize(("names", "trusted"), [(("localhost",), False), (("other.example",), True)])
def test_a_stranger_gets_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], trusted: bool
) -> None:
    with pytest.raises(UpstreamError) as caught:
        exchange(names, monkeypatch, tmp_path, trusted=trusted)
    assert caught.value.phase == "connect"
