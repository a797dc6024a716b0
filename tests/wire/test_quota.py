"""Limits in response headers, in OpenAI's form."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.quota import duration, headers


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-1.0, b"0ms"), (0.0, b"0ms"), (0.0121, b"13ms"), (1.0, b"1s"), (1.5, b"1.5s"), (59.9999, b"1m0s"),
        (360.0, b"6m0s"), (3723.25, b"1h2m3.25s"), (3600.0, b"1h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(seconds: float, written: bytes) -> None:
    assert duration(seconds) == written


@given(st.floats(0, 10**6))
def test_who_waits_so_long_has_waited_enough(seconds: float) -> None:
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?([\d.]+)s|(\d+)ms", duration(seconds).decode())
    assert found is not None
    hours, minutes, rest, ms = (float(group or 0) for group in found.groups())
    told = hours * 3600 + minutes * 60 + rest + ms / 1000
    assert seconds - 1e-6 <= told <= seconds + 0.0011


def test_the_three_headers() -> None:
    assert headers(b"requests", 60, 59, 60.0) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
    ]
