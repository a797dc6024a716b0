"""/admin/v1: tenants and keys that come and go while the gateway runs. Opened by SPILLGATE_ADMIN_KEY alone.

    GET    tenants                 all, the document's too        GET    keys?tenant=NAME   all, or one tenant's
    POST   tenants                 a new one: {name, …terms}      POST   keys               a new one, shown this once:
    GET    tenants/NAME                                                                     {tenant, name?, expires?,
    PUT    tenants/NAME            with these terms, new or not                              replaces?, overlap?}
    PATCH  tenants/NAME            change some terms              PATCH  keys/ID            its name or its end
    DELETE tenants/NAME            and revoke its keys            DELETE keys/ID            revoke it

Terms are the words of the document's `tenants`, checked by the same reader. What stands in the document is shown here
and changed there. Without an admin key there is nothing here at all, not even for this machine.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.edge import roll
from gateway.edge.routes import Inside, credential, plain, translate
from gateway.errors import BadRequest, BodyTooLarge, NotFound, NotPossible, RequestError, Unauthorized
from gateway.pipeline.observe import error_response
from gateway.policy import enrol, scalars
from gateway.policy.enrol import Changes, Given
from gateway.policy.keys import ENTROPY, digest, key_id, minted
from gateway.policy.roster import Roster
from gateway.service import Headers
from gateway.service import Response as Answer

PATH = "/admin/"
MOST_BYTES = 16 * 1024
BODY_TIMEOUT = 10.0
LONGEST_OVERLAP = 366 * 86400.0
OVERLAP = "24h"
_HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
log = logging.getLogger("spillgate.admin")

Found = tuple[int, Mapping[str, Any]]
"""Status and content of an answer."""


def build(inside: Inside) -> Starlette:
    """The Starlette application of everything under `PATH`."""
    desk = _Desk(inside)

    def route(path: str, **methods: Callable[[Request], Awaitable[Found]]) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                _check(request, inside)
                status, content = await methods[request.method.lower()](request)
                answer = Answer(status, _HEADERS, msgspec.json.encode(content))
            except RequestError as error:
                answer = error_response(error)
            return plain(request, inside, answer)

        return Route("/admin/v1" + path, endpoint, methods=[method.upper() for method in methods])

    async def lost(request: Request, error: Exception) -> Response:
        return plain(request, inside, error_response(translate(request, error)))

    return Starlette(
        routes=[
            route("/tenants", get=desk.tenants, post=desk.create),
            route("/tenants/{name:path}", get=desk.tenant, put=desk.replace, patch=desk.amend, delete=desk.dismiss),
            route("/keys", get=desk.keys, post=desk.issue),
            route("/keys/{key:path}", get=desk.key, patch=desk.amend_key, delete=desk.revoke),
        ],
        exception_handlers={HTTPException: lost},
    )


def _check(request: Request, inside: Inside) -> None:
    """Raise unless the admin key was shown; without one there is nothing here."""
    if not inside.admin_key:
        raise NotFound(f"There is no {request.url.path[:200]} here.", code="unknown_url")
    if not hmac.compare_digest(credential(request).encode(), inside.admin_key.encode()):
        raise Unauthorized("This needs the admin key.", code="invalid_api_key")


class _Desk:
    """One method per verb. Each answers with a status and plain data, or raises `RequestError`."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    @property
    def _now(self) -> tuple[float, roll.Spending]:
        """What the roll is read with: the time, and how budgets stand."""
        return self._inside.wall(), self._inside.spending()

    # --- tenants ----------------------------------------------------------------------------------------

    async def tenants(self, request: Request) -> Found:
        del request
        return 200, {"object": "list", "data": roll.tenants(self._inside.live, *self._now)}

    async def tenant(self, request: Request) -> Found:
        return 200, self._tenant(request.path_params["name"])

    async def create(self, request: Request) -> Found:
        terms = await _body(request)
        name = _text(terms, "name", required=True)
        await self._change(lambda roster, given, now: enrol.create(roster, given, name, terms, now))
        log.warning("tenant '%s' was made", name)
        return 201, self._tenant(name)

    async def replace(self, request: Request) -> Found:
        name, terms = request.path_params["name"], await _body(request)
        await self._change(lambda roster, given, now: enrol.replace(roster, given, name, terms, now))
        log.warning("tenant '%s' was set", name)
        return 200, self._tenant(name)

    async def amend(self, request: Request) -> Found:
        name, patch = request.path_params["name"], await _body(request)
        await self._change(lambda roster, given, now: enrol.amend(roster, given, name, patch, now))
        log.warning("tenant '%s' was changed", name)
        return 200, self._tenant(name)

    async def dismiss(self, request: Request) -> Found:
        name = request.path_params["name"]
        await self._change(lambda roster, given, now: enrol.dismiss(roster, given, name, now))
        log.warning("tenant '%s' was removed, and its keys revoked", name)
        return 200, {"object": "tenant", "name": name, "deleted": True}

    def _tenant(self, name: str) -> Mapping[str, Any]:
        if name not in self._inside.live.index.tenants:
            raise NotFound(f"There is no tenant '{name[:128]}'.", code="tenant_not_found")
        return roll.tenant(self._inside.live, name, *self._now)

    # --- keys -------------------------------------------------------------------------------------------

    async def keys(self, request: Request) -> Found:
        tenant = request.query_params.get("tenant", "")
        if tenant:
            self._tenant(tenant)
        return 200, {"object": "list", "data": roll.keys(self._inside.live, tenant, *self._now)}

    async def key(self, request: Request) -> Found:
        wanted = request.path_params["key"]
        return 200, self._shown(lambda found: wanted in {found["id"], found["name"]}, wanted)

    async def issue(self, request: Request) -> Found:
        terms = await _body(request)
        tenant = _text(terms, "tenant", required=True)
        replaces = _text(terms, "replaces")
        overlap = _overlap(terms)
        key = minted(secrets.token_bytes(ENTROPY))
        known = digest(key)
        await self._change(
            lambda roster, given, now: enrol.issue(roster, given, tenant, terms, known, now, replaces, overlap)
        )
        log.warning("key %s was made for tenant '%s'", key_id(known), tenant)
        return 201, {**self._key(key_id(known)), "key": key}

    async def amend_key(self, request: Request) -> Found:
        patch = await _body(request)

        def act(roster: Roster, given: Given, key: str, now: float) -> Changes:
            return enrol.amend_key(roster, given, key, patch, now)

        found = await self._on_key(request, act)
        log.warning("key %s was changed", found["id"])
        return 200, found

    async def revoke(self, request: Request) -> Found:
        found = await self._on_key(request, enrol.revoke)
        log.warning("key %s was revoked", found["id"])
        return 200, found

    async def _on_key(self, request: Request, act: Callable[[Roster, Given, str, float], Changes]) -> Mapping[str, Any]:
        """Do something to a key that is named by its id or its name, and show it afterwards."""
        wanted = request.path_params["key"]
        known = ""

        def decide(roster: Roster, given: Given, now: float) -> Changes:
            nonlocal known
            known = enrol.find(roster, given, wanted).id
            return act(roster, given, wanted, now)

        await self._change(decide)
        return self._key(known)

    def _key(self, id_: str) -> Mapping[str, Any]:
        return self._shown(lambda found: found["id"] == id_, id_)

    def _shown(self, is_it: Callable[[Mapping[str, Any]], bool], wanted: str) -> Mapping[str, Any]:
        for found in roll.keys(self._inside.live, "", *self._now):
            if is_it(found):
                return found
        raise NotFound(f"There is no key '{wanted[:128]}'.", code="key_not_found")

    async def _change(self, decide: Callable[[Roster, Given, float], Changes]) -> None:
        enrolment = self._inside.enrolment()
        if enrolment is None:
            message = "Tenants and keys that are made at run time are kept in Redis: set REDIS_URL."
            raise NotPossible(message, code="needs_redis")
        await enrolment.change(decide)


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises `BadRequest`, `BodyTooLarge`."""
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for piece in request.stream():
                found += piece
                if len(found) > MOST_BYTES:
                    raise BodyTooLarge(f"More than {MOST_BYTES} bytes.", code="body_too_large")
    except (TimeoutError, ClientDisconnect):
        raise BadRequest("The request body did not arrive in time.", code="body_timeout", status=408) from None
    try:
        body = msgspec.json.decode(found or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The request body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_json")
    return body


def _text(terms: dict[str, Any], name: str, *, required: bool = False) -> str:
    """Take one text out of what was sent; what is left are terms."""
    found = terms.pop(name, None)
    if found is None and not required:
        return ""
    if not isinstance(found, str) or not found:
        raise BadRequest(f"'{name}' must be a text that is not empty.", code="invalid_type", param=name)
    return found


def _overlap(terms: dict[str, Any]) -> float:
    """For how long the key that is replaced goes on, in seconds."""
    said = _text(terms, "overlap") or OVERLAP
    found = scalars.duration(said)
    if found is None or found > LONGEST_OVERLAP:
        hint = scalars.EXPECTED["duration"]
        raise BadRequest(f"overlap: '{said[:40]}' is not understood ({hint})", code="invalid_value", param="overlap")
    return found
