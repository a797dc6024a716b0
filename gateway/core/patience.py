"""How long somebody would wait: asked before he is put into the queue, so that a hopeless wait is refused at once.

Two answers, both on the hopeful side, because a refusal that proves wrong costs goodput and a wait that proves
vain costs only patience:

- the *bound*: the earliest moment at which anything can open (pauses, breakers, windows). Certain.
- the *line*: how long those before him will take. Streams free up at the rate that Little's law gives once it is
  known how long requests last; windows of requests open when they open. A lane whose limits tell nothing (tokens:
  an estimate is no certainty) is judged by how it moved while it was backlogged. Without such data there is no
  prediction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, inf

from gateway.core.fleet import LaneKey, Path
from gateway.core.gauges import opens, prospect
from gateway.core.meter import Meter
from gateway.core.nouns import RefuseReason
from gateway.core.waiting import Ticket
from gateway.core.window import REQUESTS, Window

MARGIN = 1.2
HORIZON = 10.0
SOONEST = 2.0
ENOUGH = 10
UNKNOWN_RETRY = 5.0


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
    """Predictions for all lanes. A lane's backlog lasts from `joined` to the `sweep` that finds it empty."""

    __slots__ = ("_flows",)

    def __init__(self) -> None:
        self._flows: dict[LaneKey, Flow] = {}

    def joined(self, key: LaneKey, now: float) -> None:
        """Somebody waits in this lane."""
        if key not in self._flows:
            self._flows[key] = Flow(now)

    def left(self, key: LaneKey, now: float) -> None:
        """The head of this lane was dispatched."""
        self._flows[key].left(now)

    def sweep(self, busy: Callable[[LaneKey], bool]) -> None:
        """Forget lanes in which nobody waits any more: what was seen says nothing about the next backlog."""
        for key in [key for key in self._flows if not busy(key)]:
            del self._flows[key]

    def wait(self, ticket: Ticket, ahead: int, now: float) -> float | None:
        """Seconds until `ticket` could start with `ahead` before it, on the hopeful side; None without data."""
        bound = opening(ticket, now, certain=True) - now
        line = self._line(ticket, ahead + 1, now)
        if line is None:
            return bound if bound > 0 else None
        return max(bound, line)

    def _line(self, ticket: Ticket, places: int, now: float) -> float | None:
        flow = self._flows.get(ticket.key)
        rate = flow.rate(now) if flow is not None else None
        seen = places / rate / MARGIN if rate else None
        allowed = _allowed(ticket.path, places, now)
        if allowed is None or (seen is not None and seen < allowed):
            return seen
        return allowed


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


def latest(ticket: Ticket, now: float) -> float:
    """When waiting must end: at the request's deadline, or when it has waited as long as its policy allows."""
    until = now + ticket.route.policy.queue.max_wait - ticket.waited
    deadline = ticket.request.deadline
    return until if deadline is None or deadline > until else deadline


def why_over(ticket: Ticket) -> RefuseReason:
    """Which of the two ends of waiting it was."""
    return "deadline" if ticket.until == ticket.request.deadline else "max-wait"
