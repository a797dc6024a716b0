"""What litellm's exceptions mean: a status, a body and headers as the cloud sent them, or a break below HTTP.

litellm sorts the errors of all clouds into some twenty classes. The class says best what is meant, and its name decides
(`presets/litellm.yaml`). But statuses change on the way (a 529 becomes a 500) and headers are lost, so those are taken
from the exceptions that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class Told:
    """What an exception says. `kind` is litellm's name for it, `said` the cloud's own error body if there was one;
    `phase` is set when it happened below HTTP."""

    kind: str
    said: str = ""
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    phase: str = ""


def understood(error: BaseException) -> Told:
    """An exception with its causes: litellm's names the meaning, the innermost has what the cloud said."""
    error = getattr(error, "original_exception", None) or error
    kind = type(error).__name__ if type(error).__module__.startswith("litellm") else "InternalServerError"
    causes = list(_causes(error))
    if not any(isinstance(cause, httpx.HTTPStatusError) for cause in causes):
        broken = [cause for cause in causes if isinstance(cause, httpx.TransportError)]
        if broken:
            early = any(isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout) for cause in broken)
            return Told(type(broken[-1]).__name__, phase="connect" if early else "protocol")
    headers: Mapping[str, str] = {}
    found = Told(kind, str(error))
    for cause in causes:
        response = getattr(cause, "response", None)
        headers = getattr(cause, "litellm_response_headers", None) or getattr(response, "headers", None) or headers
        status, said = getattr(cause, "status_code", None), getattr(cause, "message", None)
        if isinstance(status, int) and 400 <= status <= 599:
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
            found = Told(kind, text if isinstance(text, str) else found.said, status)
    return Told(kind, found.said, found.status, {str(name).lower(): str(text) for name, text in headers.items()})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what it came from, and so on; the outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
