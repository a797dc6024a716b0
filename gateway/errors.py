"""Every error a client or an operator can meet.

    SpillgateError
    ├── DocumentError            the configuration document is wrong (carries every problem found)
    └── RequestError             becomes an answer in OpenAI's envelope; knows its status, type and code
        ├── BadRequest           400  what was sent cannot be understood
        ├── Unauthorized         401  no key, or one we do not know
        ├── Forbidden            403  the key may not do this
        ├── NotFound             404  no such route or model
        ├── MethodNotAllowed     405
        ├── Conflict             409  it would contradict what is there
        ├── BodyTooLarge         413
        ├── LimitReached         429  a limit of the caller's own; named, with Retry-After
        ├── BudgetSpent          429  the caller's budget is spent; with when it renews
        ├── UpstreamRejected     4xx  a cloud says the request itself is at fault
        ├── NoCapacity           429/503  nowhere to go in time; named, with Retry-After
        ├── Draining             503  this gateway is being stopped; with Retry-After
        ├── NotPossible          501  this gateway was not set up for it
        ├── UpstreamFailed       502  every attempt broke
        ├── StoreAway            503  the shared state is out of reach
        └── UpstreamTimeout      504  a named time-out ran out

Expected answers (refused, wait, retry) are values in `core`; they become one of these only at the edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar


def near_miss(word: str, names: Iterable[str]) -> str | None:
    """The valid name that somebody probably meant, whatever its case; None when none is near. For messages."""
    lowered = {name.lower(): name for name in names}
    near = get_close_matches(word[:200].lower(), lowered, n=1)
    return lowered[near[0]] if near else None


class SpillgateError(Exception):
    """Root of the tree."""


class DocumentError(SpillgateError):
    """The configuration document is wrong. `problems` (`policy.diagnose.Problem`) are sorted by file and position."""

    def __init__(self, problems: Iterable[Any]) -> None:
        self.problems: tuple[Any, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class RequestError(SpillgateError):
    """An answer in OpenAI's error envelope. `retry_after` is in seconds; `details` is shown to the client."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.http_status = status or self.status
        self.kind = self.type
        self.details = details or {}


class BadRequest(RequestError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(RequestError):
    status = 401
    type = "authentication_error"


class Forbidden(RequestError):
    status = 403
    type = "permission_error"


class NotFound(RequestError):
    status = 404
    type = "invalid_request_error"


class MethodNotAllowed(RequestError):
    status = 405
    type = "invalid_request_error"


class Conflict(RequestError):
    status = 409
    type = "invalid_request_error"


class BodyTooLarge(RequestError):
    status = 413
    type = "invalid_request_error"


class LimitReached(RequestError):
    status = 429
    type = "rate_limit_error"


class BudgetSpent(RequestError):
    status = 429
    type = "insufficient_quota"


class UpstreamRejected(RequestError):
    status = 400
    type = "invalid_request_error"


class NoCapacity(RequestError):
    status = 503
    type = "overloaded_error"


class Draining(RequestError):
    status = 503
    type = "server_error"


class NotPossible(RequestError):
    status = 501
    type = "not_implemented_error"


class StoreAway(RequestError):
    status = 503
    type = "server_error"


class UpstreamFailed(RequestError):
    status = 502
    type = "upstream_error"


class UpstreamTimeout(RequestError):
    status = 504
    type = "timeout_error"
