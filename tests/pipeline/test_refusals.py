"""Every refusal for lack of room says for machines why, which limit, and what wait is expected."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from gateway.core.nouns import Limited, Outcome, Overloaded, RefusalKind, Refuse, RefuseReason
from gateway.errors import RequestError
from gateway.pipeline.faults import exhausted, refused
from gateway.service import Attempt, Call


async def _nothing() -> bytes:
    return b""


def call(*backends: str) -> Call:
    found = Call("req-1", 0.0, {}, _nothing)
    lease: Any = type("Lease", (), {})
    for backend in backends:
        made = lease()
        made.backend = backend
        found.attempts.append(Attempt(made, 0.0))
    return found


def facts(error: RequestError) -> tuple[object, ...]:
    assert error.http_status in {429, 503}
    assert error.code
    return tuple(error.details[name] for name in ("reason", "limit", "expected_wait"))


@pytest.mark.parametrize("reason", [r for r in get_args(RefuseReason) if r != "attempts"])
@pytest.mark.parametrize(
    ("verdict", "limit", "wait"),
    [
        ({"retry_after": 3.0, "limit": "a: rpm 1 of 1", "wait": 23.04}, "a: rpm 1 of 1", 23.0),
        ({"retry_after": 3.0, "limit": "a: unavailable", "ill": True, "wait": 9.96}, "a: unavailable", 10.0),
        ({"retry_after": 60.0, "wait": float("inf")}, None, None),
        ({}, None, None),
    ],
)
def test_what_the_dispatcher_refuses(
    reason: RefuseReason, verdict: dict[str, Any], limit: str | None, wait: float | None
) -> None:
    error = refused(call(), Refuse(reason, **verdict), None)
    assert facts(error) == (reason, limit, wait)
    assert error.code == "capacity_" + reason.replace("-", "_")
    assert error.retry_after == verdict.get("retry_after")


@pytest.mark.parametrize(
    ("last", "limit", "wait"),
    [
        *((Limited(kind, 7.0), f"two: {kind}", 7.0) for kind in get_args(RefusalKind)),
        (Limited("rpm"), "two: rpm", 5.0),
        (Limited("quota", 9000.0), "two: quota", 120.0),
        (Overloaded(), "two: overloaded", 5.0),
    ],
)
def test_what_the_clouds_refused_last(last: Outcome, limit: str, wait: float) -> None:
    error = refused(call("one", "two"), Refuse("attempts"), last)
    assert facts(error) == ("attempts", limit, wait) == facts(exhausted(call("one", "two"), last, ""))
    assert error.retry_after == wait
    assert [attempt["backend"] for attempt in error.details["attempts"]] == ["one", "two"]
