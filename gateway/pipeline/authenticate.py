"""Who asks? Keys are known only by their SHA-256; looking one up takes the same time whoever asks."""

from __future__ import annotations

import hashlib
import hmac

from gateway.core.nouns import Limits
from gateway.errors import Unauthorized
from gateway.pipeline.live import Live
from gateway.policy.compiled import Tenant
from gateway.service import Call, Response, Service

LOCAL = Tenant(name="local", class_="standard", weight=1.0, limits=Limits(), key_hashes=())
"""Whoever calls a gateway without tenants; `serve` lets it listen on loopback only."""


class Authenticate:
    """Sets `call.caller`, or raises `Unauthorized`."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, call: Call, service: Service) -> Response:
        tenants = self._live.tenants
        if not tenants:
            call.caller = LOCAL
            return await service(call)
        if not call.credential:
            raise Unauthorized(
                "You did not send an API key. Send it as: Authorization: Bearer YOUR_KEY", code="missing_api_key"
            )
        digest = hashlib.sha256(call.credential.encode("utf-8", "surrogateescape")).digest()
        tenant = tenants.get(digest)
        # The dictionary is indexed by digests, which a caller cannot steer; the comparison closes the rest.
        if tenant is None or not any(hmac.compare_digest(digest, known) for known in tenant.key_hashes):
            raise Unauthorized("Incorrect API key provided.", code="invalid_api_key")
        call.caller = tenant
        return await service(call)
