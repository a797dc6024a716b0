"""OpenAI's error envelope: what every refusal of ours looks like on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import RequestError

_encode = msgspec.json.encode


def envelope(message: str, type_: str, code: str | None, param: str | None, extra: Mapping[str, Any]) -> bytes:
    """The body: `{"error": {message, type, param, code, …extra}}`."""
    return _encode({"error": {"message": message, "type": type_, "param": param, "code": code, **extra}})


def encode_error(error: RequestError) -> bytes:
    """With `retry_after` beside its details, in whole seconds like the header."""
    extra = error.details if error.retry_after is None else {**error.details, "retry_after": _whole(error.retry_after)}
    return envelope(error.message, error.kind, error.code, error.param, extra)


def retry_after(seconds: float) -> bytes:
    """A Retry-After header value: whole seconds, rounded up, at least one."""
    return b"%d" % _whole(seconds)


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
