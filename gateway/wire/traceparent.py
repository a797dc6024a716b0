"""W3C Trace Context: the two headers that say which trace a request belongs to (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

_HEADER = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rb"[\x20-\x7e]{1,512}")
_SAMPLED = 1


def parse(header: bytes) -> tuple[int, int, bool] | None:
    """Trace id, span id, and whether the caller samples it; None for what the standard says to ignore."""
    found = _HEADER.fullmatch(header.strip())
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5]):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return (trace, span, bool(int(found[4], 16) & _SAMPLED)) if trace and span else None


def state(header: bytes) -> str:
    """A `tracestate` that may be passed on; empty if it may not."""
    text = header.strip()
    return text.decode("ascii") if _STATE.fullmatch(text) else ""


def written(trace: int, span: int, sampled: bool) -> str:
    """The `traceparent` header."""
    return f"00-{trace:032x}-{span:016x}-{int(sampled):02x}"
