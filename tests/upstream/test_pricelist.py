"""List prices, read as data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.core.nouns import Price
from gateway.core.tariff import Tariff
from gateway.upstream.pricelist import FILE, PriceList, find

PRICED = {"input_cost_per_token": 1.32e-06, "output_cost_per_token": 3.96e-06, "cache_read_input_token_cost": 4.4e-08}
OFF = {"input_cost_per_token": 6.6e-07, "output_cost_per_token": 1.98e-06}
PEAK, LOW = Price(1.32, 3.96, 0.044, "USD"), Price(0.66, 1.98, None, "USD")
FRIDAY = 1_795_737_600.0  # 27 November 2026, 00:00 UTC


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PriceList]:
    """The list as some package carries it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(entries: object) -> PriceList:
        folder = tmp_path / "listing"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text("raise AssertionError('it must not be imported')")
        (folder / FILE).write_text(entries if isinstance(entries, str) else json.dumps(entries))
        return PriceList("listing")

    return put


def test_a_price_is_given_per_million_exactly(listed: Callable[..., PriceList]) -> None:
    find = listed({"deepseek/pro": PRICED, "deepseek-pro": OFF, "elsewhere/pro": PRICED})
    assert find("deepseek", "pro") == Tariff(PEAK, (), 0)
    assert find("deepseek", "other") is None
    assert find("elsewhere", "pro") is None, "no preset names that provider"
    assert "listing" not in sys.modules


def test_off_peak_windows_are_taken_over(listed: Callable[..., PriceList]) -> None:
    windows = [
        {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
        {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
    ]
    find = listed({
        "deepseek/utc": {**PRICED, "off_peak_pricing": {**OFF, "windows": windows}},
        "deepseek/cn": {**PRICED, "off_peak_pricing": {**OFF, "windows": windows, "weekday_timezone": "Asia/Shanghai"}},
        "deepseek/flat": {**PRICED, "off_peak_pricing": {**OFF, "hours_utc": "16:30-00:30"}},
    })  # fmt: skip

    def low(model: str, hours: float) -> bool:
        tariff = find("deepseek", model)
        assert tariff is not None
        price = tariff.at(FRIDAY + hours * 3600)
        assert price in {PEAK, LOW}
        return price == LOW

    assert [low("utc", h) for h in (0.5, 1.0, 9.9, 10.0, 23.9, 24 + 5, 48 + 23, 72 + 5)] == [
        True, False, False, True, True, True, True, False,
    ]  # fmt: skip
    # 16:00 UTC on Friday is Saturday in Shanghai.
    assert [low("cn", h) for h in (5.0, 9.9, 16.0, 24 + 5, 72 + 5)] == [False, False, True, True, False]
    assert [low("flat", h) for h in (0.4, 0.6, 16.4, 16.6)] == [True, False, False, True]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"input_cost_per_token": 0.0, "output_cost_per_token": 0},
        {"input_cost_per_token": "dear"},
        [],
        {**PRICED, "off_peak_pricing": {**OFF, "hours_utc": "now and then"}},
        {**PRICED, "off_peak_pricing": {**OFF, "hours_utc": "00:00-01:00", "weekday_timezone": "Mars"}},
    ],
)
def test_what_is_not_understood_or_free_has_no_price(listed: Callable[..., PriceList], entry: Any) -> None:
    find = listed({"deepseek/x": entry})
    assert find("deepseek", "x") is None


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_list_is_an_empty_one(listed: Callable[..., PriceList], text: str) -> None:
    find = listed(text)
    assert find("deepseek", "x") is None


def test_without_the_package_nothing_has_a_price() -> None:
    assert PriceList("no_such_package_anywhere")("deepseek", "deepseek-v4-pro") is None


def test_the_real_list_knows_what_the_facts_say() -> None:
    tariff = find("deepseek", "deepseek-v4-pro")
    assert tariff is not None
    assert tariff.base.currency == "USD"
    assert tariff.base.output > tariff.base.input > 0


def test_the_real_list_is_read_without_importing_its_package() -> None:
    code = (
        "import sys; from gateway.upstream.pricelist import find; "
        "assert find('deepseek', 'deepseek-v4-pro'); assert 'litellm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
