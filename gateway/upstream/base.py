"""The seam to the clouds: one method, so that a faster client can take its place.

What every implementation promises (held by `tests/contracts`):
- cancelling `send` before response headers have come closes the connection at once: the cloud's slot is freed;
- `abort` and `aclose` do the same for an answer under way, at any moment, any number of times;
- it never queues: our own queue is the only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol


class UpstreamError(Exception):
    """The attempt broke below HTTP. `phase` is `connect` (nothing was sent) or `protocol` (it broke later)."""

    def __init__(self, phase: str, cause: str) -> None:
        super().__init__(f"{phase}: {cause}")
        self.phase = phase
        self.cause = cause


class Reply(Protocol):
    """An answer whose head has arrived."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def header_names(self) -> AbstractSet[bytes]:
        """The names of all headers, in lower case: cheaper to ask than `headers`."""
        ...

    @property
    def connect(self) -> float:
        """Seconds it took to open a connection; 0.0 when one was reused, or nobody knows."""
        ...

    async def read_any(self) -> bytes:
        """The next bytes; empty at the end. Raises `UpstreamError` when the connection breaks."""
        ...

    async def read_all(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes (more raises `UpstreamError`)."""
        ...

    def at_end(self) -> bool:
        """Whether the whole body has been read."""
        ...

    def abort(self) -> None:
        """Close the connection now. Safe at any time, from a timer too."""
        ...


class Upstream(Protocol):
    """One backend's client."""

    async def send(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Post a chat completion. Raises `UpstreamError`. Cancelling it closes the connection."""
        ...

    async def aclose(self) -> None: ...
