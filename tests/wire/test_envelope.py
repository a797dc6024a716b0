from __future__ import annotations

import json

from gateway.errors import LimitReached
from gateway.wire.envelope import encode_error, retry_after


def test_an_error_is_openais_envelope_with_our_details_in_it() -> None:
    error = LimitReached("too fast", code="tenant_rpm_exceeded", param=None, retry_after=2.1, details={"limit": "rpm"})
    assert json.loads(encode_error(error)) == {
        "error": {
            "message": "too fast",
            "type": "rate_limit_error",
            "param": None,
            "code": "tenant_rpm_exceeded",
            "limit": "rpm",
            "retry_after": 3,
        }
    }


def test_retry_after_is_whole_seconds_rounded_up_and_never_zero() -> None:
    assert [retry_after(s) for s in (0.0, 0.2, 1.0, 2.1)] == [b"1", b"1", b"1", b"3"]
