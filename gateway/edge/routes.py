"""The other routes: models, liveness, readiness, metrics, status. Off the hot path, in Starlette."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.explain import Candidate
from gateway.core.nouns import Request as Wanted
from gateway.edge.look import Look
from gateway.errors import BadRequest, Forbidden, MethodNotAllowed, NotFound, RequestError, Unauthorized
from gateway.pipeline.authenticate import Authenticate
from gateway.pipeline.enrolment import Enrolment
from gateway.pipeline.live import Live
from gateway.pipeline.lookup import Lookup
from gateway.pipeline.observe import error_response, routing_headers
from gateway.service import Call, Caller
from gateway.service import Response as Answer

LOOPBACK = frozenset({"127.0.0.1", "::1", ""})


@dataclass(frozen=True, slots=True)
class Inside:
    """What the routes may ask of the gateway. `ready` returns the reasons why it is not, and remarks."""

    live: Live
    clock: Callable[[], float]
    ready: Callable[[], tuple[bool, Mapping[str, Any]]]
    metrics: Callable[[], bytes]
    status: Callable[[], Mapping[str, Any]]
    new_id: Callable[[], str]
    admin_key: str = ""
    enrolment: Callable[[], Enrolment | None] = lambda: None
    wall: Callable[[], float] = time.time
    lookup: Lookup | None = None
    explain: Callable[[Wanted], tuple[Candidate, ...]] = lambda _: ()
    spending: Callable[[], Mapping[str, Mapping[str, Any]]] = dict


def build(inside: Inside) -> Starlette:
    """The Starlette application for everything that is not a chat completion."""

    async def models(request: Request) -> Response:
        call = _call(request, inside)

        async def listing(_: Call) -> Answer:
            return Answer(200, [(b"content-type", b"application/json")], _models(inside.live, call.caller))

        try:
            answer = await Authenticate(inside.live, inside.wall)(call, listing)
        except RequestError as error:
            answer = error_response(error)
        return _plain(call, answer)

    async def live(request: Request) -> Response:
        return _json(request, inside, 200, {"status": "alive"})

    async def ready(request: Request) -> Response:
        is_ready, detail = inside.ready()
        return _json(
            request, inside, 200 if is_ready else 503, {"status": "ready" if is_ready else "not ready", **detail}
        )

    async def metrics(request: Request) -> Response:
        if (refusal := locked(request, inside)) is not None:
            return refusal
        response = _json(request, inside, 200, {})
        return Response(inside.metrics(), headers=dict(_without_type(response)), media_type="text/plain; version=0.0.4")

    async def status(request: Request) -> Response:
        return locked(request, inside) or _json(request, inside, 200, inside.status())

    async def lost(request: Request, error: Exception) -> Response:
        return _error(request, inside, translate(request, error))

    return Starlette(
        routes=[
            Route("/v1/models", models, methods=["GET"]),
            Route("/models", models, methods=["GET"]),
            Route("/livez", live, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/status", status, methods=["GET"]),
            *_looking(inside),
        ],
        exception_handlers={HTTPException: lost},
    )


def _call(request: Request, inside: Inside) -> Call:
    async def nothing() -> bytes:
        return b""

    call = Call(inside.new_id(), inside.clock(), {}, nothing, credential(request))
    call.responded = call.received
    return call


def credential(request: Request) -> str:
    """The key that was shown as a bearer token, empty if none was."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _models(live: Live, caller: Caller | None) -> bytes:
    """The models that exist for this caller, under every name they have."""
    allowed = caller.models if caller is not None else None
    found = [
        {"id": name, "object": "model", "created": 0, "owned_by": "spillgate", "root": model}
        for name, model in live.names.items()
        if allowed is None or model in allowed
    ]
    return msgspec.json.encode({"object": "list", "data": found})


def _plain(call: Call, answer: Answer) -> Response:
    assert isinstance(answer.body, bytes)
    response = Response(answer.body, answer.status)
    response.raw_headers += [*answer.headers, *routing_headers(call)]
    return response


def plain(request: Request, inside: Inside, answer: Answer) -> Response:
    """An answer that no call led to, with the headers that every answer has."""
    return _plain(_call(request, inside), answer)


def _json(request: Request, inside: Inside, status: int, content: Mapping[str, Any]) -> Response:
    headers = [(b"content-type", b"application/json")]
    return _plain(_call(request, inside), Answer(status, headers, msgspec.json.encode(content)))


def _error(request: Request, inside: Inside, error: RequestError) -> Response:
    return _plain(_call(request, inside), error_response(error))


def _without_type(response: Response) -> list[tuple[str, str]]:
    return [(k, v) for k, v in response.headers.items() if k not in {"content-type", "content-length"}]


def _looking(inside: Inside) -> list[Route]:
    look = Look(inside.live, inside.lookup, inside.explain)

    async def trace(request: Request) -> Response:
        return await _looked(request, inside, lambda: look.trace(request.path_params["name"]))

    async def traces(request: Request) -> Response:
        return await _looked(request, inside, lambda: look.traces(request.query_params))

    async def explain(request: Request) -> Response:
        return await _looked(request, inside, lambda: look.explain(request.query_params))

    paths = {"/traces": traces, "/traces/{name}": trace, "/explain": explain}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()]


async def _looked(request: Request, inside: Inside, find: Callable[[], Awaitable[Mapping[str, Any]]]) -> Response:
    if (refusal := locked(request, inside)) is not None:
        return refusal
    try:
        return _json(request, inside, 200, await find())
    except RequestError as error:
        return _error(request, inside, error)


def locked(request: Request, inside: Inside) -> Response | None:
    """None when the caller may look inside: with the admin key, or from this machine when there is none."""
    if not inside.admin_key:
        if request.client is None or request.client.host in LOOPBACK:
            return None
        error: RequestError = Forbidden(
            "Only this machine may look here. Set SPILLGATE_ADMIN_KEY to allow others.", code="admin_only"
        )
        return _error(request, inside, error)
    given = credential(request).encode()
    if hmac.compare_digest(given, inside.admin_key.encode()):
        return None
    return _error(request, inside, Unauthorized("This needs the admin key.", code="invalid_api_key"))


def translate(request: Request, error: Exception) -> RequestError:
    """An error of the routing, in our own words."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return NotFound(f"There is no {request.url.path[:200]} here.", code="unknown_url")
    if status == 405:
        return MethodNotAllowed(f"{request.method} is not allowed here.", code="method_not_allowed")
    return BadRequest("The request was not understood.", code="bad_request", status=status)
