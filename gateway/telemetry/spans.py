"""A finished call as a tree of spans: every moment belongs to one leaf, so the tree says where the time went.

POST /v1/chat/completions
├── authenticate            until the body was asked for
├── read request            until it was there
├── admit                   its model, its tenant's limits and budget
├── route                   deciding, with what stood for and against every backend
├── wait in queue
├── chat MODEL              one attempt on one cloud; a hedge runs beside another
│   ├── connect             only where no connection was open
│   ├── wait for first byte
│   ├── wait for first token  (or: read answer)
│   └── stream
└── deliver                 until the last byte had left, or the client
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from urllib.parse import urlsplit

import msgspec

from gateway.core.explain import Candidate
from gateway.core.nouns import Abandoned, Beaten, Served
from gateway.policy.compiled import Connection
from gateway.service import Attempt, Decision
from gateway.telemetry import attributes as names
from gateway.telemetry.story import OutcomeName, Story

Value = str | bool | int | float | list[str]
_FINE = (Served, Beaten, Abandoned)
_MOST_CANDIDATES = 50
_NAME = "POST /v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend is, for its spans: what kind of cloud, and its address."""

    provider: str
    host: str = ""
    port: int = 0


class Span(msgspec.Struct, omit_defaults=True):
    """One phase. `start` and `end` are seconds since the request arrived. `attempt` 0: not about one."""

    name: str
    start: float
    end: float
    attempt: int = 0
    error: str = ""
    attributes: dict[str, Value] = {}
    spans: list[Span] = []


class Told(msgspec.Struct, omit_defaults=True):
    """One request as `spillgate trace` shows it. `longest`: the phase that took most of its time, and how long."""

    id: str
    at: str
    trace: str = ""
    tenant: str = ""
    class_: str = msgspec.field(default="", name="class")
    model: str = ""
    asked: str = ""
    policy: str = ""
    status: int = 0
    stream: bool = False
    backend: str = ""
    kept: list[str] = []
    answered: float = 0.0
    total: float = 0.0
    longest: str = ""
    longest_seconds: float = 0.0
    root: Span | None = None


def told(story: Story, places: Mapping[str, Place], outcome_name: OutcomeName, wall: float) -> Told:
    """The whole of a story. `wall` is Unix time less the gateway's monotonic time."""
    root = tree(story, places, outcome_name)
    longest = max(leaves(root), key=lambda span: span.end - span.start, default=root)
    moment = datetime.fromtimestamp(story.received + wall, UTC).isoformat(timespec="milliseconds")
    return Told(
        id=story.id,
        at=moment.replace("+00:00", "Z"),
        trace=f"{story.context.trace:032x}" if story.context is not None else "",
        tenant=story.tenant,
        class_=story.class_,
        model=story.model,
        asked=story.asked,
        policy=story.policy,
        status=story.status,
        stream=story.stream,
        backend=story.attempts[-1].lease.backend if story.attempts else "",
        kept=list(story.kept),
        answered=story.waited,
        total=story.total,
        longest=longest.name,
        longest_seconds=longest.end - longest.start,
        root=root,
    )


def leaves(span: Span) -> Iterator[Span]:
    """The phases below which there are no others."""
    for below in span.spans:
        if below.spans:
            yield from leaves(below)
        else:
            yield below


def tree(story: Story, places: Mapping[str, Place], outcome_name: OutcomeName) -> Span:
    """The span of the request, with all others below it."""
    root = Span(_NAME, 0.0, story.total, attributes=_about(story))
    if story.status >= 500:
        root.error = str(story.status)
        root.attributes[names.ERROR_TYPE] = root.error
    root.spans = list(_phases(story, places, outcome_name))
    return root


def tenant_hash(name: str) -> str:
    """What a tenant is called outside this house."""
    return hashlib.sha256(b"tenant:" + name.encode()).hexdigest()[:16]


