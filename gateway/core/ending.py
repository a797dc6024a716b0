"""How an attempt begins to be answered and how it ends: what each means for the account, the backend, the estimate.

`standing` has the table. Here it is carried out for one ticket; the dispatcher only asks whether to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.meter import LINGER
from gateway.core.nouns import Abandoned, Beaten, Failed, Limited, Outcome, Overloaded, Rejected, Served, Unusable

if TYPE_CHECKING:
    from random import Random

    from gateway.core.waiting import Ticket

RETURN = (1.0, 1.6)
LEAST_RETURN, MOST_RETURN = 1.0, 6.0
"""A backend whose breaker has closed comes back to its whole limit in the time for which it was left alone
last, bounded (seconds), times a factor drawn by chance: replicas and backends must not return as one."""

MOST_LINGER = 30.0
"""Seconds for which the slot of an attempt that was beaten is kept at most."""
LEAST_TRACE = 5.0
"""Seconds for which a first token that is no longer awaited is at least remembered as overdue."""

Broken = Limited | Overloaded | Failed | Unusable | Rejected | Abandoned | Beaten


def started(ticket: Ticket, now: float, rng: Random) -> bool:
    """The first token arrived. True when that made room for others."""
    ticket.begun = True
    standing = ticket.seat.standing
    meter, lease = ticket.seat.meter, ticket.lease
    took = now - lease.granted
    standing.latency.first_token(took, now)
    standing.tally.started += 1
    ticket.told = now
    room = False
    if meter.learner is not None:
        if ticket.request.stream:
            standing.floor.learn(ticket.prompt, took, calm=meter.learner.calm)
        room = meter.heard(lease.id, now)
        ticket.beside = meter.learner.running
    return _accepted(ticket, now, rng) or room


def progressed(ticket: Ticket, tokens: int, now: float) -> None:
    """Tokens came. What they took says how the backend bears its load."""
    reserved = min(tokens, ticket.unspent)
    ticket.unspent -= reserved
    ticket.flowed += tokens
    if tokens > reserved:
        ticket.share.flowed(ticket, tokens - reserved)
    meter = ticket.seat.meter
    meter.flow(tokens, reserved, now)
    if meter.learner is not None and ticket.begun:
        running = meter.learner.running
        meter.learner.gap((ticket.beside + running) / 2, (now - ticket.told) / tokens, now)
        ticket.told = now
        ticket.beside = running


def ended(ticket: Ticket, outcome: Outcome, now: float, rng: Random) -> bool:
    """It is over. True when the request may be tried again: nothing has reached the client."""
    if isinstance(outcome, Served):
        _served(ticket, outcome, now, rng)
        return False
    return _broken(ticket, outcome, now, rng)


def _served(ticket: Ticket, outcome: Served, now: float, rng: Random) -> None:
    """It was answered in full: close the books by the cloud's own count."""
    seat, lease = ticket.seat, ticket.lease
    standing, meter = seat.standing, seat.meter
    standing.in_flight -= 1
    meter.release(ticket.unspent, now)
    meter.unwatch(lease.id, ticket.total, now)
    if not ticket.begun:
        _accepted(ticket, now, rng)
    ticket.budget.deposit(now)
    standing.budget.deposit(now)
    lasted = now - lease.granted
    standing.duration.add(lasted)
    tally = standing.tally
    tally.served += 1
    tokens = ticket.flowed
    usage = outcome.usage
    if usage is not None:
        ticket.route.estimate.learn(ticket.request, usage)
        tally.prompt_tokens += usage.prompt
        if usage.prompt != ticket.prompt:
            meter.correct(usage.prompt - ticket.prompt, lease.granted, now)
        if usage.completion > tokens:
            # Never the other way: what was reported as flowed lies at times that we no longer know.
            meter.flow(usage.completion - tokens, 0, now)
            tokens = usage.completion
    tally.tokens += tokens
    ticket.share.served(ticket, usage, tokens)
    if tokens > 1 and lasted > 0:
        standing.latency.rate.add(tokens / lasted)
        if meter.learner is not None and not ticket.begun:
            meter.learner.gap(meter.learner.standing + 1, lasted / tokens, now)


