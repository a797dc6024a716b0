"""Verdicts and outcomes that end a request, as errors a client can act on. Every limit has a name in its error."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from gateway.core.nouns import Failed, Limited, Outcome, Overloaded, Refuse, Served
from gateway.errors import LimitReached, NoCapacity, RequestError, UpstreamFailed, UpstreamTimeout
from gateway.service import Call

_WORDS = {
    "no-model": "No backend serves this model.",
    "no-backend": "No backend can take this request.",
    "queue-full": "The waiting line is full.",
    "deadline": "No capacity came free before the request's deadline.",
    "max-wait": "No capacity came free in the time a request may wait.",
    "hopeless": "Capacity will not come free in the time a request may wait.",
    "attempts": "Every attempt that the policy allows was made and failed.",
}


def outcome_name(outcome: Outcome | None) -> str:
    """One word for how an attempt ended: what headers, logs, metrics and error details call it."""
    if type(outcome) is Served:
        return "served"
    if outcome is None:
        return "running"
    name = type(outcome).__name__.lower()
    kind = getattr(outcome, "kind", None)
    return f"{name}:{kind}" if kind else name


def attempts_of(call: Call) -> list[Mapping[str, Any]]:
    return [{"backend": a.lease.backend, "outcome": outcome_name(a.outcome)} for a in call.attempts]


def why(reason: str, limit: str = "", wait: float | None = None) -> dict[str, Any]:
    """What every 429 and 503 says for machines to read: why, which limit, and the expected wait in seconds.

    A limit is null where none is in the way, and a wait where it is not known or would not help.
    """
    expected = None if wait is None or wait == inf else round(wait, 1)
    return {"reason": reason, "limit": limit or None, "expected_wait": expected}


def refused(call: Call, verdict: Refuse, last: Outcome | None) -> RequestError:
    """The dispatcher said no. 429 when it is only a matter of rate or room, 503 when nothing is left to ask."""
    if verdict.reason == "attempts":
        return exhausted(call, last, "")
    message = _WORDS[verdict.reason]
    if verdict.limit:
        message += f" Limit reached: {verdict.limit}."
    if verdict.retry_after is not None:
        message += f" Try again in {max(1, round(verdict.retry_after))} s."
    details = {**why(verdict.reason, verdict.limit, verdict.wait), "attempts": attempts_of(call)}
    kind = NoCapacity if verdict.ill or verdict.reason in {"no-model", "no-backend"} else LimitReached
    code = "capacity_" + verdict.reason.replace("-", "_")
    return kind(message, code=code, retry_after=verdict.retry_after, details=details)


def exhausted(call: Call, last: Outcome | None, timeout: str) -> RequestError:
    """Every attempt ended badly; the last one decides the status. What the clouds said stays with us."""
    where = call.attempts[-1].lease.backend if call.attempts else ""
    details = {**why("attempts"), "attempts": attempts_of(call)}
    if timeout or (isinstance(last, Failed) and last.kind in {"timeout", "stall"}):
        name = timeout or "first_token_timeout"
        return UpstreamTimeout(f"{name} ran out on the last backend tried.", code=name, details=details)
    if isinstance(last, Limited):
        wait = min(last.retry_after or 5.0, 120.0)
        details |= why("attempts", f"{where}: {last.kind}", wait)
        message = "The clouds' rate limits are used up."
        return LimitReached(message, code="upstream_limited", retry_after=wait, details=details)
    if isinstance(last, Overloaded):
        details |= why("attempts", f"{where}: overloaded", 5.0)
        return NoCapacity("The clouds are overloaded.", code="upstream_overloaded", retry_after=5.0, details=details)
    return UpstreamFailed("No cloud could answer.", code="upstream_failed", retry_after=1.0, details=details)