def _about(story: Story) -> dict[str, Value]:
    found: dict[str, Value] = {
        names.HTTP_METHOD: "POST",
        names.HTTP_ROUTE: "/v1/chat/completions",
        names.URL_SCHEME: "http",
        names.HTTP_STATUS: story.status,
        names.REQUEST: story.id,
        names.TENANT: tenant_hash(story.tenant),
        names.CLASS: story.class_,
        names.MODEL: story.model,
        names.POLICY: story.policy,
        names.GEN_STREAM: story.stream,
        names.ATTEMPTS: len(story.attempts),
        names.QUEUED: round(story.queued, 6),
    }
    if story.key:
        found[names.KEY] = story.key
    if story.attempts:
        found[names.BACKEND] = story.attempts[-1].lease.backend
    if story.kept:
        found[names.KEPT] = list(story.kept)
    return found


def _phases(story: Story, places: Mapping[str, Place], outcome_name: OutcomeName) -> Iterator[Span]:
    """The phases in the order of their beginnings. Whatever lies between two of them was ours: routing."""
    zero = story.received
    cursor = _first(story)
    yield Span("authenticate", 0.0, (story.reading or cursor) - zero)
    if story.reading:
        yield Span("read request", story.reading - zero, cursor - zero)
    admitted = story.offered or (cursor if story.dispatched else story.responded)
    if admitted > cursor:
        yield Span("admit", cursor - zero, admitted - zero)
        cursor = admitted
    decisions = list(story.decisions)
    for start, what in _steps(story):
        if start > cursor or any(decision.at <= start for decision in decisions):
            yield _route(story, min(cursor, start), start, decisions)
        if isinstance(what, Attempt):
            span = _attempt(story, what, places, outcome_name)
            end = zero + span.end
        else:
            end = what
            span = Span("wait in queue", start - zero, end - zero, attributes=_reason(_taken(decisions, end)))
        yield span
        cursor = max(cursor, end)
    if story.responded > cursor and not any(attempt.first_token for attempt in story.attempts):
        yield _route(story, cursor, story.responded, decisions)
        cursor = story.responded
    if story.ended > cursor:
        yield Span("deliver", cursor - zero, story.ended - zero)


def _first(story: Story) -> float:
    """When the request was there: as far as it came."""
    if story.reading:
        return story.got or story.responded
    begun = [start for start, _ in _steps(story)]
    return min([*begun, story.responded])


def _steps(story: Story) -> list[tuple[float, Attempt | float]]:
    steps: list[tuple[float, Attempt | float]] = [(attempt.sent, attempt) for attempt in story.attempts]
    steps += [(start, end) for start, end in story.waits]
    return sorted(steps, key=lambda step: (step[0], isinstance(step[1], Attempt)))


def _taken(decisions: list[Decision], until: float) -> list[Decision]:
    """Those that were made until then, and not told yet."""
    found = [decision for decision in decisions if decision.at <= until]
    del decisions[: len(found)]
    return found


def _route(story: Story, start: float, end: float, decisions: list[Decision]) -> Span:
    return Span("route", start - story.received, end - story.received, attributes=_reason(_taken(decisions, end)))


def _reason(made: list[Decision]) -> dict[str, Value]:
    """The last of some decisions: what was said, and how every backend stood."""
    if not made:
        return {}
    decision = made[-1]
    shown = decision.candidates[:_MOST_CANDIDATES]
    found: dict[str, Value] = {names.VERDICT: decision.verdict, names.REASON: decision.reason}
    if decision.backend:
        found[names.BACKEND] = decision.backend
    if shown:
        found[names.ELIGIBLE] = sum(candidate.eligible for candidate in shown)
        found[names.EXCLUDED] = sum(not candidate.eligible for candidate in shown)
        found[names.CANDIDATES] = [_candidate(candidate, decision.backend) for candidate in shown]
        found[names.LOOKED] = round(max(0.0, decision.at - decision.looked), 3)
    return found


