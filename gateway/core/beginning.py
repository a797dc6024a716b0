"""An attempt begins: what it takes from the account, what the backend is told, and the lease that says so."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gateway.core.nouns import Lease

if TYPE_CHECKING:
    from gateway.core.choose import Seat
    from gateway.core.waiting import Ticket


def begin(ticket: Ticket, seat: Seat, number: int, now: float) -> Lease:
    """Send the ticket to a seat that has room for it."""
    standing, meter, route = seat.standing, seat.meter, ticket.route
    ticket.seat = seat
    ticket.attempt += 1
    answer = ticket.unspent = ticket.answer
    ticket.flowed = 0
    if standing.blocked_until:
        ticket.probe = standing.enter(now, streamed=ticket.request.stream)
    if meter.cooling_until:
        ticket.trial = meter.enter(now)
    meter.take(ticket.prompt, answer, now)
    standing.in_flight += 1
    tally = standing.tally
    tally.granted += 1
    if ticket.race is None or not ticket.race.live:
        if seat.tier or (ticket.shy and standing not in ticket.shy):
            tally.spilled_in += 1
        if route.allowance is not None:
            route.allowance.deposit(ticket.total, now)
    lease = ticket.lease = Lease(
        number, ticket.request, standing.name, meter.name, seat.model_id, route.policy.name,
        seat.tier, ticket.attempt, now, ticket.total, seat.price,
    )  # fmt: skip
    if meter.learner is None:
        meter.held += ticket.total
    else:
        due = standing.first_due(ticket.prompt, now) if ticket.request.stream else inf
        meter.watch(number, ticket.total, due, ticket.request.stream, now)
    if ticket.marks and route.homes is not None:
        route.homes.learn(ticket.marks, standing.name, ticket.homing, now)
    return lease
