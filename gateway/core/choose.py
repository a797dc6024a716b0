"""Which backend of a tier: among those with room, by the tier's rule.

Every pick takes the seats of a tier in document order, skips those that are out or in `shy` (already tried by this
request), and returns None when none has room. Ties are broken by load, then by fewest in flight, then by chance,
so that equal backends share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from gateway.core.affinity import Homing
from gateway.core.meter import FULL, Meter
from gateway.core.nouns import Choose, Price
from gateway.core.standing import Standing


class Seat:
    """One backend's place in one tier, for one model: direct references, so that choosing looks nothing up."""

    __slots__ = ("input_price", "meter", "model", "model_id", "output_price", "price", "standing", "tier", "weight")

    def __init__(self, standing: Standing, model: str, tier: int, weight: float) -> None:
        self.standing = standing
        self.meter: Meter = standing.meter
        self.model = model
        self.model_id = standing.backend.serves[model]
        self.tier = tier
        self.weight = weight
        self.charge(standing.backend.price)

    def charge(self, price: Price | None) -> None:
        """Cost so much from now on; what has no price is the dearest."""
        self.price = price
        self.input_price = price.input if price else FULL
        self.output_price = price.output if price else FULL

    def __repr__(self) -> str:
        return f"<Seat {self.standing.name} in tier {self.tier}>"


def in_one_currency(seats: tuple[Seat, ...]) -> None:
    """Compare only what can be compared: a price in another currency than most of a tier's counts as the dearest."""
    currencies = Counter(seat.price.currency for seat in seats if seat.price)
    if len(currencies) > 1:
        usual = currencies.most_common(1)[0][0]
        for seat in seats:
            if seat.price and seat.price.currency != usual:
                seat.input_price = seat.output_price = FULL


class Need(Protocol):
    """What choosing must know of a request, in tokens; `total` = prompt + expected answer. `marks` are hashes of ever
    longer beginnings of its prompt, `homing` is told by `affinity`."""

    prompt: int
    answer: int
    total: int
    marks: tuple[int, ...]
    homing: Homing


class Chance(Protocol):
    """All the chance that choosing needs: a number from 0 up to, not including, 1."""

    def random(self) -> float: ...


HOT = 0.85
"""Use of the fullest limit from which on a backend is hot."""

Shy = tuple[Standing, ...]
Pick = Callable[[tuple[Seat, ...], Need, float, Chance, Shy], Seat | None]


def load(seat: Seat, need: Need, now: float) -> float:
    """The seat's load, or FULL when it is out or has no room for this request."""
    meter = seat.meter
    if meter.cooling_until > now or seat.standing.out_until(seat.model) > now:
        return FULL
    return meter.load(need.prompt, need.total, now)


def least_loaded(seats: tuple[Seat, ...], need: Need, now: float, rng: Chance, shy: Shy) -> Seat | None:
    """The emptiest by the fullest of its limits."""
    best: Seat | None = None
    best_load = FULL
    ties = 1
    prompt, total = need.prompt, need.total
    for seat in seats:
        standing, meter = seat.standing, seat.meter
        if standing.blocked_until > now or meter.cooling_until > now:
            continue
        if (shy and standing in shy) or (standing.missing and standing.out_until(seat.model) > now):
            continue
        seat_load = meter.load(prompt, total, now)
        if seat_load < best_load:
            best, best_load, ties = seat, seat_load, 1
        elif seat_load == best_load and best is not None:
            fewer = best.standing.in_flight - standing.in_flight
            if fewer > 0:
                best, ties = seat, 1
            elif fewer == 0:
                ties += 1
                if rng.random() * ties < 1.0:
                    best = seat
    return best


def price(seat: Seat, need: Need) -> float:
    """What the request is expected to cost there, in millionths of the price's currency; unknown is dearest."""
    return seat.input_price * need.prompt + seat.output_price * need.answer


def _ranked(rank: Callable[[Seat, Need, float], float]) -> Pick:
    def pick(seats: tuple[Seat, ...], need: Need, now: float, rng: Chance, shy: Shy) -> Seat | None:
        best: list[Seat] = []
        best_rank = FULL
        for seat in seats:
            if seat.standing in shy or load(seat, need, now) == FULL:
                continue
            seat_rank = rank(seat, need, now)
            if seat_rank < best_rank:
                best, best_rank = [seat], seat_rank
            elif seat_rank == best_rank:
                best.append(seat)
        return best[0] if len(best) == 1 else least_loaded(tuple(best), need, now, rng, ())

    return pick


def _by_price(seat: Seat, need: Need, _now: float) -> float:
    return price(seat, need)


def fastest(seats: tuple[Seat, ...], need: Need, now: float, rng: Chance, shy: Shy) -> Seat | None:
    """The soonest first token among the *cold*, the cheaper of equals; when all are hot, the least loaded.

    Cold is what has less than `HOT` of its fullest limit in use. Prequal's rule: it beats any sum of load and latency,
    since a backend that is nearly full is about to be slow, whatever it was a moment ago.
    """
    best: list[Seat] = []
    best_rank = (FULL, FULL)
    for seat in seats:
        if seat.standing in shy or load(seat, need, now) >= HOT:
            continue
        rank = (seat.standing.latency.predicted(now), price(seat, need))
        if rank < best_rank:
            best, best_rank = [seat], rank
        elif rank == best_rank:
            best.append(seat)
    if len(best) == 1:
        return best[0]
    return least_loaded(tuple(best), need, now, rng, ()) if best else least_loaded(seats, need, now, rng, shy)


def weighted(seats: tuple[Seat, ...], need: Need, now: float, rng: Chance, shy: Shy) -> Seat | None:
    """By chance in proportion to weight, among those with room. Weight 0: only when nobody else has room."""
    free = [s for s in seats if s.standing not in shy and load(s, need, now) < FULL]
    if len(free) < 2:
        return free[0] if free else None
    mark = rng.random() * sum(s.weight for s in free)
    for seat in free:
        mark -= seat.weight
        if mark < 0:
            return seat
    return free[-1]


PICKS: dict[Choose, Pick] = {
    "least-loaded": least_loaded,
    "fastest": fastest,
    "cheapest": _ranked(_by_price),
    "weighted": weighted,
}


def score(choose: Choose, seat: Seat, need: Need, now: float) -> float:
    """The number that the tier's rule compares (smaller is better), for `explain`."""
    if choose == "fastest":
        return seat.standing.latency.predicted(now)
    if choose == "cheapest":
        return price(seat, need)
    if choose == "weighted":
        return -seat.weight
    return seat.meter.load(need.prompt, need.total, now)
