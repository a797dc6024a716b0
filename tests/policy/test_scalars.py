"""Amounts with units, and what is none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import scalars


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("20s", 20), ("1.5s", 1.5), ("10m", 600), ("1h", 3600), ("1d", 86400), ("0", 0), ("1_000s", 1000)],
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert scalars.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["20", "s", "-1s", "1 s", "1w", "1e3s", "٣s", "", "1" * 60 + "s", "1__0s"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert scalars.duration(text) is None


@pytest.mark.parametrize(
    ("text", "size"), [("16MiB", 2**24), ("1MB", 10**6), ("1.5kB", 1500), ("10B", 10), ("1024", 1024), ("2GiB", 2**31)]
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert scalars.size(text) == size


@pytest.mark.parametrize("text", ["16mib", "MiB", "1TB", "1 MB", "1.5", "9" * 50])
def test_what_is_no_size_is_none(text: str) -> None:
    assert scalars.size(text) is None


@pytest.mark.parametrize(
    ("text", "count"), [("600", 600), ("1_200_000", 1_200_000), ("15k", 15_000), ("1.2M", 1_200_000), ("-3", -3)]
)
def test_counts_are_whole(text: str, count: int) -> None:
    assert scalars.count(text) == count


@pytest.mark.parametrize("text", ["0.5", "1.2345k", "many", "1G", "1e3", "_1", "1_", ""])
def test_what_is_no_count_is_none(text: str) -> None:
    assert scalars.count(text) is None


@pytest.mark.parametrize(("text", "number"), [("0.1", 0.1), ("3", 3), ("1e-3", 0.001), ("-2.5", -2.5), ("1_0.5", 10.5)])
def test_numbers_may_have_a_point(text: str, number: float) -> None:
    assert scalars.number(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["nan", "inf", ".5", "1.", "0x10", "1e400", "9" * 41])
def test_what_is_no_number_is_none(text: str) -> None:
    assert scalars.number(text) is None


@given(st.text(max_size=50))
def test_any_text_is_a_value_or_none_and_editors_agree(text: str) -> None:
    for kind, read in {"duration": scalars.duration, "count": scalars.count, "float": scalars.number}.items():
        if read(text) is not None and text != "0":
            assert re.search(scalars.PATTERN[kind], text)
    scalars.size(text)