def _broken(ticket: Ticket, outcome: Broken, now: float, rng: Random) -> bool:
    """It ended otherwise."""
    standing, meter = ticket.seat.standing, ticket.seat.meter
    standing.in_flight -= 1
    linger = _lingers(ticket, outcome, now)
    meter.release(ticket.unspent, now, linger)
    if isinstance(outcome, Beaten) and not ticket.begun and meter.learner is not None:
        meter.held -= ticket.total
        meter.learner.forsake(ticket.lease.id, now + max(linger, LEAST_TRACE))
    else:
        meter.unwatch(ticket.lease.id, ticket.total, now)
    standing.tally.tokens += ticket.flowed
    if ticket.trial:
        # Before anything is learnt, so that a pause that this ending brings stands.
        meter.leave(now)
    again, at_fault = _judge(ticket, outcome, now, rng)
    ticket.share.broken(ticket, kept=ticket.flowed > 0 or isinstance(outcome, Abandoned | Rejected))
    if ticket.probe:
        standing.give_back(now)
    ticket.probe = ticket.trial = False
    if standing not in ticket.shy:
        ticket.shy = (*ticket.shy, standing)
    if at_fault and standing not in ticket.barred:
        ticket.barred = (*ticket.barred, standing)
    return again and not ticket.begun


def _judge(ticket: Ticket, outcome: Broken, now: float, rng: Random) -> tuple[bool, bool]:
    """Tell the backend; whether the request can be served elsewhere, and whether this backend itself failed it."""
    seat, sent = ticket.seat, ticket.lease.granted
    standing, tally = seat.standing, seat.standing.tally
    rules = ticket.route.policy.breaker
    match outcome:
        case Limited(kind, retry_after, limit):
            tally.limited += 1
            seat.meter.strike(kind, sent, now, retry_after, limit, ticket.prompt if kind == "tpm" else 1)
            return True, False
        case Overloaded(retry_after):
            tally.overloaded += 1
            standing.overloaded(retry_after, rules, ticket.probe, sent, now, rng, begun=ticket.begun)
            ticket.probe = False
            seat.meter.overloaded(sent, now)
            return True, True
        case Failed(kind, retryable):
            tally.failed += 1
            if ticket.probe or standing not in ticket.shy:
                # Once per request: one that an engine chokes on again and again must not take it from everybody.
                cheap = kind == "connect"
                standing.failed(rules, ticket.probe, now, rng, begun=ticket.begun, cheap=cheap)
            ticket.probe = False
            return retryable, True
        case Unusable("auth"):
            tally.unusable += 1
            seat.meter.lock(now)
            return True, True
        case Unusable():
            tally.unusable += 1
            standing.lose(seat.model, now)
            return True, True
        case Rejected():
            tally.rejected += 1
            return False, False
        case Beaten():
            tally.beaten += 1
            if not ticket.begun:
                standing.latency.none_within(now - sent, now)
            return False, False
        case _:
            # Abandoned: the client left, which says nothing of the backend.
            tally.abandoned += 1
            return False, False


def _accepted(ticket: Ticket, now: float, rng: Random) -> bool:
    """The cloud answers: good news for the breaker, the account's strikes, and whoever waits for either."""
    seat, sent = ticket.seat, ticket.lease.granted
    meter = seat.meter
    closed = seat.standing.accepted(sent, ticket.probe, now)
    unlocked = meter.accepted(sent, ticket.trial)
    ticket.probe = ticket.trial = False
    if closed:
        rested = min(max(seat.standing.breaker.pause, LEAST_RETURN), MOST_RETURN)
        meter.come_back(rested * rng.uniform(*RETURN), now)
    return closed or unlocked


def _lingers(ticket: Ticket, outcome: Broken, now: float) -> float:
    """For how long the slot is kept: a moment if we closed the connection, so that the cloud learns of it.

    Who was beaten keeps its slot for as long as its answer would have taken. Else a backend that hedges are taken away
    from would look idle, be preferred for it, and make slow what others would have served.
    """
    if isinstance(outcome, Beaten):
        lasts = ticket.seat.standing.duration.value or 0.0
        return max(LINGER, min(lasts - (now - ticket.lease.granted), MOST_LINGER))
    hung_up = isinstance(outcome, Abandoned) or (isinstance(outcome, Failed) and outcome.kind in ("timeout", "stall"))
    return LINGER if hung_up else 0.0
