"""How long somebody would wait: asked before he is put into the queue, so that a hopeless wait is refused at once.

Two answers, both on the hopeful side, because a refusal that proves wrong costs goodput and a wait that proves
vain costs only patience:

- the *bound*: the earliest moment at which anything can open (pauses, breakers, windows). Certain.
- the *line*: how long those before him will take. Streams free up at the rate that Little's law gives once it is
  known how long requests last; windows of requests open when they open. A lane whose limits tell nothing (tokens:
  an estimate is no certainty) is judged by how it moved while it was backlogged. Without such data there is no
  prediction. Places are counted in fair order, and where it is known how fast a tenant's own requests were served,
  he waits for them at least: others will go on coming in between.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf

from gateway.core.fair import Share
from gateway.core.fleet import LaneKey, Path
from gateway.core.gauges import opens, prospect
from gateway.core.meter import Meter
from gateway.core.nouns import RefuseReason
from gateway.core.waiting import Place, Ticket, Waiting
from gateway.core.window import REQUESTS, Window

MARGIN = 1.2
HORIZON = 10.0
SOONEST = 2.0
ENOUGH = 10
UNKNOWN_RETRY = 5.0
SECOND_THOUGHTS = 1.5
"""Who was let in is refused when he would have to wait so many times as long as he may: what is seen of a lane lags
behind when limits are being learnt, and a queue that runs dry teaches nothing."""
LOOK_EVERY, LOOK_AT = 0.5, 16
"""Every so many seconds, so many tenants' queues are looked at for those who have become hopeless."""


class Flow:
    """How fast a lane moved while somebody waited in it, over the last `HORIZON` seconds."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._left: deque[float] = deque()

    def left(self, now: float) -> None:
        """One of the lane was dispatched."""
        self._left.append(now)
        self._trim(now)

    def rate(self, now: float) -> float | None:
        """Requests per second; None before the lane has been backlogged for `SOONEST` and `ENOUGH` have left it."""
        self._trim(now)
        seen = min(now - self._since, HORIZON)
        if seen < SOONEST or len(self._left) < ENOUGH:
            return None
        return len(self._left) / seen

    def _trim(self, now: float) -> None:
        while self._left and self._left[0] <= now - HORIZON:
            self._left.popleft()


class Patience:
    """Predictions for all lanes, and for each tenant in a lane. Backlogs last from `joined` to the next `sweep`."""

    __slots__ = ("_flows", "_look_at")

    def __init__(self) -> None:
        self._flows: dict[LaneKey | tuple[LaneKey, Share], Flow] = {}
        self._look_at = 0.0

    def joined(self, ticket: Ticket, now: float) -> None:
        """He waits in his lane."""
        for key in (ticket.key, (ticket.key, ticket.share)):
            if key not in self._flows:
                self._flows[key] = Flow(now)

    def left(self, ticket: Ticket, now: float) -> None:
        """He, the head of his lane, was dispatched."""
        self._flows[ticket.key].left(now)
        self._flows[ticket.key, ticket.share].left(now)

    def sweep(self, waiting: Waiting) -> None:
        """Forget lanes in which nobody waits any more: what was seen says nothing about the next backlog."""
        for key, share in waiting.emptied:
            if not waiting.holds(key, share):
                self._flows.pop((key, share), None)
            if not waiting.holds(key):
                self._flows.pop(key, None)
        waiting.emptied.clear()

    def wait(self, ticket: Ticket, place: Place, now: float) -> float | None:
        """Seconds until `ticket` could start from its place in the queue, on the hopeful side; None without data."""
        bound = opening(ticket, now, certain=True) - now
        line = self._line(ticket, place.ahead + 1, now)
        own = self._seen((ticket.key, ticket.share), place.own + 1, now)
        if line is not None and own is not None:
            line = max(line, own)
        if line is None:
            return bound if bound > 0 else None
        return max(bound, line)

    def hopeless(self, waiting: Waiting, now: float) -> list[tuple[Ticket, float]]:
        """Who has become hopeless since he came, and how long he would have to wait. Looks at a few now and then."""
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY
        found = []
        for tail in waiting.tails(LOOK_AT):
            for ticket, place in tail:
                wait = self.wait(ticket, place, now)
                if wait is None or now + wait / SECOND_THOUGHTS <= ticket.until:
                    break
                found.append((ticket, wait))
        return found

    def _line(self, ticket: Ticket, places: int, now: float) -> float | None:
        seen = self._seen(ticket.key, places, now)
        allowed = _allowed(ticket.path, places, now)
        if allowed is None or (seen is not None and seen < allowed):
            return seen
        return allowed

    def _seen(self, key: LaneKey | tuple[LaneKey, Share], places: int, now: float) -> float | None:
        """Seconds for so many, as they were served lately."""
        flow = self._flows.get(key)
        rate = flow.rate(now) if flow is not None else None
        return places / rate / MARGIN if rate else None


def opening(ticket: Ticket, now: float, *, certain: bool) -> float:
    """When something on the ticket's path may open by lapse of time; `certain`: before which nothing can."""
    best = inf
    for seat in ticket.path.seats:
        at = opens(seat.meter, ticket.prompt, ticket.total, now, certain=certain)
        out = seat.standing.out_until(seat.model)
        if out == inf and certain:
            out = now
        best = min(best, max(at, out))
    return best


