"""uvicorn's HTTP protocol, which tells a waiting call at once when its client has gone.

Plain ASGI would need a task per request that waits on `receive()`; a callback on the connection costs nothing.
The call finds the connection in its scope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HOOK = "spillgate.connection"


class Protocol(HttpToolsProtocol):
    """One client connection. `on_lost` is called when it closes while a call is being served."""

    on_lost: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[HOOK] = self

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
