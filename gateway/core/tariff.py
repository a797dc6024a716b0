"""Prices by the hour: which one holds at a moment, when that changes, and what tokens cost, exactly.

Clouds print their peak hours in one time zone without summer time (Beijing), so a zone is minutes east of UTC here and
nothing depends on a time-zone database. Moments are Unix seconds, handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from gateway.core.nouns import Price, Prices, Usage

DAY = 1440
"""Minutes."""
_THURSDAY = 3
"""1 January 1970, from Monday 0."""
_EPOCH = 719_163
"""The same day as `datetime.date.toordinal()` counts."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Another price at some times of some days.

    `spans` are minutes of the day: from (below 1440) up to, not including, to (at most 1440 later, so that a span may
    cross midnight; it belongs to the day on which it begins). `days` counts from Monday 0; `not_on` are days that do
    not count (public holidays), as ordinals.
    """

    price: Price
    spans: tuple[tuple[int, int], ...]
    days: frozenset[int] = frozenset(range(7))
    not_on: frozenset[int] = frozenset()

    def hold(self, day: int, minute: int) -> bool:
        """Whether they hold at a minute of a day (days since 1970)."""
        return any(
            (start <= minute < end and self._counts(day)) or (minute < end - DAY and self._counts(day - 1))
            for start, end in self.spans
        )

    def _counts(self, day: int) -> bool:
        return (day + _THURSDAY) % 7 in self.days and day + _EPOCH not in self.not_on


@dataclass(frozen=True, slots=True)
class Tariff:
    """What one model costs on one backend. The first of `hours` that holds, else `base`. `east`: minutes from UTC."""

    base: Price
    hours: tuple[Hours, ...] = ()
    east: int = 480

    def at(self, unix: float) -> Price:
        """The price that holds at a moment."""
        day, minute = divmod(int(unix // 60) + self.east, DAY)
        for hours in self.hours:
            if hours.hold(day, minute):
                return hours.price
        return self.base

    def changes_after(self, unix: float) -> float | None:
        """The next moment at which another price may hold; None when the price never changes."""
        minute = int(unix // 60) + self.east
        edges = {edge % DAY for hours in self.hours for span in hours.spans for edge in span}
        if not edges:
            return None
        wait = min((edge - minute - 1) % DAY + 1 for edge in edges)
        return float((minute + wait - self.east) * 60)


Tariffs = Mapping[str, Mapping[str, Tariff]]
"""By backend and that cloud's model id."""


def prices(tariffs: Tariffs, unix: float) -> Prices:
    """What every backend charges at a moment, as a change for the dispatcher."""
    return Prices(
        {backend: {model: tariff.at(unix) for model, tariff in models.items()} for backend, models in tariffs.items()}
    )


def changes_after(tariffs: Tariffs, unix: float) -> float | None:
    """The next moment at which any price may change; None when none ever does."""
    moments = [tariff.changes_after(unix) for models in tariffs.values() for tariff in models.values()]
    return min((moment for moment in moments if moment is not None), default=None)


def cost(price: Price, usage: Usage) -> Decimal:
    """What the tokens cost, in the price's currency. Exact: a price is the decimal number its author wrote."""
    fresh, cached, output = _exact(price)
    hits = min(usage.cached, usage.prompt)
    return ((usage.prompt - hits) * fresh + hits * cached + usage.completion * output).scaleb(-6)


@lru_cache(maxsize=4096)
def _exact(price: Price) -> tuple[Decimal, Decimal, Decimal]:
    cached = price.input if price.cached_input is None else price.cached_input
    return Decimal(repr(price.input)), Decimal(repr(cached)), Decimal(repr(price.output))
