"""Outermost: refusals are traffic too. Every response, errors included, leaves with the headers that say who served
it and what it cost in time; every call is counted once, when it has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import RequestError
from gateway.service import Attempt, Call, Headers, Response, Service
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
        try:
            response = await service(call)
        except RequestError as error:
            response = error_response(error)
        call.responded = self._clock()
        call.status = response.status
        response.headers = [*response.headers, *routing_headers(call)]
        return response


def error_response(error: RequestError) -> Response:
    headers: Headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", retry_after(error.retry_after)))
    return Response(error.http_status, headers, encode_error(error))


def overhead(call: Call) -> float:
    """Seconds the gateway itself took until it answered: all the time that was neither queue nor cloud.

    Attempts that ran beside each other took their time once.
    """
    upstream = until = 0.0
    attempts = call.attempts
    for attempt in attempts if len(attempts) < 2 else sorted(attempts, key=_sent):
        end = attempt.first_token or attempt.ended or call.responded
        if end > until:
            upstream += end - (max(until, attempt.sent))
            until = end
    return max(0.0, call.responded - call.received - call.queued - upstream)


def _sent(attempt: Attempt) -> float:
    return attempt.sent


def routing_headers(call: Call) -> Headers:
    """`x-request-id` and the `x-spillgate-*` headers. The backend is the one that answers, or was tried last, or ""."""
    last = call.attempts[-1].lease if call.attempts else None
    headers = [
        (b"x-request-id", call.id.encode()),
        (b"x-spillgate-backend", last.backend.encode() if last else b""),
        (b"x-spillgate-model", last.model_id.encode() if last else b""),
        (b"x-spillgate-policy", call.policy.encode()),
        (b"x-spillgate-attempts", b"%d" % len(call.attempts)),
        (b"x-spillgate-queue-ms", b"%.1f" % (call.queued * 1e3)),
        (b"x-spillgate-overhead-ms", b"%.2f" % (overhead(call) * 1e3)),
    ]
    if call.easing is not None and (words := call.easing.words(last.backend if last else "", call.model)):
        headers.append((b"x-spillgate-degraded", ", ".join(words).encode()))
    return headers
