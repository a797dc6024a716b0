"""Tells the dispatcher what the clouds charge, at every full hour at which that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.nouns import Prices
from gateway.core.tariff import Tariffs, changes_after, prices
from gateway.pipeline.desk import Desk

LONGEST = 60.0
"""The wall clock may be set, and a machine may sleep: look again after so many seconds at the latest."""
_SOONEST = 0.05


class PriceClock:
    """One timer, on the desk's loop. `wall` returns Unix seconds."""

    def __init__(self, desk: Desk, wall: Callable[[], float]) -> None:
        self._desk = desk
        self._wall = wall
        self._tariffs: Tariffs = {}
        self._holds = Prices({})
        self._timer: asyncio.TimerHandle | None = None

    def use(self, tariffs: Tariffs) -> Prices:
        """Go by these from now on. Returns what holds now, to be applied together with the plan it belongs to."""
        self._tariffs = tariffs
        self._holds = prices(tariffs, self._wall())
        self._arm()
        return self._holds

    @property
    def holds(self) -> Prices:
        """What every backend charges now. Another object when that has changed."""
        return self._holds

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.close()
        now = self._wall()
        change = changes_after(self._tariffs, now)
        if change is not None:
            delay = min(max(change - now, _SOONEST), LONGEST)
            self._timer = self._desk.loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        holds = prices(self._tariffs, self._wall())
        if holds != self._holds:
            self._holds = holds
            self._desk.apply(holds)
        self._arm()
