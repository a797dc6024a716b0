"""A second attempt beside a first one that is slow to its first token: when, where, at what cost, and which counts.

A hedge buys a short tail with capacity, so it is made only where capacity is idle, and only as much as was earned:

- *when*: a streamed request has waited for its first token for as long as its policy says, or as this backend is
  slow (`Latency.slow`: its own 95th percentile). Once per request, within the policy's attempts. A request by which a
  breaker or a refused key is being tried is not hedged: somebody has to wait for that answer.
- *where*: a *cold* backend (Prequal's word: less than `HOT` of its fullest limit in use) that is well, in the order of
  the tiers; and not while the fleet is hot, or anybody waits for it.
- *cost*: hedges take at most a share of the tokens that the policy sends (`Allowance`). What counts is what is
  reserved for them, prompt and answer, although the loser mostly costs its prefill: so a share of 2 % also bounds the
  requests that are sent twice.
- *which counts*: the first that brings a meaningful token. From then on the other can only end. Until then either may
  fail, and the request goes on with the one that is left; the last to fail decides what next.

After Dean and Barroso, "The Tail at Scale" (2013): hedge after the 95th percentile, with a bounded share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.choose import HOT, Need, Seat, load
from gateway.core.nouns import Outcome, Served
from gateway.core.waiting import Ticket

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from gateway.core.meter import Meter

LEAST_AFTER = 0.1
"""Nobody is asked twice sooner than after so many seconds, unless the policy says so."""


class Race:
    """Two tickets of one request. `live` is how many of the two run, `winner` whose first token came first."""

    __slots__ = ("first", "live", "twin", "winner")

    def __init__(self, first: Ticket, twin: Ticket) -> None:
        self.first = first
        self.twin = twin
        self.live = 2
        self.winner: Ticket | None = None

    def __repr__(self) -> str:
        return f"<Race of {self.first.request.id}: {self.live} run>"

    def begun(self, ticket: Ticket) -> bool:
        """A first token arrived. True when it is the hedge's, and the first of all."""
        if not self.live or self.winner is not None:
            return False
        self.winner = ticket
        return ticket is self.twin

    def ended(self, ticket: Ticket, outcome: Outcome) -> bool:
        """One of them is over. True when the request's fate hangs on it alone: neither won, nor does the other run."""
        if not self.live:
            return True
        self.live -= 1
        if self.winner is None and isinstance(outcome, Served):
            self.winner = ticket
        if self.winner is not None:
            return False
        if not self.live:
            return True
        other = self.first if ticket is self.twin else self.twin
        other.attempt = max(other.attempt, ticket.attempt)
        other.shy += tuple(s for s in ticket.shy if s not in other.shy)
        other.barred += tuple(s for s in ticket.barred if s not in other.barred)
        return False


def racing(running: Iterable[Ticket]) -> int:
    """How many of those that run are second to another that runs for the same request."""
    return sum(ticket.race is not None and ticket.race.live == 2 for ticket in running) // 2


def due(ticket: Ticket) -> float | None:
    """When a second attempt would be worth it, if there is no first token before; None: never."""
    rules = ticket.route.policy.hedge
    if rules is None or not rules.budget or not _open(ticket):
        return None
    after = rules.after
    if after is None:
        standing = ticket.seat.standing
        slow = standing.latency.slow()
        if slow is None:
            return None
        # A prompt much longer than usual takes longer anywhere.
        after = max(slow, standing.latency.FACTOR * standing.floor.expected(ticket.prompt), LEAST_AFTER)
    return ticket.lease.granted + after


def _open(ticket: Ticket) -> bool:
    """May this attempt have a second one beside it at all?"""
    return (
        ticket.request.stream
        and ticket.race is None
        and not ticket.begun
        and not (ticket.probe or ticket.trial)
        and ticket.attempt < ticket.route.policy.retry.attempts
        and len(ticket.path.seats) > 1
    )


def second(ticket: Ticket, now: float, rng: Random) -> tuple[Ticket, Seat] | None:
    """A ticket for the second attempt, paid for, and the seat that it may take; None: not now."""
    allowance = ticket.route.allowance
    if allowance is None or not _open(ticket) or use(ticket.path.seats, ticket, now) > HOT:
        return None
    seat = _cold_seat(ticket, now, rng)
    if seat is None or not allowance.withdraw(ticket.total, now):
        return None
    return _twin(ticket), seat


def _cold_seat(ticket: Ticket, now: float, rng: Random) -> Seat | None:
    avoid = (*ticket.shy, ticket.seat.standing)
    for step in ticket.path.steps:
        cold = tuple(s for s in step.seats if s.standing not in avoid and is_cold(s, ticket, now))
        if cold:
            return step.pick(cold, ticket, now, rng, ())
    return None


def is_cold(seat: Seat, need: Need, now: float) -> bool:
    """Has it room to spare, and is it well? Nothing is tried out with a hedge."""
    return load(seat, need, now) < HOT and seat.standing.breaker.state == "closed" and not seat.meter.on_trial


def use(seats: tuple[Seat, ...], need: Need, now: float) -> float:
    """How much of a fleet is used: streams in flight, as a share of what each account's fullest limit lets it bear.

    What is out bears nothing. An account without any limit in sight makes the rest insignificant.
    """
    flying: dict[Meter, int] = {}
    bears = 0.0
    for seat in seats:
        meter = seat.meter
        if meter in flying or meter.cooling_until > now or seat.standing.out_until(seat.model) > now:
            continue
        flying[meter] = meter.occupied()
        filling = min(meter.load(need.prompt, need.total, now), 1.0)
        bears += flying[meter] / filling if filling else meter.cap
    return sum(flying.values()) / bears if bears else 0.0


def _twin(ticket: Ticket) -> Ticket:
    twin = Ticket(ticket.request, ticket.route, ticket.path, ticket.prompt, ticket.answer)
    twin.key, twin.seq, twin.budget, twin.share = ticket.key, ticket.seq, ticket.budget, ticket.share
    twin.attempt, twin.waited = ticket.attempt, ticket.waited
    twin.shy, twin.barred = ticket.shy, ticket.barred
    twin.race = ticket.race = Race(ticket, twin)
    return twin
