"""What every upstream client promises, held over real sockets. A new client adds itself to `CLIENTS`.

One that does not speak OpenAI's protocol cannot be asked here: tests/upstream/test_litellm.py holds the same promises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.upstream.base import Upstream, UpstreamError
from gateway.upstream.http import Endpoint, HttpUpstream

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def http(url: str) -> Upstream:
    return HttpUpstream(Endpoint(url, {"x-extra": "1"}, {"authorization": "Bearer secret"}, connect_timeout=1.0))


CLIENTS = [http]


@pytest.fixture(params=CLIENTS, ids=lambda f: f.__name__)
def client(request: pytest.FixtureRequest) -> Callable[[str], Upstream]:
    made: Callable[[str], Upstream] = request.param
    return made


class Server:
    """A scripted HTTP server: one handler per request, and a record of what it saw."""

    def __init__(self, *handlers: Handler) -> None:
        self.handlers = list(handlers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
                self.requests.append(head + await reader.readexactly(length))
                await self.handlers.pop(0)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.close()


@asynccontextmanager
async def serving(*handlers: Handler) -> AsyncIterator[Server]:
    server = Server(*handlers)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0, backlog=1024)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1/chat/completions"
    async with listener:
        yield server


def answering(*pieces: bytes, hang: bool = False) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
        if hang:
            await reader.read(1)
            raise ConnectionError

    return handle


def closing(*pieces: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(*pieces)(reader, writer)
        writer.close()
        raise ConnectionError

    return handle


async def collect(reply: object) -> bytes:
    data = b""
    while piece := await reply.read_any():  # type: ignore[attr-defined]
        data += piece
    return data


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(bounded())


def test_it_posts_the_bytes_with_the_key_and_reads_the_answer(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving(answering(OK + b"content-length: 2\r\n\r\n", b"{}")) as server:
            upstream = client(server.url)
            reply = await upstream.send(b'{"a":1}', {"x-more": "2"})
            assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
            assert await reply.read_all(100) == b"{}"
            assert reply.at_end()
            head, _, body = server.requests[0].partition(b"\r\n\r\n")
            assert body == b'{"a":1}'
            lowered = head.lower()
            assert lowered.startswith(b"post /v1/chat/completions http/1.1\r\n")
            for line in (b"authorization: bearer secret", b"x-extra: 1", b"x-more: 2", b"host: 127.0.0.1:"):
                assert line in lowered
            await upstream.aclose()

    run(scenario)


@pytest.mark.parametrize(
    "pieces",
    [
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r", b"\nde\r\n", b"0\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 5\r\n\r\nabc", b"de"),
    ],
)
def test_however_it_is_framed_the_body_is_the_same(
    client: Callable[[str], Upstream], pieces: tuple[bytes, ...]
) -> None:
    async def scenario() -> None:
        async with serving(answering(*pieces), answering(*pieces)) as server:
            upstream = client(server.url)
            for _ in range(2):
                assert await collect(await upstream.send(b"{}", {})) == b"abcde"
            assert server.connections == 1, "a finished connection serves again"
            await upstream.aclose()

    run(scenario)


def test_an_answer_without_a_length_ends_with_its_connection(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving(closing(OK + b"connection: close\r\n\r\nabc")) as server:
            upstream = client(server.url)
            assert await collect(await upstream.send(b"{}", {})) == b"abc"
            await upstream.aclose()

    run(scenario)


@pytest.mark.parametrize(
    "pieces",
    [
        (OK + b"content-length: 5\r\n\r\nab",),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab",),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",),
    ],
)
def test_a_body_that_breaks_off_is_an_error(client: Callable[[str], Upstream], pieces: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        async with serving(closing(*pieces)) as server:
            upstream = client(server.url)
            with pytest.raises(UpstreamError) as caught:
                await collect(await upstream.send(b"{}", {}))
            assert caught.value.phase == "protocol"
            await upstream.aclose()

    run(scenario)


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 2",), (b"SMTP ready\r\n",), (OK + b"a: " + b"x" * 70_000 + b"\r\n\r\n",)]
)
def test_no_proper_head_is_an_error(client: Callable[[str], Upstream], pieces: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        async with serving(closing(*pieces)) as server:
            upstream = client(server.url)
            with pytest.raises(UpstreamError):
                await upstream.send(b"{}", {})
            await upstream.aclose()

    run(scenario)


def test_a_closed_port_is_a_connect_error(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving() as server:
            url = server.url
        upstream = client(url)
        with pytest.raises(UpstreamError) as caught:
            await upstream.send(b"{}", {})
        assert caught.value.phase == "connect"
        await upstream.aclose()

    run(scenario)


def test_cancelling_before_the_head_closes_the_connection_at_once(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving(answering(hang=True)) as server:
            upstream = client(server.url)
            task = asyncio.create_task(upstream.send(b"{}", {}))
            while not server.requests:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait_for(server.closed.wait(), 0.2)
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.aclose()

    run(scenario)


def test_abort_closes_the_connection_at_once_and_wakes_the_reader(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        start = OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
        async with serving(answering(start, hang=True)) as server:
            upstream = client(server.url)
            reply = await upstream.send(b"{}", {})
            assert await reply.read_any() == b"abc"
            asyncio.get_running_loop().call_later(0.01, reply.abort)
            with pytest.raises(UpstreamError):
                await reply.read_any()
            await asyncio.wait_for(server.closed.wait(), 0.2)
            reply.abort()
            await upstream.aclose()

    run(scenario)


def test_it_never_queues(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving(*[answering(hang=True) for _ in range(150)]) as server:
            upstream = client(server.url)
            tasks = [asyncio.create_task(upstream.send(b"{}", {})) for _ in range(150)]
            while len(server.requests) < 150:
                await asyncio.sleep(0.005)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await upstream.aclose()

    run(scenario)


def test_an_idle_connection_that_the_cloud_closed_is_not_used_again(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        answer = OK + b"content-length: 2\r\n\r\n{}"
        async with serving(closing(answer), answering(answer)) as server:
            upstream = client(server.url)
            await (await upstream.send(b"{}", {})).read_all(10)
            await server.closed.wait()
            await asyncio.sleep(0.02)
            assert await (await upstream.send(b"{}", {})).read_all(10) == b"{}"
            await upstream.aclose()

    run(scenario)


def test_a_connection_that_the_cloud_closes_as_we_use_it_again_is_no_failure(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        answer = OK + b"content-length: 2\r\n\r\n{}"
        async with serving(answering(answer), closing(), answering(answer), closing(b"HTTP/1.1 2")) as server:
            upstream = client(server.url)
            for _ in range(2):
                assert await (await upstream.send(b"{}", {})).read_all(10) == b"{}"
            assert len(server.requests) == 3, "the second was sent again on a fresh connection"
            with pytest.raises(UpstreamError):
                await upstream.send(b"{}", {})
            assert len(server.requests) == 4, "what was answered, however badly, is not sent again"
            await upstream.aclose()

    run(scenario)


def test_a_slow_reader_holds_a_bounded_amount(client: Callable[[str], Upstream]) -> None:
    size = 64 * 1024 * 1024
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK + b"content-length: %d\r\n\r\n" % size)
        for _i in range(size // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async def scenario() -> None:
        async with serving(flood) as server:
            upstream = client(server.url)
            reply = await upstream.send(b"{}", {})
            await asyncio.sleep(0.3)
            assert sent < size / 2
            read = 0
            while piece := await reply.read_any():
                read += len(piece)
            assert read == size
            await upstream.aclose()

    run(scenario)


def test_an_answer_beyond_the_limit_is_an_error_and_hangs_up(client: Callable[[str], Upstream]) -> None:
    async def scenario() -> None:
        async with serving(answering(OK + b"content-length: 5000\r\n\r\n" + b"x" * 4000, hang=True)) as server:
            upstream = client(server.url)
            reply = await upstream.send(b"{}", {})
            with pytest.raises(UpstreamError):
                await reply.read_all(1000)
            await asyncio.wait_for(server.closed.wait(), 0.2)
            await upstream.aclose()

    run(scenario)


def test_secrets_are_in_no_repr() -> None:
    endpoint = Endpoint("http://127.0.0.1:1/v1", secret_headers={"authorization": "Bearer secret"})
    assert "secret" not in repr(endpoint).replace("secret_headers", "")

    async def scenario() -> None:
        assert "secret" not in repr(HttpUpstream(endpoint))

    run(scenario)


def test_a_header_cannot_smuggle_another() -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="line break"):
            HttpUpstream(Endpoint("http://127.0.0.1:1/", {"x-a": "1\r\nx-b: 2"}))

    run(scenario)
