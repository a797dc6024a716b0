"""Where may this request go, now, and what next if it cannot: the one place that decides.

The dispatcher does no I/O and reads no clock. A shell (the live gateway, the rehearsal) tells it what happened and
when; it answers with a verdict, and says when it wants to be asked again:

    offer ──▶ Go ──▶ started · progress ──▶ settle ──▶ None, or the next verdict for the same request
              └────▶ hedge (at hedge_at, if nothing has started): a second lease; both are settled
          ──▶ Wait ──▶ due (when next_due says, and after every event) ──▶ Go | Refuse
          ──▶ Refuse

A request is always in exactly one place: in `_leases` (running, once or twice), in `_waiting`, or gone.

Rules
- Nothing enters or leaves `_leases` but in `_grant` and `settle`; nothing enters or leaves the queue but in `_wait`
  and `_leave`. Counters of meters and standings move only there.
- After `due(now)` no lane's head has room.
- `_stale` is set by every event that may make room; while it is set and somebody waits, `next_due` answers "now".
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gateway.core import changes, ending, hedge
from gateway.core.beginning import begin
from gateway.core.choose import Seat, Shy
from gateway.core.explain import Candidate, explain, refusal
from gateway.core.fleet import Fleet
from gateway.core.lanes import Queue
from gateway.core.lesson import Lesson
from gateway.core.meter import Meter
from gateway.core.nouns import (
    Change,
    Demand,
    Go,
    Lease,
    Outcome,
    Plan,
    Refuse,
    RefuseReason,
    Reloaded,
    Request,
    Verdict,
    Wait,
)
from gateway.core.patience import Patience, aim, latest, soonest, why_over
from gateway.core.pressure import Outlook
from gateway.core.tally import Totals
from gateway.core.views import FleetView, demands, lessons, view
from gateway.core.waiting import Alarms, Place, Ticket, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

SPACING = 0.001
"""Alarms are at least this far apart, in seconds."""


class LeaseEnded(LookupError):
    """A lease was used after its end, or is none of ours. The shell has a bug; nothing was changed."""


class Dispatcher:
    """The mind of the gateway. Not thread-safe: one owner calls it, with times that never go back."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self._fleet = Fleet(plan)
        self._routes = self._fleet.routes
        self.pools = self._fleet.pools  # the counters by account: other replicas should know them too
        self._rng = rng
        self._leases: dict[int, Ticket] = {}
        self._waiting: Waiting = Queue()
        self._alarms = Alarms()
        self._tickets: dict[Request, Ticket] = {}
        self._patience = Patience()
        self.outlook = Outlook(self._fleet, self._waiting, self._patience, self._tickets)
        self._totals = Totals()
        self._doomed: list[tuple[Request, Refuse]] = []
        self._next_lease = 1
        self._next_seq = 0
        self._now = 0.0
        self._stale = False
        self._alarm: float | None = None
        self._asked = -inf

    def __repr__(self) -> str:
        return f"<Dispatcher {self._fleet!r}: {len(self._leases)} running, {len(self._tickets)} waiting>"

    # --- the verbs --------------------------------------------------------------------------------------

    def offer(self, request: Request, now: float) -> Verdict:
        """A request arrived. `Wait` obliges the caller to watch `due`, or to `withdraw`."""
        self._now = now
        self._totals.offered += 1
        route = self._routes.get(request.model)
        if route is None:
            return self._refuse("no-model")
        path = route.path_for(request) if route.conditional else route.path
        if not path.steps:
            return self._refuse("no-backend")
        estimate = route.estimate
        ticket = Ticket(request, route, path, estimate.prompt(request), estimate.answer(request))
        ticket.budget = route.budgets.of(request.tenant, now)
        ticket.share = route.pool.of(request)
        if not (self._tickets and self._waiting.busy(path.key, request.class_)):
            for step in path.steps:
                seat = step.pick(step.seats, ticket, now, self._rng, ())
                if seat is not None:
                    return Go(self._grant(ticket, seat, now))
        return self._wait(ticket, now)

    def started(self, lease: Lease, now: float) -> None:
        """The first meaningful token arrived. Told twice, the second time is ignored. Raises LeaseEnded."""
        self._now = now
        ticket = self._running(lease)
        if not ticket.begun:
            ticket.begun = True
            if ticket.race is not None and ticket.race.begun(ticket):
                self._totals.hedges_won += 1
            if ending.started(ticket, now, self._rng):
                self._stale = True

    def progress(self, lease: Lease, tokens: int, now: float) -> None:
        """Output tokens flowed since the last report. Raises LeaseEnded."""
        self._now = now
        ticket = self._running(lease)
        if tokens > 0:
            ending.progressed(ticket, tokens, now)

    def settle(self, lease: Lease, outcome: Outcome, now: float) -> Verdict | None:
        """The attempt ended. Answers what next if the request can still be served, else None. Raises LeaseEnded."""
        self._now = now
        ticket = self._leases.pop(lease.id, None)
        if ticket is None:
            raise LeaseEnded(lease.id)
        self._stale = True
        again = ending.ended(ticket, outcome, now, self._rng)
        if ticket.race is not None and not ticket.race.ended(ticket, outcome):
            return None
        return self._retry(ticket, now) if again else None

    def hedge_at(self, lease: Lease) -> float | None:
        """When to ask for a second lease if nothing has started before; None: never. Raises LeaseEnded."""
        return hedge.due(self._running(lease))

    def hedge(self, lease: Lease, now: float) -> Lease | None:
        """A second lease for the same request on another backend, or None. Raises LeaseEnded.

        Whichever is told first to have `started` counts. Settling one while the other runs, or has won, answers None.
        """
        self._now = now
        ticket = self._running(lease)
        busy = self._waiting.holds(ticket.key) or self._waiting.holds(ticket.path.key)
        old = self._routes.get(ticket.request.model) is not ticket.route
        found = None if busy or old else hedge.second(ticket, now, self._rng)
        if found is None:
            return None
        self._totals.hedge(ticket.total)
        return self._grant(*found, now)

    def withdraw(self, request: Request, now: float) -> None:
        """The client left while waiting. A request that does not wait is nobody's business."""
        self._now = now
        self._doomed = [doom for doom in self._doomed if doom[0] != request]
        ticket = self._tickets.get(request)
        if ticket is not None:
            self._leave(ticket, now)
            self._totals.withdrawn += 1
            self._stale = True

    def due(self, now: float) -> list[tuple[Request, Go | Refuse]]:
        """The waiting requests that may go now, or must be refused now."""
        self._now = now
        if not self._tickets and not self._doomed:
            self._stale = False
            return []
        self._stale = False
        self._alarm = None
        self._asked = now
        answers: list[tuple[Request, Go | Refuse]] = list(self._doomed)
        self._doomed = []

        def place(ticket: Ticket) -> bool:
            seat = self._seat(ticket, now) if now <= ticket.until else None
            if seat is None:
                return False
            self._patience.left(ticket, now)
            self._stop_waiting(ticket, now)
            answers.append((ticket.request, Go(self._grant(ticket, seat, now))))
            return True

        self._waiting.serve(place)
        late = self._alarms.over(now)
        for ticket in late:
            self._leave(ticket, now)
            answers.append((ticket.request, self._refuse(why_over(ticket), ticket, now)))
        hopeless = self._patience.hopeless(self._waiting, now)
        for ticket, wait in hopeless:
            self._leave(ticket, now)
            answers.append((ticket.request, self._refuse("hopeless", ticket, now, wait)))
        if late or hopeless:
            self._waiting.serve(place)
        self._patience.sweep(self._waiting)
        return answers

    def next_due(self) -> float | None:
        """When `due` should be called next if nothing happens before; None when nobody waits."""
        if self._doomed:
            return self._now
        if not self._tickets:
            return None
        if self._stale:
            return self._now
        if self._alarm is None:
            alarm = self._alarms.next()
            for ticket in self._waiting.heads():
                alarm = min(alarm, soonest(ticket, self._now))
            self._alarm = max(alarm, self._asked + SPACING)
        return self._alarm

    def apply(self, change: Change, now: float) -> None:
        """The world changed: a new plan, or what a cloud's headers said of an account (unknown: ignored)."""
        self._now = now
        self._stale = True
        if isinstance(change, Reloaded):
            self._reload(change.plan, now)
        else:
            changes.carry_out(change, self._fleet, now, self._rng)

    @property
    def meters(self) -> Mapping[str, Meter]:
        """Every account's gauges, to look at."""
        return self._fleet.meters

    def demands(self, now: float) -> dict[str, Demand]:
        """What this replica uses and wants of every account: what it should tell the shared store."""
        return demands(self._fleet, self._tickets.values(), now)

    def lessons(self, now: float) -> dict[str, Lesson]:
        """What was learnt of every account that may be learnt of: what other replicas should know."""
        return lessons(self._fleet, now)

    def explain(self, request: Request, now: float) -> tuple[Candidate, ...]:
        """For every backend of the request's policy: would it take this request now, and if not, why. Pure."""
        route = self._routes.get(request.model)
        if route is None:
            return ()
        return explain(route, request, now, self._waiting.busy(route.path_for(request).key, request.class_))

    def snapshot(self, now: float) -> FleetView:
        """Everything worth showing, frozen."""
        running = len(self._leases) - hedge.racing(self._leases.values())
        return view(self._fleet, self._totals, self._tickets.values(), running, now, self.outlook)

    # --- granting and ending ----------------------------------------------------------------------------

    def _seat(self, ticket: Ticket, now: float) -> Seat | None:
        """A seat with room, rather one that the request has not tried; a retry must be affordable."""
        shy: Shy = ticket.shy
        poor: Shy = ()
        if ticket.attempt:
            if ticket.budget.balance(now) < 1.0:
                return None
            poor = tuple(s.standing for s in ticket.path.seats if s.standing.budget.balance(now) < 1.0)
        for avoid in ((*shy, *poor), poor) if shy else (poor,):
            for step in ticket.path.steps:
                seat = step.pick(step.seats, ticket, now, self._rng, avoid)
                if seat is not None:
                    if ticket.attempt:
                        ticket.budget.withdraw(now)
                        seat.standing.budget.withdraw(now)
                    return seat
        return None

    def _running(self, lease: Lease) -> Ticket:
        ticket = self._leases.get(lease.id)
        if ticket is None:
            raise LeaseEnded(lease.id)
        return ticket

    def _grant(self, ticket: Ticket, seat: Seat, now: float) -> Lease:
        number = self._next_lease
        self._next_lease = number + 1
        lease = begin(ticket, seat, number, now)
        self._leases[number] = ticket
        ticket.share.charge(ticket, now)
        self._totals.granted += 1
        return lease

    # --- spillover --------------------------------------------------------------------------------------

    def _retry(self, ticket: Ticket, now: float) -> Verdict:
        route = self._routes.get(ticket.request.model)
        if route is None:
            return self._refuse("no-model")
        ticket.route = route
        ticket.budget = route.budgets.of(ticket.request.tenant, now)
        ticket.share = route.pool.of(ticket.request)
        if ticket.attempt >= route.policy.retry.attempts or route.budgets.none:
            return self._refuse("attempts", ticket, now)
        self._totals.retried += 1
        aim(ticket, now)
        if not ticket.path.steps:
            return self._refuse("no-backend")
        ticket.begun = False
        if not (self._tickets and self._waiting.busy(ticket.key, ticket.request.class_)):
            seat = self._seat(ticket, now)
            if seat is not None:
                return Go(self._grant(ticket, seat, now))
        return self._wait(ticket, now)

    # --- waiting ----------------------------------------------------------------------------------------

    def _wait(self, ticket: Ticket, now: float) -> Wait | Refuse:
        """Let it wait, unless that is pointless."""
        ticket.until = latest(ticket, now)
        if ticket.until <= now:
            return self._refuse(why_over(ticket), ticket, now)
        if not ticket.seq:
            self._next_seq += 1
            ticket.seq = self._next_seq
        ticket.queued = now
        place = self._waiting.put(ticket)
        wait = self._patience.wait(ticket, place, now)
        if wait is not None and now + wait > ticket.until:
            self._waiting.drop(ticket)
            return self._refuse("hopeless", ticket, now, wait)
        self._tickets[ticket.request] = ticket
        self._alarms.set(ticket)
        self._patience.joined(ticket, now)
        ticket.route.crowd.join(ticket)
        if not self._make_room(ticket, now):
            return self._refuse("queue-full", ticket, now)
        self._totals.waited += 1
        if self._alarm is not None:
            first = ticket.until if place.ahead else min(ticket.until, soonest(ticket, now))
            self._alarm = max(min(self._alarm, first), self._asked + SPACING)
        return Wait(ticket.until, place.ahead)

    def _make_room(self, newcomer: Ticket, now: float) -> bool:
        """Push out others until the queue is within its bounds; False if it is the newcomer who had to go."""
        route = newcomer.route
        while route.crowd.is_over(route.policy.queue):
            ticket = self._waiting.newest(route.crowd.who_gives_way(newcomer.share, route.policy.queue), route)
            self._leave(ticket, now)
            if ticket is newcomer:
                return False
            self._doomed.append((ticket.request, self._refuse("queue-full", ticket, now)))
        return True

    def _leave(self, ticket: Ticket, now: float) -> None:
        self._waiting.drop(ticket)
        self._stop_waiting(ticket, now)

    def _stop_waiting(self, ticket: Ticket, now: float) -> None:
        del self._tickets[ticket.request]
        self._alarms.clear(ticket)
        ticket.route.crowd.leave(ticket)
        ticket.waited += now - ticket.queued

    def _refuse(
        self, reason: RefuseReason, ticket: Ticket | None = None, now: float = 0.0, wait: float | None = None
    ) -> Refuse:
        self._totals.refuse(reason)
        if ticket is None:
            return Refuse(reason)
        if wait is None:
            wait = self._patience.wait(ticket, Place(ticket.route.crowd.count, 0), now)
        return refusal(reason, ticket, wait, now)

    # --- changes ----------------------------------------------------------------------------------------

    def _reload(self, plan: Plan, now: float) -> None:
        """Take over the plan; judge those who wait by it, in the order in which they came."""
        self._fleet.load(plan, now)
        self._routes = self._fleet.routes
        waiting = sorted(self._tickets.values(), key=lambda t: (t.request.arrived, t.seq))
        for ticket in waiting:
            self._leave(ticket, now)
        for ticket in waiting:
            route = self._routes.get(ticket.request.model)
            if route is None:
                self._doomed.append((ticket.request, self._refuse("no-model")))
                continue
            ticket.route = route
            ticket.budget = route.budgets.of(ticket.request.tenant, now)
            ticket.share = route.pool.of(ticket.request)
            ticket.barred = tuple(s for s in ticket.barred if s.retired is None)
            aim(ticket, now)
            if not ticket.path.steps:
                self._doomed.append((ticket.request, self._refuse("no-backend")))
                continue
            verdict = self._wait(ticket, now)
            if isinstance(verdict, Wait):
                self._totals.waited -= 1
            else:
                self._doomed.append((ticket.request, verdict))
