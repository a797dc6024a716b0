"""/console: one page that shows the fleet as it is. Off the hot path; nothing but what this process serves is loaded.

The page and its parts hold no secret and are served to everybody who reaches them; what they show comes from
/console/feed, which asks for the admin key where there is one, as /status does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.nouns import Plan
from gateway.edge.routes import Inside, locked, plain, translate
from gateway.pipeline.observe import error_response
from gateway.service import Response as Answer

PATH = "/console"
PARTS = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "fleet.js": "text/javascript; charset=utf-8",
    "requests.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "echarts.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_GUARDS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def build(inside: Inside) -> Starlette:
    """The Starlette application of everything under `PATH`."""

    async def page(request: Request) -> Response:
        return _part(request, "index.html", "text/html; charset=utf-8")

    async def part(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PARTS:
            raise HTTPException(404)
        return _part(request, name, PARTS[name])

    async def feed(request: Request) -> Response:
        refusal = locked(request, inside)
        if refusal is not None:
            return refusal
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        return plain(request, inside, Answer(200, headers, msgspec.json.encode(_feed(inside))))

    async def lost(request: Request, error: Exception) -> Response:
        return plain(request, inside, error_response(translate(request, error)))

    return Starlette(
        routes=[
            Route(PATH, page, methods=["GET"]),
            Route(PATH + "/", page, methods=["GET"]),
            Route(PATH + "/feed", feed, methods=["GET"]),
            Route(PATH + "/{name}", part, methods=["GET"]),
        ],
        exception_handlers={HTTPException: lost},
    )


def _feed(inside: Inside) -> Mapping[str, Any]:
    ready, detail = inside.ready()
    plan = inside.live.plan
    return {**inside.status(), "ready": ready, "detail": detail, "policies": _policies(plan), "models": _models(plan)}


def _policies(plan: Plan) -> Mapping[str, Any]:
    """The running policies, as far as the page draws them."""
    return {
        name: [{"backends": tier.backends, "choose": tier.choose, "when": tier.when_text} for tier in policy.tiers]
        for name, policy in plan.policies.items()
    }


def _models(plan: Plan) -> Mapping[str, Any]:
    return {name: {"policy": model.policy, "aliases": model.aliases} for name, model in plan.models.items()}


@cache
def _read(name: str) -> tuple[bytes, str]:
    """A part's bytes, and its mark for caches."""
    data = (files("gateway.edge") / "page" / name).read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:20]}"'


def _part(request: Request, name: str, kind: str) -> Response:
    data, mark = _read(name)
    headers = {**_GUARDS, "etag": mark}
    if request.headers.get("if-none-match") == mark:
        return Response(status_code=304, headers=headers)
    return Response(data, headers={**headers, "content-type": kind})