def soonest(ticket: Ticket, now: float) -> float:
    """When lapse of time may let the head of a lane go: something opens, and if it is a retry, it can be paid for."""
    opens_at = opening(ticket, now, certain=False)
    if not ticket.attempt:
        return opens_at
    payable = min((seat.standing.budget.when(now) for seat in ticket.path.seats), default=now)
    return max(opens_at, ticket.budget.when(now), payable)


def retry_after(wait: float | None, max_wait: float) -> float:
    """Seconds after which a refused client has a fair chance: what exceeds the longest wait, 1 to 60, whole."""
    if wait is None:
        return UNKNOWN_RETRY
    return float(min(max(ceil(min(wait - max_wait, 60.0)), 1), 60))


def _allowed(path: Path, places: int, now: float) -> float | None:
    """Seconds until the accounts together can have started `places` requests; None if one of them tells nothing."""
    lasts: dict[Meter, float | None] = {}
    for seat in path.seats:
        duration = seat.standing.duration
        lasts[seat.meter] = duration.value if duration.count >= ENOUGH else None
    rates = {meter: _rate(meter, last) for meter, last in lasts.items()}
    if inf in rates.values():
        return None
    total = sum(rates.values())
    return min(_clears(meter, lasts[meter], ceil(places * rate / total), now) for meter, rate in rates.items())


def _rate(meter: Meter, lasts: float | None) -> float:
    """Requests per second that an account can start in the long run, as far as its limits tell; `inf` if not."""
    if any(window.counts != REQUESTS for window in meter.windows):
        return inf  # tokens may keep it from starting anything, whatever its other limits have left
    rates = [window.limit / window.span for window in _request_windows(meter)]
    cap = prospect(meter)
    if cap < inf and lasts:
        rates.append(cap / lasts)
    # What is 0 is a share that may grow at any moment.
    return min(rates, default=inf) or inf


def _clears(meter: Meter, lasts: float | None, places: int, now: float) -> float:
    """Seconds until one account can have started `places` more."""
    cap = prospect(meter)
    wait = places * lasts / cap / MARGIN if lasts and cap > 0 else 0.0
    for window in _request_windows(meter):
        spans, rest = divmod(places - 1, int(window.limit))
        wait = max(wait, spans * window.span + window.earliest(rest + 1, now) - now)
    return wait


def _request_windows(meter: Meter) -> list[Window]:
    return [w for w in meter.windows if isinstance(w, Window) and w.counts == REQUESTS and 1 <= w.limit < inf]


def aim(ticket: Ticket, now: float) -> None:
    """Find the path without those that failed it; when none of the others can come back in time, start over."""
    route, request = ticket.route, ticket.request
    path = route.path_without(request, ticket.barred)
    if ticket.barred:
        ticket.path = path
        if not path.steps or opening(ticket, now, certain=True) > latest(ticket, now):
            ticket.barred = ()
            path = route.path_without(request, ())
    ticket.path = path
    ticket.key = path.retry_key(request.tenant) if ticket.attempt else path.key


def latest(ticket: Ticket, now: float) -> float:
    """When waiting must end: at the request's deadline, or when it has waited as long as its policy allows."""
    until = now + ticket.route.policy.queue.max_wait - ticket.waited
    deadline = ticket.request.deadline
    return until if deadline is None or deadline > until else deadline


def why_over(ticket: Ticket) -> RefuseReason:
    """Which of the two ends of waiting it was."""
    return "deadline" if ticket.until == ticket.request.deadline else "max-wait"
