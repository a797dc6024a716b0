"""A meter read from outside: when it opens again, how full each limit is, what a replica wants of it."""

from __future__ import annotations

from math import inf

from gateway.core.meter import Meter
from gateway.core.nouns import LIMIT_KINDS, Demand, LimitKind, Room
from gateway.core.window import REQUESTS, TOKENS, Ramp, Window


def opens(meter: Meter, prompt: int, total: int, now: float, *, certain: bool) -> float:
    """The next time at which lapse of time alone can make room; `inf` when it takes an event.

    `certain`: instead, a time before which there will *certainly* be no room, whatever else happens. A share may
    grow at any moment, so it makes nothing certain.
    """
    at = max(meter.cooling_until, now)
    if at == inf:
        return now if certain else inf
    meter.settled(now)
    if meter.full(total) and not certain:
        at = max(at, meter.turn)
    for window in meter.windows:
        if not (certain and window.partial):
            at = max(at, _window_opens(window, meter, prompt, total, now, certain=certain))
    return at


def _window_opens(window: Window | Ramp, meter: Meter, prompt: int, total: int, now: float, *, certain: bool) -> float:
    if window.counts == REQUESTS:
        if now >= window.turn:
            window.roll(now)
        hopeless = window.limit < 1 and not (window.used and isinstance(window, Ramp))
        return inf if hopeless else window.earliest(1, now)
    if certain and meter.in_flight:
        return now
    need: float = total if window.counts == TOKENS else prompt
    if window.partial and need > window.limit:
        return inf
    if window.counts == TOKENS:
        need = min(total, window.limit) + meter.reserved
        if meter.reserved and need > window.limit:
            return now if certain else inf
    return window.earliest(need, now)


def rooms(meter: Meter, now: float) -> tuple[Room, ...]:
    """Every limit that holds and how much of it is used."""
    cap, bounds = meter.settled(now), meter.bounds
    found = []
    for kind in LIMIT_KINDS:
        if kind == "streams":
            if cap < inf:
                source = bounds.source(kind) if cap == bounds.limit(kind) else "learned"
                found.append(Room(kind, meter.in_flight, cap, _whole(meter, kind), source))
        elif kind in meter.by_kind and meter.by_kind[kind].limit < inf:
            window = meter.by_kind[kind]
            source = bounds.source(kind)
            found.append(Room(kind, used(meter, kind, now), window.limit, _whole(meter, kind), source))
    return tuple(found)


def whole_of(meter: Meter, kind: LimitKind) -> float | None:
    """The account's limit, whoever uses it, with what was learnt of streams; None: there is none, or none is known."""
    whole, learner = meter.bounds.whole(kind), meter.learner
    if kind != "streams" or learner is None or learner.whole == inf:
        return whole
    return learner.whole if whole is None else min(whole, learner.whole)


def _whole(meter: Meter, kind: LimitKind) -> float | None:
    return None if meter.bounds.part(kind) is None else whole_of(meter, kind)


def used(meter: Meter, kind: LimitKind, now: float) -> float:
    """How much of a kind is used: in flight for streams, else the window's filling and what is reserved."""
    if kind == "streams":
        return meter.occupied()
    window = meter.by_kind.get(kind)
    if window is None:
        return 0
    if now >= window.turn:
        window.roll(now)
    return window.used + meter.reserved if window.counts == TOKENS else window.used


Waits = tuple[int, int, int]
"""Requests that wait, their prompt tokens, and all their expected tokens."""


def demand(meter: Meter, waits: Waits, now: float) -> Demand:
    """What is used of every kind that has a limit, and what is wanted when so much waits for it."""
    requests, prompt, total = waits
    more: dict[LimitKind, int] = {
        "streams": requests, "rpm": requests, "rps": requests, "ramp": requests, "tpm": total, "tps": prompt,
    }  # fmt: skip
    meter.settled(now)
    now_used = {kind: used(meter, kind, now) for kind in LIMIT_KINDS if kind == "streams" or kind in meter.by_kind}
    return Demand(now_used, {kind: amount + more[kind] for kind, amount in now_used.items()})


def prospect(meter: Meter) -> float:
    """The streams that somebody who waits may hope for: a limit that is still growing says nothing yet."""
    learner = meter.learner
    if learner is None:
        return meter.cap
    declared = meter.bounds.limit("streams")
    most = inf if declared is None else declared
    return most if learner.ceiling == inf else min(most, learner.limit)
