"""Calls that have ended, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from gateway.core.nouns import Lease, Outcome, Request, Served
from gateway.pipeline.authenticate import LOCAL
from gateway.service import Attempt, Call, Context
from gateway.testing.collector import Collector
from gateway.wire.chat import parse


def request(id_: str = "req-1") -> Request:
    return Request(id_, "local", "r2", "standard", 100, None, True, 0.0)


def attempt(
    number: int, sent: float, *, backend: str = "one", tier: int = 0, connect: float = 0.0, first_byte: float = 0.0,
    first_token: float = 0.0, ended: float = 0.0, outcome: Outcome | None = None, tokens: int = 0,
) -> Attempt:  # fmt: skip
    lease = Lease(number, request(), backend, backend, f"{backend}-id", "p", tier, number, sent, 100)
    found = Attempt(lease, sent)
    found.connect, found.first_byte, found.first_token = connect, first_byte, first_token
    found.ended, found.outcome, found.tokens = ended, outcome or Served(), tokens
    return found


def call(
    id_: str = "req-1", *, received: float = 100.0, reading: float = 0.0, got: float = 0.0, responded: float = 0.0,
    ended: float = 0.0, attempts: Sequence[Attempt] = (), waits: tuple[tuple[float, float], ...] = (),
    status: int = 200, stranger: bool = False, context: Context | None = None, stream: bool = True,
    headers: dict[bytes, bytes] | None = None,
) -> Call:  # fmt: skip
    async def nothing() -> bytes:
        return b""

    found = Call(id_, received, headers or {}, nothing)
    found.caller = None if stranger else LOCAL
    found.chat = parse(b'{"model":"r2","messages":[1],"stream":%b}' % (b"true" if stream else b"false"))
    found.model, found.policy = "r2", "p"
    found.reading, found.got, found.responded = reading, got, responded or received
    found.ended, found.attempts, found.waits = ended or responded or received, list(attempts), waits
    found.queued = sum(end - start for start, end in waits)
    found.status, found.context = status, context
    found.request = request(id_)
    return found


@pytest.fixture
def made() -> Callable[..., Call]:
    return call


@pytest.fixture
def tried() -> Callable[..., Attempt]:
    return attempt


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()
