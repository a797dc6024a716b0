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
    return envelope(error.message, error.kind, error.code, error.param, error.details)


def retry_after(seconds: float) -> bytes:
    """A Retry-After header value: whole seconds, rounded up, at least one."""
    return str(max(1, math.ceil(seconds))).encode()
