"""How one backend is doing, and what each ending of an attempt means for it. All that is learnt lives here.

| ending | account | backend |
|---|---|---|
| Served | strikes forgotten | breaker: success; TTFT, tokens per second |
| Limited | pause, longer each time; concurrency also caps | nothing: a limit is not an illness |
| Overloaded | learns | rests 1 s doubling to 60 s, jittered, then returns by a ramp; breaker: overload |
| Failed | – | breaker: failure |
| Unusable auth | out until the plan changes, or 10 min and then one trial | – |
| Unusable not_found | – | that model is out for 10 min |
| Rejected, Abandoned | – | nothing |

Rules
- `blocked_until` is 0, or the later of the rest and the breaker's time; it is set in `_block` alone.
- A lease that was the breaker's probe or the account's trial ends that state in exactly one way, in `ending`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gateway.core.affinity import seed_of
from gateway.core.breaker import Breaker, Setback
from gateway.core.budget import Budget
from gateway.core.comeback import later, span
from gateway.core.latency import Average, Floor, Latency
from gateway.core.meter import Meter
from gateway.core.nouns import Backend, RetryRules
from gateway.core.tally import Tally

if TYPE_CHECKING:
    from random import Random

REST_FIRST = 1.0
REST_LONGEST = 60.0
MISSING_PAUSE = 600.0
FIRST_DUE = 5.0
"""Seconds until a first token is overdue of which nothing is known."""
SLACK, LEAST_SLACK, MOST_SLACK = 0.03, 0.25, 1.0
"""What it may take beyond twice its floor: a share of what answers take, least and most seconds."""


class Standing:
    """The live standing of one backend."""

    __slots__ = (
        "_full", "_rest_since", "_rests", "_span", "_until", "backend", "blocked_until", "breaker", "budget",
        "duration", "floor", "in_flight", "latency", "meter", "missing", "name", "retired", "seed", "tally",
    )  # fmt: skip

    def __init__(self, backend: Backend, meter: Meter) -> None:
        self.name = backend.name
        self.seed = seed_of(backend.name)
        self.backend = backend
        self.meter = meter
        self.in_flight = 0
        self.blocked_until = 0.0
        self.breaker = Breaker()
        self.budget = Budget(RetryRules())
        self.latency = Latency()
        self.floor = Floor()
        self.duration = Average(50)
        self.tally = Tally()
        self.missing: dict[str, float] = {}
        self.retired: float | None = None
        self._until = 0.0
        self._rests = 0
        self._rest_since = 0.0
        self._span = 0.0
        self._full = inf

    def __repr__(self) -> str:
        blocked = f", blocked until {self.blocked_until:g}" if self.blocked_until else ""
        return f"<Standing {self.name}: {self.in_flight} in flight, {self.breaker.state}{blocked}>"

    def first_due(self, prompt: int, now: float) -> float:
        """When the first token of a prompt sent now is overdue: twice the floor, and a share of what answers take.

        A queue inside a cloud makes one wait in proportion to what answers take; the share is that of the streams too
        many that is noticed.
        """
        floor = self.floor.expected(prompt)
        if not floor:
            return now + FIRST_DUE
        lasts = self.duration.value
        slack = MOST_SLACK if lasts is None else min(max(SLACK * lasts, LEAST_SLACK), MOST_SLACK)
        return now + 2.0 * floor + slack

    def out_until(self, model: str) -> float:
        """The time before which this backend (not its account) takes nothing for `model`; `inf`: a probe is out."""
        return max(self.blocked_until, self.missing.get(model, 0.0)) if self.missing else self.blocked_until

    def enter(self, now: float, *, streamed: bool) -> bool:
        """A request is about to be sent after a block. True when it is the breaker's probe."""
        self._until = 0.0
        probing = self.breaker.state != "closed"
        if probing:
            self.breaker.probe(now, streamed=streamed)
        else:
            self.meter.come_back(self._span, now, self._full)
        self._block()
        return probing

    def accepted(self, sent: float, probe: bool, now: float) -> bool:
        """A first token arrived for a request sent at `sent`. True when that closed the breaker."""
        if self._rests and sent >= self._rest_since:
            self._rests = 0
        closed = self.breaker.succeeded(probe, now)
        if closed:
            self._block()
        return closed

    def overloaded(self, retry_after: float | None, sent: float, setback: Setback) -> None:
        """The platform has no capacity. A rest never ends before the time it named."""
        now, rng, fresh = setback.now, setback.rng, sent >= self._rest_since
        if retry_after is not None:
            rest = min(max(retry_after, 1.0), 120.0)
        else:
            rest = min(REST_FIRST * 2.0 ** min(self._rests, 30), REST_LONGEST) if fresh else 0.0
        if fresh:
            self._rests += 1
            self._rest_since = now
        if now + rest > self._until:
            self._until = now + later(rest, rng)
            self._span, self._full = span(rest, rng), self.meter.in_flight + 1
        self.failed(setback)

    def failed(self, setback: Setback) -> None:
        """An attempt broke."""
        self.breaker.failed(setback)
        self._block()

    def lose(self, model: str, now: float, rng: Random) -> None:
        """The cloud does not know this model."""
        self.missing[model] = now + later(MISSING_PAUSE, rng)

    def give_back(self, now: float) -> None:
        """The probe ended and says nothing."""
        self.breaker.give_back(now)
        self._block()

    def _block(self) -> None:
        self.blocked_until = max(self._until, self.breaker.until)
