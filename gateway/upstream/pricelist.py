"""List prices from the map that the litellm package carries, read as data: litellm itself is never imported.

The file is found through the import system's finder and parsed when the first price is asked for. Without litellm
nothing has a list price. All prices there are in US dollars per token. What it has by the hour is taken over; what it
has by the length of the prompt is not (its first step stands for all). An entry that is free is not believed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import msgspec

from gateway.core.nouns import Price
from gateway.core.tariff import DAY, Hours, Tariff
from gateway.upstream import presets

FILE = "model_prices_and_context_window_backup.json"
_MILLION = Decimal(10**6)
log = logging.getLogger("spillgate.prices")


class _Window(msgspec.Struct):
    hours_utc: str | list[str] = []
    weekdays: list[int] = []


class _OffPeak(msgspec.Struct):
    input_cost_per_token: Decimal | None = None
    output_cost_per_token: Decimal | None = None
    cache_read_input_token_cost: Decimal | None = None
    hours_utc: str | list[str] = []
    windows: list[_Window] = []
    weekday_timezone: str = "UTC"


class _Entry(msgspec.Struct):
    input_cost_per_token: Decimal | None = None
    output_cost_per_token: Decimal | None = None
    cache_read_input_token_cost: Decimal | None = None
    off_peak_pricing: _OffPeak | None = None


class PriceList:
    """The list in one installed package. Callable as `policy.prices.PriceList`."""

    def __init__(self, package: str = "litellm") -> None:
        self._package = package
        self._entries: Mapping[str, msgspec.Raw] | None = None

    def __call__(self, prefix: str, model: str) -> Tariff | None:
        """The list price of a model of one provider, None when it has none."""
        if self._entries is None:
            self._entries = self._read()
        raw = self._entries.get(f"{prefix}/{model}")
        if raw is None:
            return None
        try:
            return _tariff(msgspec.json.decode(raw, type=_Entry, strict=False))
        except (msgspec.MsgspecError, ValueError, KeyError) as error:
            log.warning("the list price of %s/%s is not understood: %s", prefix, model, error)
            return None

    def _read(self) -> Mapping[str, msgspec.Raw]:
        """What the list has of providers that a preset names, each entry as the bytes it is written in."""
        prefixes = {info.price_prefix for info in presets.infos().values()}
        spec = find_spec(self._package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            try:
                found = msgspec.json.decode((Path(folder) / FILE).read_bytes(), type=dict[str, msgspec.Raw])
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("the price list cannot be read: %s", error)
            else:
                return {key: raw.copy() for key, raw in found.items() if key.partition("/")[0] in prefixes}
        return {}


find = PriceList()
"""The list that litellm carries."""


def _tariff(entry: _Entry) -> Tariff | None:
    base = _price(entry.input_cost_per_token, entry.output_cost_per_token, entry.cache_read_input_token_cost)
    off = entry.off_peak_pricing
    if base is None or off is None:
        return None if base is None else Tariff(base, east=0)
    low = _price(off.input_cost_per_token, off.output_cost_per_token, off.cache_read_input_token_cost)
    if low is None:
        return Tariff(base, east=0)
    east = {"UTC": 0, "Asia/Shanghai": 480}[off.weekday_timezone]
    windows = off.windows or [_Window(off.hours_utc)]
    return Tariff(base, tuple(_hours(window, low, east) for window in windows), east)


def _price(fresh: Decimal | None, output: Decimal | None, cached: Decimal | None) -> Price | None:
    if not fresh and not output:
        return None
    hit = None if cached is None else float(cached * _MILLION)
    return Price(float((fresh or 0) * _MILLION), float((output or 0) * _MILLION), hit, "USD")


def _hours(window: _Window, price: Price, east: int) -> Hours:
    """The window by the clock of `east`, cut at midnight: there the weekday is that of the moment itself."""
    texts = [window.hours_utc] if isinstance(window.hours_utc, str) else window.hours_utc
    spans: list[tuple[int, int]] = []
    for text in texts:
        start, end = (int(part[:2]) * 60 + int(part[3:]) + east for part in text.split("-"))
        start, end = start % DAY, end % DAY or DAY
        spans += [(start, end)] if start < end else [(start, DAY), (0, end)]
    days = frozenset(day - 1 for day in window.weekdays) or frozenset(range(7))
    return Hours(price, tuple(span for span in spans if span[0] < span[1]), days)
