"""How hard a model is pressed, in one number, and what follows from it for those who come and those who wait.

*Pressure* is of a model and a class, since conditions may keep a class from some backends. While nobody has to wait it
is the use of what the backends that a plain request of the class may use can take now: the use of each account's
fullest limit (declared, learnt, or this replica's share; ramps left out), averaged over the accounts by the streams
they may have. What takes nothing (a pause, an open breaker) is left out, and with nobody left all is full; an account
without any limit makes the pressure 0. When a newcomer would have to wait it is 1 + his expected wait ÷ `max_wait`.

It is reckoned anew at most every `TICK` seconds, and only for models whose policy has a ladder, or when asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf

from gateway.core.choose import Seat
from gateway.core.fair import CLASSES, Share
from gateway.core.fleet import Fleet, Path, Route
from gateway.core.gauges import rooms
from gateway.core.ladder import FULL_FORM, Form, form_at, height
from gateway.core.meter import Meter
from gateway.core.nouns import Request, ServiceClass
from gateway.core.patience import Patience
from gateway.core.waiting import Place, Ticket, Waiting

TICK = 0.25
MOST_MODELS = 100
_PLAIN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PressureView:
    """`rung`: the `at` of the highest rung that holds, 0 for none. `wait`: what a newcomer is expected to wait."""

    model: str
    class_: ServiceClass
    pressure: float
    rung: float
    wait: float | None


def fullness(meter: Meter, now: float) -> float | None:
    """The use of an account's fullest limit, 0 to 1; None when it has no limit at all."""
    found = [_part(room.used, room.limit) for room in rooms(meter, now) if room.kind != "ramp"]
    if meter.token_cap < inf:
        found.append(_part(meter.held, meter.token_cap))
    return max(found, default=None)


def filling(path: Path, now: float) -> float:
    """How much of what a path's accounts can take is in use, 0 to 1. With nobody fit to be asked it is full."""
    fit = {seat.meter: None for seat in path.seats if _takes(seat, now)}
    found = [(meter, fullness(meter, now)) for meter in fit]
    if any(full is None for _, full in found):
        return 0.0
    caps = [meter.cap for meter, _ in found if meter.cap < inf]
    usual = sum(caps) / len(caps) if caps else 1.0
    whole = used = 0.0
    for meter, full in found:
        weight = meter.cap if meter.cap < inf else usual
        whole += weight
        used += weight * (full or 0.0)
    return used / whole if whole else 1.0


def _takes(seat: Seat, now: float) -> bool:
    return seat.meter.cooling_until <= now and seat.standing.out_until(seat.model) <= now


def _part(used: float, limit: float) -> float:
    return min(1.0, used / limit) if limit > 0 else 1.0


class _Mark:
    """Which rung held at `at`."""

    __slots__ = ("at", "form", "height", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.at = -inf
        self.height = 0.0
        self.form = FULL_FORM


class Outlook:
    """What the dispatcher can tell of pressure and waiting. Changes nothing but its own marks."""

    __slots__ = ("_fleet", "_marks", "_patience", "_tickets", "_waiting")

    def __init__(self, fleet: Fleet, waiting: Waiting, patience: Patience, tickets: Mapping[Request, Ticket]) -> None:
        self._fleet = fleet
        self._waiting = waiting
        self._patience = patience
        self._tickets = tickets
        self._marks: dict[tuple[str, ServiceClass], _Mark] = {}

    def form(self, model: str, class_: ServiceClass, now: float) -> Form:
        """What a request of this class that comes now must give up. One that waits or runs keeps what it came with."""
        route = self._fleet.routes.get(model)
        if route is None or not route.policy.ladder:
            return FULL_FORM
        mark = self._marks.get((route.model, class_))
        if mark is None or mark.route is not route:
            routes = self._fleet.routes
            self._marks = {key: found for key, found in self._marks.items() if routes.get(key[0]) is found.route}
            mark = self._marks[route.model, class_] = _Mark(route)
        if now >= mark.at + TICK:
            ladder = route.policy.ladder
            mark.at = now
            mark.height = height(ladder, self._reckon(route, class_, now)[0], mark.height)
            mark.form = form_at(ladder, class_, mark.height)
        return mark.form

    def place(self, request: Request, now: float) -> tuple[int, float | None] | None:
        """How many go before a request that waits, and for how many seconds it will, if that can be told."""
        ticket = self._tickets.get(request)
        if ticket is None:
            return None
        place = self._waiting.place(ticket)
        return place.ahead, self._patience.wait(ticket, place, now)

    def pressures(self, now: float) -> tuple[PressureView, ...]:
        """Of each model and class; of the first `MOST_MODELS` models only, since it is told while requests wait."""
        found: list[PressureView] = []
        for model in islice(self._fleet.plan.models, MOST_MODELS):
            route = self._fleet.routes[model]
            for class_ in CLASSES:
                pressure, wait = self._reckon(route, class_, now)
                mark = self._marks.get((model, class_))
                rung = mark.height if mark is not None and mark.route is route else 0.0
                found.append(PressureView(model, class_, pressure, rung, wait))
        return tuple(found)

    def _reckon(self, route: Route, class_: ServiceClass, now: float) -> tuple[float, float | None]:
        """The pressure, and the seconds that a newcomer would wait; None when that cannot be told."""
        request = Request("plain", "", route.model, class_, _PLAIN_BYTES, None, True, now)
        path = route.path_for(request)
        if not self._waiting.busy(path.key, class_):
            return filling(path, now), 0.0
        rank = CLASSES.index(class_)
        ahead = sum(t.key == path.key and t.share.band.rank <= rank for t in self._tickets.values())
        estimate = route.estimate
        newcomer = Ticket(request, route, path, estimate.prompt(request), estimate.answer(request))
        newcomer.share = Share("", route.pool.bands[rank])
        wait = self._patience.wait(newcomer, Place(ahead, 0), now)
        return 1.0 + (wait or 0.0) / max(route.policy.queue.max_wait, TICK), wait