def _candidate(candidate: Candidate, taken: str) -> str:
    """One backend in a line, as people read it."""
    score = f", score {candidate.score:.3f}" if isfinite(candidate.score) else ""
    if candidate.backend == taken:
        state = f"taken{score}"
    elif candidate.why_not:
        state = "; ".join(candidate.why_not) + ("" if candidate.eligible else " (not eligible)")
    else:
        state = f"has room{score}"
    home = ", home" if candidate.home else ""
    return f"{candidate.backend} (tier {candidate.tier + 1}): {state}{home}"


def _attempt(story: Story, attempt: Attempt, places: Mapping[str, Place], outcome_name: OutcomeName) -> Span:
    lease, zero = attempt.lease, story.received
    end = attempt.ended or story.ended
    span = Span(f"chat {lease.model_id}", attempt.sent - zero, end - zero, attempt=lease.attempt)
    outcome = outcome_name(attempt.outcome)
    found: dict[str, Value] = {
        names.GEN_OPERATION: "chat",
        names.GEN_MODEL: lease.model_id,
        names.GEN_STREAM: story.stream,
        names.BACKEND: lease.backend,
        names.ACCOUNT: lease.account,
        names.TIER: lease.tier + 1,
        names.OUTCOME: outcome,
        names.RESERVED: lease.reserved,
    }
    place = places.get(lease.backend)
    if place is not None:
        found[names.GEN_PROVIDER] = place.provider
        if place.host:
            found |= {names.SERVER_ADDRESS: place.host, names.SERVER_PORT: place.port}
    if lease.attempt > 1:
        found[names.HTTP_RESEND] = lease.attempt - 1
    if any(other is not attempt and other.sent <= attempt.sent < (other.ended or end) for other in story.attempts):
        found[names.HEDGE] = True
    usage = attempt.usage
    if usage is not None:
        found |= {names.GEN_INPUT: usage.prompt, names.GEN_OUTPUT: usage.completion}
        found |= {names.GEN_CACHED: usage.cached, names.GEN_REASONING: usage.reasoning}
    if not isinstance(attempt.outcome, _FINE):
        span.error = found[names.ERROR_TYPE] = outcome
    if story.stream and attempt.first_token:
        found[names.GEN_FIRST_CHUNK] = round(attempt.first_token - attempt.sent, 6)
    if attempt.first_byte:
        found[names.CONNECTION] = "new" if attempt.connect else "reused"
    span.attributes = found
    span.spans = list(_parts(story, attempt, end))
    return span


def _parts(story: Story, attempt: Attempt, end: float) -> Iterator[Span]:
    zero, cursor = story.received, attempt.sent
    if attempt.connect:
        yield Span("connect", cursor - zero, cursor + attempt.connect - zero)
        cursor += attempt.connect
    elif getattr(attempt.outcome, "kind", "") == "connect":  # it ended before there was one
        yield Span("connect", cursor - zero, end - zero)
        return
    heard = attempt.first_byte or end
    yield Span("wait for first byte", cursor - zero, heard - zero)
    if not attempt.first_byte:
        return
    token = attempt.first_token or end
    yield Span("wait for first token" if story.stream else "read answer", heard - zero, token - zero)
    if story.stream and attempt.first_token:
        tokens = attempt.usage.completion if attempt.usage is not None else attempt.tokens
        found: dict[str, Value] = {names.TOKENS: tokens, names.LONGEST_GAP: round(attempt.gap, 6)}
        if end > token:
            found[names.TOKEN_RATE] = round(tokens / (end - token), 2)
        yield Span("stream", token - zero, end - zero, attributes=found)


def places(connections: Mapping[str, Connection]) -> dict[str, Place]:
    """Where every backend is. Only host and port of its address: the rest of it may hold a secret."""
    found = {}
    for name, connection in connections.items():
        parts = urlsplit(connection.base_url)
        provider = names.PROVIDERS.get(connection.preset, connection.preset)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        found[name] = Place(provider, parts.hostname or "", port)
    return found
