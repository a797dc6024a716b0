"""How an attempt begins to be answered and how it ends: what each means for the account, the backend, the estimate.

`standing` has the table. Here it is carried out for one ticket; the dispatcher only asks whether to go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.nouns import Abandoned, Failed, Limited, Overloaded, Rejected, Served, Unusable

if TYPE_CHECKING:
    from random import Random

    from gateway.core.waiting import Ticket

Broken = Limited | Overloaded | Failed | Unusable | Rejected | Abandoned


def started(ticket: Ticket, now: float) -> bool:
    """The first token arrived. True when that made room for others."""
    ticket.begun = True
    standing = ticket.seat.standing
    standing.latency.first_token(now - ticket.lease.granted, now)
    standing.tally.started += 1
    return _accepted(ticket, now)


def served(ticket: Ticket, outcome: Served, now: float) -> None:
    """It was answered in full: close the books by the cloud's own count."""
    seat, lease = ticket.seat, ticket.lease
    standing, meter = seat.standing, seat.meter
    standing.in_flight -= 1
    meter.release(ticket.unspent, now, False)
    if not ticket.begun:
        _accepted(ticket, now)
    ticket.route.budget.deposit(now)
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
    if tokens > 1 and lasted > 0:
        standing.latency.rate.add(tokens / lasted)


def broken(ticket: Ticket, outcome: Broken, now: float, rng: Random) -> bool:
    """It ended otherwise. True when the request may be tried again: nothing has reached the client."""
    standing, meter = ticket.seat.standing, ticket.seat.meter
    standing.in_flight -= 1
    meter.release(ticket.unspent, now, _we_hung_up(outcome))
    standing.tally.tokens += ticket.flowed
    if ticket.trial:
        # Before anything is learnt, so that a pause that this ending brings stands.
        meter.leave(now)
    again, at_fault = _judge(ticket, outcome, now, rng)
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
            seat.meter.strike(kind, sent, now, retry_after, limit)
            return True, False
        case Overloaded(retry_after):
            tally.overloaded += 1
            standing.overloaded(retry_after, rules, ticket.probe, sent, now, rng, begun=ticket.begun)
            ticket.probe = False
            return True, True
        case Failed(_, retryable):
            tally.failed += 1
            if ticket.probe or standing not in ticket.shy:
                # Once per request: one that an engine chokes on again and again must not take it from everybody.
                standing.failed(rules, ticket.probe, now, rng, begun=ticket.begun)
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
        case _:
            # Abandoned: the client left, which says nothing of the backend.
            tally.abandoned += 1
            return False, False


def _accepted(ticket: Ticket, now: float) -> bool:
    """The cloud answers: good news for the breaker, the account's strikes, and whoever waits for either."""
    seat, sent = ticket.seat, ticket.lease.granted
    closed = seat.standing.accepted(sent, ticket.probe, now)
    unlocked = seat.meter.accepted(sent, ticket.trial)
    ticket.probe = ticket.trial = False
    return closed or unlocked


def _we_hung_up(outcome: Broken) -> bool:
    """Did we close the connection, so that the cloud learns of it a moment later?"""
    return isinstance(outcome, Abandoned) or (isinstance(outcome, Failed) and outcome.kind in ("timeout", "stall"))
