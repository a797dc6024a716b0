"""Why a request would go where it goes. Looks at everything, changes nothing, and calls on no chance.

It asks the same picks that `offer` uses. Where those would toss a coin, it names the first of the equals; for
`weighted` the likeliest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from gateway.core.choose import Need, Seat, load, score
from gateway.core.fleet import Path, Route
from gateway.core.gauges import rooms
from gateway.core.meter import FULL
from gateway.core.nouns import Price, Refuse, RefuseReason, Request, Room, Tier
from gateway.core.patience import retry_after
from gateway.core.waiting import Ticket

_PRIVATE = frozenset({"auth", "quota"})
"""Reasons of a pause that are ours to know."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One line of `explain`: would this backend take the request now, and if not, why not."""

    backend: str
    tier: int
    eligible: bool
    has_room: bool
    why_not: tuple[str, ...]
    room: tuple[Room, ...]
    score: float
    chosen: bool = False
    price: Price | None = None
    home: bool = False
    """whether the prompt's beginning is known there, or would be looked for there first"""


class _FirstOfEquals:
    """A coin that never prefers a later one."""

    def random(self) -> float:
        return 1.0 - 2.0**-53


def explain(route: Route, request: Request, now: float, busy: bool) -> tuple[Candidate, ...]:
    """One line per backend of every tier. `busy`: others wait for the same backends, so this one would too."""
    estimate = route.estimate
    path = route.path_for(request)
    need = Ticket(request, route, path, estimate.prompt(request), estimate.answer(request))
    chosen = None if busy else _choice(route, path, need, now)
    own = set(path.seats)
    lines = []
    for place, tier in enumerate(route.policy.tiers):
        seats = {seat.standing.name: seat for seat in route.seats(place)}
        met = tier.when is None or tier.when(request)
        homes = _homes(route, request, tier, tuple(seat for seat in seats.values() if seat in own))
        for name in tier.backends:
            seat = seats.get(name)
            price = seat.price if seat else None
            why = _not_eligible(seat, tier, met, own)
            if seat is None or why:
                room = rooms(seat.meter, now) if seat else ()
                lines.append(Candidate(name, place, False, False, why, room, inf, price=price))
                continue
            full = reasons(seat, need, now)
            if busy:
                full = (*full, "others wait for it")
            has_room = load(seat, need, now) < FULL
            home = name in homes
            if home and has_room and chosen is not None and chosen.tier == place and chosen.standing.name not in homes:
                full = (*full, "home, but carries more than its part of the load")
            mark = score(tier.choose, seat, need, now)
            room = rooms(seat.meter, now)
            lines.append(Candidate(name, place, True, has_room, full, room, mark, seat is chosen, price, home))
    return tuple(lines)


def reasons(seat: Seat, need: Need, now: float) -> tuple[str, ...]:
    """What keeps this request from this seat now; empty when it has room."""
    standing, meter = seat.standing, seat.meter
    why = []
    if meter.cooling_until > now:
        left = "" if meter.cooling_until == inf else f" for {meter.cooling_until - now:.1f} s"
        why.append(f"account cooling after {meter.cooling_reason}{left}")
    if standing.blocked_until > now:
        state = standing.breaker.seen(now)
        why.append("resting after overload" if state == "closed" else f"breaker {state}")
    if standing.missing.get(seat.model, 0.0) > now:
        why.append("does not know the model")
    meter.load(need.prompt, need.total, now)
    for room in rooms(meter, now):
        amount = {"tpm": need.total, "tps": need.prompt}.get(room.kind, 1)
        used = meter.occupied() if room.kind == "streams" else room.used
        if (used > 0 or room.whole is not None) and used + amount > room.limit:
            share = f", a share of {room.whole:g}" if room.whole is not None else ""
            learner = meter.learner
            ours = learner is not None and (room.source == "learned" or room.whole == learner.whole)
            learnt = f", learnt: {learner.why}" if learner is not None and ours and room.kind == "streams" else ""
            why.append(f"{room.kind} {used:g} of {room.limit:g}{share}{learnt}")
    return tuple(why)


def refusal(reason: RefuseReason, ticket: Ticket, wait: float | None, now: float) -> Refuse:
    """No, with all that can be said about it. `wait`: the seconds it would have to wait, as far as known."""
    full, ill = what_is_full(ticket.path, ticket, now)
    return Refuse(reason, retry_after(wait, ticket.route.policy.queue.max_wait), full, ill, wait)


def what_is_full(path: Path, need: Need, now: float) -> tuple[str, bool]:
    """What had no room, in a few words for the client; and whether instead every backend is out for its own reasons.

    What a cloud says of our keys and bills is nobody else's business: such a backend is just unavailable.
    """
    parts: list[str] = []
    ill = bool(path.seats)
    for seat in path.seats:
        private = seat.meter.cooling_until > now and seat.meter.cooling_reason in _PRIVATE
        sick = private or seat.standing.out_until(seat.model) > now
        why = reasons(seat, need, now)
        ill = ill and sick
        if why:
            parts.append(f"{seat.standing.name}: {'unavailable' if private else why[0]}")
    return "; ".join(parts[:3] + ["…"] * (len(parts) > 3)), ill


def _homes(route: Route, request: Request, tier: Tier, seats: tuple[Seat, ...]) -> frozenset[str]:
    if route.homes is None or not seats:
        return frozenset()
    return route.homes.names(request.affinity, seats, hashed=tier.choose == "least-loaded")


def _choice(route: Route, path: Path, need: Need, now: float) -> Seat | None:
    for step in path.steps:
        free = [seat for seat in step.seats if load(seat, need, now) < FULL]
        if free and route.policy.tiers[free[0].tier].choose == "weighted":
            return max(free, key=lambda seat: seat.weight)
        if free:
            return step.pick(step.seats, need, now, _FirstOfEquals(), ())
    return None


def _not_eligible(seat: Seat | None, tier: Tier, met: bool, own: set[Seat]) -> tuple[str, ...]:
    if seat is None:
        return ("does not serve the model",)
    if not met:
        return (f"condition not met: {tier.when_text}",)
    return () if seat in own else ("named in a tier above",)
