"""The one signature that holds the house together. Read this first.

A *service* turns a call into a response; a *filter* is handed the call and the next service. The order of
filters is written once, in `gateway.app`, with its reasons. A filter is tested by calling it with a `Call` and
a three-line service.

    gateway = stack(observe, authenticate, understand, limit, endpoint=dispatch)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from gateway.core.explain import Candidate
from gateway.core.nouns import Lease, Outcome, Request, ServiceClass, Usage
from gateway.wire.chat import Chat
from gateway.wire.easing import Easing

Headers = list[tuple[bytes, bytes]]


class Caller(Protocol):
    """Who asks: a tenant as the filters see it."""

    @property
    def name(self) -> str: ...
    @property
    def class_(self) -> ServiceClass: ...
    @property
    def weight(self) -> float: ...
    @property
    def models(self) -> frozenset[str] | None:
        """The models that exist for him; None: all."""

    @property
    def user_id(self) -> str:
        """Who he is for clouds that tell users apart; empty: they are told nothing."""


class Tab(Protocol):
    """What a call uses of its caller's limits (`pipeline.limit`)."""

    def flow(self, tokens: int, now: float) -> None:
        """So many tokens more of its answer came; told now and then, not for every one."""

    def headers(self) -> Headers:
        """What its answer says of the limits."""


class Attempt:
    """The record of one try on one backend: what was leased, when things happened, how it ended.

    Times are seconds on the gateway's monotonic clock; 0.0 means "did not happen". A request's story is its
    list of attempts: response headers, metrics, logs and error details are all folds over it. They are in the order
    in which they were sent, but for one: an attempt that answers stands last, also if a hedge was sent after it.
    """

    __slots__ = ("connect", "ended", "first_byte", "first_token", "gap", "lease", "outcome", "sent", "tokens", "usage")

    def __init__(self, lease: Lease, sent: float) -> None:
        self.lease = lease
        self.sent = sent
        self.connect = 0.0
        """seconds it took to open a connection; 0: one was reused"""
        self.first_byte = 0.0
        self.first_token = 0.0
        self.ended = 0.0
        self.tokens = 0
        self.gap = 0.0
        """the longest time, in seconds, between two pieces of a streamed answer"""
        self.usage: Usage | None = None
        self.outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"<Attempt {self.lease.attempt} {self.lease.backend} {self.outcome}>"


class Context:
    """A call's place in a distributed trace (W3C Trace Context). `parent` 0: the trace begins here.

    `sampled` is decided once, when the request is understood. `state` is the caller's `tracestate`, passed on.
    """

    __slots__ = ("parent", "sampled", "span", "state", "trace")

    def __init__(self, trace: int, span: int, parent: int = 0, *, sampled: bool = False, state: str = "") -> None:
        self.trace = trace
        self.span = span
        self.parent = parent
        self.sampled = sampled
        self.state = state


@dataclass(frozen=True, slots=True)
class Decision:
    """What the dispatcher said at `at`, and how every backend stood at `looked` (a moment before, or after).

    verdict     `go`, `wait` or `refuse`
    backend     where it goes; empty unless `go`
    attempt     which attempt this is about, from 1
    reason      of a refusal; position of who must wait, from 1
    """

    at: float
    verdict: str
    backend: str
    attempt: int
    reason: str
    looked: float
    candidates: tuple[Candidate, ...]


class Reuse:
    """How a call fared that an answer of another's could serve. `result`: hit, miss, joined or bypass.

    age      seconds since the answer was made (hit), or since it was asked for (joined)
    usage    the answer's tokens, where no attempt of this call brought them
    cost     what they cost whoever asked, None if no price was known; `currency` is its
    charged  whether they count as this call's own
    waited   seconds until another's call brought the beginning
    size     bytes that were given again
    """

    __slots__ = ("age", "charged", "cost", "currency", "result", "size", "usage", "waited")

    def __init__(self, result: str, age: float = 0.0) -> None:
        self.result = result
        self.age = age
        self.usage: Usage | None = None
        self.cost: Decimal | None = None
        self.currency = ""
        self.charged = False
        self.waited = 0.0
        self.size = 0


class Call:
    """One client's request on its way through the filters. Mutable, with one owner: the task that serves it."""

    __slots__ = (
        "affinity",
        "attempts",
        "cache",
        "caller",
        "chat",
        "context",
        "credential",
        "decisions",
        "easing",
        "ended",
        "got",
        "headers",
        "id",
        "key",
        "max_wait",
        "model",
        "offered",
        "on_end",
        "policy",
        "queued",
        "read",
        "reading",
        "received",
        "request",
        "responded",
        "status",
        "tab",
        "told",
        "waits",
    )

    def __init__(
        self,
        id_: str,
        received: float,
        headers: Mapping[bytes, bytes],
        read: Callable[[], Awaitable[bytes]],
        credential: str = "",
    ) -> None:
        self.id = id_
        self.received = received
        self.headers = headers
        self.read = read
        self.credential = credential
        self.caller: Caller | None = None
        self.key = ""
        """the id of the key that was shown: for records and limits, never the key"""
        self.chat: Chat | None = None
        self.request: Request | None = None
        self.affinity: tuple[int, ...] = ()
        """marks of the prompt, where the policy asks for them"""
        self.model = ""
        self.policy = ""
        self.attempts: list[Attempt] = []
        self.cache: Reuse | None = None
        """None: its policy keeps no answers"""
        self.max_wait: float | None = None
        """seconds from `received` within which the client wants it to be under way; None: as the policy says"""
        self.easing: Easing | None = None
        """what it gives up by its policy's ladder; None: nothing"""
        self.queued = 0.0
        """seconds spent waiting for a lease, over all attempts, or for the pool of its caller's limits"""
        self.waits: tuple[tuple[float, float], ...] = ()
        """from when to when it waited"""
        self.reading = 0.0
        self.got = 0.0
        """when its body was asked for, and when it was there"""
        self.offered = 0.0
        """when it was first offered to the dispatcher: known, understood, and within its tenant's limits"""
        self.context: Context | None = None
        self.decisions: tuple[Decision, ...] = ()
        """why it went where it went, as far as that was looked at"""
        self.told = False
        """whether the client asked to be told the decisions"""
        self.responded = 0.0
        self.ended = 0.0
        self.status = 0
        self.tab: Tab | None = None
        """None for callers without limits"""
        self.on_end: list[Callable[[Call], None]] = []
        """called once by the edge, last first, when the last byte was handed over or the client has left"""


class Body(Protocol):
    """An answer that arrives in pieces. `aclose` must always be called; it frees the lease, however far it got."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Response:
    """What goes back: status, headers, and either all the bytes or a `Body` that carries the lease."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes | Body) -> None:
        self.status = status
        self.headers = headers
        self.body = body


Service = Callable[[Call], Awaitable[Response]]
Filter = Callable[[Call, Service], Awaitable[Response]]


def stack(*filters: Filter, endpoint: Service) -> Service:
    """Compose filters around an endpoint; the first one named is the outermost."""
    service = endpoint
    for filter_ in reversed(filters):
        service = _wrap(filter_, service)
    return service


def _wrap(filter_: Filter, service: Service) -> Service:
    def wrapped(call: Call) -> Awaitable[Response]:
        return filter_(call, service)

    return wrapped
