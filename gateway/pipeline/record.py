"""The routing record: for a client that asks (`x-spillgate-explain: 1`), why its request went where it went.

It is a header of the answer; of a stream, whose story ends with it, also its last chunk before the end mark. What a
cloud says of our keys and bills is not in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from math import isfinite
from typing import Any

import msgspec

from gateway.core.explain import Candidate
from gateway.pipeline.faults import outcome_name
from gateway.service import Body, Call, Decision, Response
from gateway.wire.sse import DONE

ASKED = b"x-spillgate-explain"
HEADER = b"x-spillgate-route"
MOST_BYTES = 6000
"""Many proxies turn away more than 8 kB of headers."""
_PRIVATE = ("account cooling after auth", "account cooling after quota")


def tell(call: Call, response: Response) -> None:
    """Add the record, or what there is of it, to the answer's headers; and to the end of a stream."""
    response.headers.append((HEADER, _fitting(record(call))))
    if not isinstance(response.body, bytes):
        response.body = _Told(call, response.body)


def record(call: Call) -> dict[str, Any]:
    """Decisions and attempts so far. Times are milliseconds since the request arrived."""
    return {
        "request": call.id,
        "model": call.model,
        "policy": call.policy,
        "queue_ms": _ms(call.queued),
        "decisions": [_decision(call, decision) for decision in call.decisions],
        "attempts": [
            {
                "backend": attempt.lease.backend,
                "model": attempt.lease.model_id,
                "tier": attempt.lease.tier + 1,
                "outcome": outcome_name(attempt.outcome),
                "sent_ms": _ms(attempt.sent - call.received),
                "first_token_ms": _ms(attempt.first_token - call.received) if attempt.first_token else None,
                "ended_ms": _ms(attempt.ended - call.received) if attempt.ended else None,
            }
            for attempt in call.attempts
        ],
    }


def _decision(call: Call, decision: Decision) -> dict[str, Any]:
    return {
        "at_ms": _ms(decision.at - call.received),
        "verdict": decision.verdict,
        "backend": decision.backend,
        "reason": decision.reason,
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "backend": candidate.backend,
        "tier": candidate.tier + 1,
        "eligible": candidate.eligible,
        "room": candidate.has_room,
        "score": round(candidate.score, 4) if isfinite(candidate.score) else None,
        "why_not": ["unavailable" if why.startswith(_PRIVATE) else why for why in candidate.why_not],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


def _fitting(found: Mapping[str, Any]) -> bytes:
    """As JSON in ASCII, without the candidates where it would be too long for a header."""
    text = _ascii(found)
    if len(text) > MOST_BYTES:
        text = _ascii({**found, "decisions": [{**d, "candidates": None} for d in found["decisions"]]})
    return text if len(text) <= MOST_BYTES else b"{}"


def _ascii(found: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(found).decode().encode("ascii", "backslashreplace")


class _Told:
    """A stream with the record before its end mark. Closing it closes the stream."""

    def __init__(self, call: Call, body: Body) -> None:
        self._call = call
        self._body = body
        self._pieces: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = aiter(self._body)
        return self

    async def __anext__(self) -> bytes:
        block = await anext(self._pieces)
        before, mark, rest = block.rpartition(DONE)
        return before + self._chunk() + mark + rest if mark else block

    def _chunk(self) -> bytes:
        told = {
            "id": self._call.id,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": self._call.model,
            "choices": [],
            "spillgate": record(self._call),
        }
        return b"data: " + msgspec.json.encode(told) + b"\n\n"

    async def aclose(self) -> None:
        await self._body.aclose()
