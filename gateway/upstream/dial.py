"""From a compiled connection to a client that can be called, and the dialect of its cloud."""

from __future__ import annotations

import ssl

from gateway.policy.compiled import Connection
from gateway.upstream import presets
from gateway.upstream.base import Upstream
from gateway.upstream.http import Endpoint, HttpUpstream
from gateway.upstream.litellm import SHARED, LitellmUpstream, Target
from gateway.wire.dialect import Dialect


class Dialler:
    """Makes the client and the dialect of a backend. Needs a running event loop."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    def __call__(self, connection: Connection, connect_timeout: float) -> tuple[Upstream, Dialect]:
        preset = presets.load(connection.preset)
        if connection.driver == "litellm":
            target = Target(connection.base_url, connection.key, connection.headers, connect_timeout)
            return LitellmUpstream(target, SHARED), preset.dialect
        secret = {preset.auth_header: f"{preset.auth_scheme} {connection.key}".strip()} if connection.key else {}
        endpoint = Endpoint(
            url=connection.base_url.rstrip("/") + preset.chat_path,
            headers=connection.headers,
            secret_headers=secret,
            connect_timeout=connect_timeout,
        )
        return HttpUpstream(endpoint, self._shared_tls), preset.dialect

    def _shared_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
