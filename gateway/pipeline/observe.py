"""Outermost: refusals are traffic too. Every response, errors included, leaves with the headers that say who served
it and what it cost in time; every call is counted once, when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import RequestError
from gateway.pipeline.record import ASKED, tell
from gateway.service import Call, Headers, Response, Reuse, Service
from gateway.telemetry.story import at_clouds
from gateway.wire import traceparent
from gateway.wire.envelope import encode_error, retry_after

Fold = Callable[[Call], None]
"""What is told of a call when it has ended; it must not raise."""


class Observe:
    """Turns `RequestError` into a response, adds the routing headers, arranges for the folds."""

    def __init__(self, clock: Callable[[], float], fold: Fold) -> None:
        self._clock = clock
        self._fold = fold

    async def __call__(self, call: Call, service: Service) -> Response:
        call.on_end.append(self._fold)
        call.told = ASKED in call.headers
        try:
            response = await service(call)
        except RequestError as error:
            response = error_response(error)
        call.responded = self._clock()
        call.status = response.status
        response.headers = [*response.headers, *routing_headers(call)]
        if call.told:
            tell(call, response)
        return response


def error_response(error: RequestError) -> Response:
    headers: Headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", retry_after(error.retry_after)))
    return Response(error.http_status, headers, encode_error(error))


def overhead(call: Call) -> float:
    """Seconds the gateway itself took until it answered: all that was neither queue nor cloud, nor reading the body."""
    elsewhere = call.queued + (call.got - call.reading) + at_clouds(call.attempts, call.responded)
    if call.cache is not None:
        elsewhere += call.cache.waited
    return max(0.0, call.responded - call.received - elsewhere)


def routing_headers(call: Call) -> Headers:
    """`x-request-id`, the `x-spillgate-*` headers, `server-timing`, and `x-ratelimit-*` for callers with limits.

    The backend is the one that answers, or was tried last, or "".

    The times are those until the answer began, in milliseconds; `total` is the sum of the others.
    """
    last = call.attempts[-1].lease if call.attempts else None
    queue, read = call.queued * 1e3, (call.got - call.reading) * 1e3
    upstream = at_clouds(call.attempts, call.responded) * 1e3
    if call.cache is not None:
        upstream += call.cache.waited * 1e3
    total = max(0.0, call.responded - call.received) * 1e3
    own = max(0.0, total - queue - upstream - read)
    headers = [
        (b"x-request-id", call.id.encode()),
        (b"x-spillgate-backend", last.backend.encode() if last else b""),
        (b"x-spillgate-model", last.model_id.encode() if last else b""),
        (b"x-spillgate-policy", call.policy.encode()),
        (b"x-spillgate-attempts", b"%d" % len(call.attempts)),
        (b"x-spillgate-queue-ms", b"%.1f" % queue),
        (b"x-spillgate-overhead-ms", b"%.2f" % own),
        (b"server-timing", _TIMING % (read, queue, upstream, own, total) + _trace(call)),
    ]
    if call.easing is not None and (words := call.easing.words(last.backend if last else "", call.model)):
        headers.append((b"x-spillgate-degraded", ", ".join(words).encode()))
    if call.cache is not None:
        headers.append((b"x-spillgate-cache", _reused(call.cache)))
    return headers if call.tab is None else headers + call.tab.headers()


def _reused(reuse: Reuse) -> bytes:
    """hit, joined (with their age in seconds), miss or bypass."""
    aged = reuse.result in {"hit", "joined"}
    return reuse.result.encode() + (b"; age=%d" % reuse.age if aged else b"")


_TIMING = b"read;dur=%.2f, queue;dur=%.2f, upstream;dur=%.2f, gateway;dur=%.2f, total;dur=%.2f"


def _trace(call: Call) -> bytes:
    """The name of a trace that is sampled, as browsers and load testers read it."""
    context = call.context
    if context is None or not context.sampled:
        return b""
    return b', traceparent;desc="%b"' % traceparent.written(context.trace, context.span, True).encode()
