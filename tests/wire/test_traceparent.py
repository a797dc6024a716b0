"""W3C Trace Context, as the standard's own examples and rules have it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import traceparent

TRACE = b"0af7651916cd43dd8448eb211c80319c"
SPAN = b"b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (b"00-%b-%b-01" % (TRACE, SPAN), True),
        (b"00-%b-%b-00" % (TRACE, SPAN), False),
        (b" 00-%b-%b-03 " % (TRACE, SPAN), True),
        (b"cc-%b-%b-01-what-a-later-version-adds" % (TRACE, SPAN), True),
    ],
)
def test_a_caller_says_which_trace_it_is_in(header: bytes, sampled: bool) -> None:
    assert traceparent.parse(header) == (int(TRACE, 16), int(SPAN, 16), sampled)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00-%b-%b" % (TRACE, SPAN),
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01-more" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-0x" % (TRACE, SPAN),
    ],
)
def test_what_the_standard_says_to_ignore_is_ignored(header: bytes) -> None:
    assert traceparent.parse(header) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_understood(trace: int, span: int, sampled: bool) -> None:
    assert traceparent.parse(traceparent.written(trace, span, sampled).encode()) == (trace, span, sampled)


@pytest.mark.parametrize(
    ("header", "passed_on"),
    [(b" rojo=1,congo=t61 ", "rojo=1,congo=t61"), (b"", ""), (b"a=\x01", ""), (b"a=\xe4", ""), (b"a" * 513, "")],
)
def test_a_state_is_passed_on_unless_it_could_not_be_a_header(header: bytes, passed_on: str) -> None:
    assert traceparent.state(header) == passed_on
