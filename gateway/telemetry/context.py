"""Which trace a call belongs to, and what a cloud is told of it. Span ids of attempts follow from the call's own."""

from __future__ import annotations

from random import Random

from gateway.service import Call, Context
from gateway.wire import traceparent

_LOW = (1 << 64) - 1


def begin(call: Call, sample: float, chance: Random) -> Context:
    """The call's place in a trace: the caller's, if he is known to us, or else in one of its own.

    A caller's decision to sample holds; otherwise it is by the trace's id, as `TraceIdRatioBased` of OpenTelemetry
    decides, so that all replicas agree.
    """
    bits = chance.getrandbits(192)
    span = bits & _LOW or 1
    header = call.headers.get(b"traceparent") if call.caller is not None else None
    given = traceparent.parse(header) if header else None
    if given is None:
        trace = bits >> 64 or 1
        return Context(trace, span, sampled=(trace & _LOW) < sample * (_LOW + 1))
    state = traceparent.state(call.headers.get(b"tracestate", b""))
    return Context(given[0], span, given[1], sampled=given[2], state=state)


def attempt_span(context: Context, attempt: int) -> int:
    """The id of an attempt's span. The high bits are the call's, so two calls of one trace do not meet."""
    return context.span ^ (attempt << 8) or 1


def propagated(context: Context, attempt: int) -> dict[str, str]:
    """What an attempt tells its cloud: that the attempt is the parent, so that the cloud's spans hang below it."""
    headers = {"traceparent": traceparent.written(context.trace, attempt_span(context, attempt), context.sampled)}
    if context.state:
        headers["tracestate"] = context.state
    return headers
