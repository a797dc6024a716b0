"""Who asks? Keys are known only by their SHA-256 (`policy.keys` says why that is enough, and looking one up safe)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable

from gateway.errors import Forbidden, RequestError, Unauthorized
from gateway.pipeline.live import Live
from gateway.policy.compiled import Tenant
from gateway.policy.keys import digest
from gateway.policy.roster import Access
from gateway.policy.scalars import written
from gateway.service import Call, Response, Service

LOCAL = Tenant(name="local", class_="standard", weight=1.0)
"""Whoever calls a gateway without tenants; `serve` lets it listen on loopback only."""


class Authenticate:
    """Sets `call.caller` and `call.key`; raises `Unauthorized`, or `Forbidden` for a tenant that is disabled.

    That a key expired or was revoked is told to those who show the whole of it, and to nobody else. `wall` returns
    Unix seconds.
    """

    def __init__(self, live: Live, wall: Callable[[], float] = time.time) -> None:
        self._live = live
        self._wall = wall

    async def __call__(self, call: Call, service: Service) -> Response:
        live = self._live
        if live.open:
            call.caller = LOCAL
            return await service(call)
        if not call.credential:
            raise Unauthorized(
                "You did not send an API key. Send it as: Authorization: Bearer YOUR_KEY", code="missing_api_key"
            )
        shown = digest(call.credential)
        access = live.index.accesses.get(shown)
        # The dictionary is indexed by digests, which a caller cannot steer; the comparison closes the rest.
        if access is None or not hmac.compare_digest(shown, access.key.digest):
            raise self._stranger(shown)
        if access.guarded:
            self._look_again(access)
        call.caller = access.tenant
        call.key = access.key.id
        return await service(call)

    def _look_again(self, access: Access) -> None:
        expires = access.key.expires
        if expires is not None and expires <= self._wall():
            raise Unauthorized(f"This API key expired at {written(expires)}.", code="expired_api_key")
        if not access.tenant.active:
            raise Forbidden("Your access has been disabled.", code="tenant_disabled")

    def _stranger(self, shown: bytes) -> RequestError:
        if shown in self._live.index.revoked:
            return Unauthorized("This API key has been revoked.", code="revoked_api_key")
        return Unauthorized("Incorrect API key provided.", code="invalid_api_key")
