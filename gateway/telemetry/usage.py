"""What one request used and cost: a fold over a call that has ended, as a record that is one line of JSON.

Tokens are those the cloud counted. Where it told none (the client left, the stream broke) ours stand, marked
`estimated`: the prompt by its size, the answer by the frames that came. An attempt that did not become the answer is
listed under `lost`, with what it must have cost all the same: the clouds bill it, so the sum over answers and lost
attempts is what a cloud's own count can be held against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil

import msgspec

from gateway.core.estimate import BYTES_PER_TOKEN
from gateway.core.nouns import Abandoned, Beaten, Failed, Outcome, Served, Usage
from gateway.core.tariff import cost
from gateway.service import Attempt, Call

OutcomeName = Callable[[Outcome | None], str]
_NOTHING = Usage(0, 0)
_LONGEST_NAME = 128


class Try(msgspec.Struct, frozen=True):
    """One attempt. `served`: the cloud's id of the model. Times in seconds; `cost` None: no price was known."""

    backend: str = ""
    served: str = ""
    outcome: str = ""
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    cost: str | None = None
    currency: str = ""
    sent: float | None = None
    first_token: float | None = None
    seconds: float = 0.0


class UsageRecord(msgspec.Struct, frozen=True):
    """One request. The fields of `Try` are those of the attempt that became the answer, empty if none did.

    `at`: when it arrived (RFC 3339, UTC). `key`: the id of the key that was shown. `asked`: the model's name as the
    client gave it. `input` includes `cached`, `output` includes `reasoning`. `sent` counts from the arrival,
    `first_token` and `seconds` from being sent; `queued` and `total` are the request's. `cache`: hit, miss, joined
    or bypass; empty where no answers are kept. Of a hit, or an answer that another request paid for, `backend` is
    empty and `cost` 0, all of `input` is `cached`; where joined answers count for each (`account: each`), tokens and
    cost are what they were for the one that paid, so that what no backend is named for is owed to no cloud.
    """

    id: str
    at: str
    tenant: str = ""
    key: str = ""
    class_: str = msgspec.field(default="", name="class")
    model: str = ""
    asked: str = ""
    policy: str = ""
    status: int = 0
    stream: bool = False
    cache: str = ""
    attempts: int = 0
    queued: float = 0.0
    total: float = 0.0
    backend: str = ""
    served: str = ""
    outcome: str = ""
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    estimated: bool = False
    cost: str | None = None
    currency: str = ""
    sent: float | None = None
    first_token: float | None = None
    seconds: float = 0.0
    lost: tuple[Try, ...] = ()


class Ended:
    """What is kept of a call until its record is made: no body, no key, nothing that is large."""

    __slots__ = (
        "asked", "attempts", "cache", "class_", "ended", "id", "key", "model", "policy", "queued", "received",
        "status", "stream", "tenant",
    )  # fmt: skip

    def __init__(self, call: Call, tenant: str, class_: str) -> None:
        chat = call.chat
        self.id = call.id
        self.tenant = tenant
        self.class_ = class_
        self.key = call.key
        self.model = call.model
        self.asked = chat.model[:_LONGEST_NAME] if chat is not None else ""
        self.stream = chat is not None and chat.stream
        self.policy = call.policy
        self.status = call.status
        self.received = call.received
        self.queued = call.queued
        self.ended = call.ended
        self.attempts: Sequence[Attempt] = call.attempts
        self.cache = call.cache


def record(ended: Ended, outcome_name: OutcomeName, wall: float) -> UsageRecord:
    """The record. `wall` is Unix time less the gateway's monotonic time."""
    answer = _answer(ended.attempts)
    best = _try(answer, ended, outcome_name) if answer is not None else _given(ended)
    moment = datetime.fromtimestamp(ended.received + wall, UTC)
    return UsageRecord(
        id=ended.id,
        at=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        tenant=ended.tenant,
        key=ended.key,
        class_=ended.class_,
        model=ended.model,
        asked=ended.asked,
        policy=ended.policy,
        status=ended.status,
        stream=ended.stream,
        cache="" if ended.cache is None else ended.cache.result,
        attempts=len(ended.attempts),
        queued=round(ended.queued, 4),
        total=round(ended.ended - ended.received, 4),
        lost=tuple(_try(a, ended, outcome_name) for a in ended.attempts if a is not answer),
        **{name: getattr(best, name) for name in Try.__struct_fields__},
    )


def counted(attempt: Attempt) -> tuple[Usage, bool]:
    """Its tokens, and whether they are an estimate of ours. Nothing where the cloud did no work, as far as we know."""
    if attempt.usage is not None:
        return attempt.usage, False
    outcome = attempt.outcome
    at_work = isinstance(outcome, Abandoned | Beaten) or (
        isinstance(outcome, Failed) and outcome.kind in {"timeout", "stall"}
    )
    if not attempt.first_token and not at_work:
        return _NOTHING, False
    return Usage(ceil(attempt.lease.request.prompt_bytes / BYTES_PER_TOKEN), attempt.tokens), True


def _answer(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that became the answer: the one that was served, or else the one that had begun."""
    for attempt in attempts:
        if isinstance(attempt.outcome, Served):
            return attempt
    return next((attempt for attempt in attempts if attempt.first_token), None)


def _given(ended: Ended) -> Try:
    """What was got without an attempt of its own, if anything was."""
    reuse = ended.cache
    if reuse is None or reuse.usage is None:
        return Try()
    usage = reuse.usage
    paid = "0" if reuse.cost is not None else None
    return Try(
        outcome="served",
        input=usage.prompt,
        cached=usage.cached if reuse.charged else usage.prompt,
        output=usage.completion,
        reasoning=usage.reasoning,
        cost=money(reuse.cost) if reuse.charged and reuse.cost is not None else paid,
        currency=reuse.currency,
    )


def _try(attempt: Attempt, ended: Ended, outcome_name: OutcomeName) -> Try:
    usage, estimated = counted(attempt)
    lease = attempt.lease
    price = lease.price
    return Try(
        backend=lease.backend,
        served=lease.model_id,
        outcome=outcome_name(attempt.outcome),
        input=usage.prompt,
        cached=usage.cached,
        output=usage.completion,
        reasoning=usage.reasoning,
        estimated=estimated,
        cost=None if price is None else money(cost(price, usage)),
        currency="" if price is None else price.currency,
        sent=round(attempt.sent - ended.received, 4),
        first_token=round(attempt.first_token - attempt.sent, 4) if attempt.first_token else None,
        seconds=round(max(0.0, attempt.ended - attempt.sent), 4),
    )


def money(amount: Decimal) -> str:
    """Exact, and without an exponent or idle zeros."""
    text = format(amount, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
