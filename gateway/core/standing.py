"""How one backend is doing, and what each ending of an attempt means for it. All that is learnt lives here.

| ending | account | backend |
|---|---|---|
| Served | strikes forgotten | breaker: success; TTFT, tokens per second |
| Limited | pause, longer each time; concurrency also caps | nothing: a limit is not an illness |
| Overloaded | – | rests 1 s doubling to 60 s, jittered; breaker: overload |
| Failed | – | breaker: failure |
| Unusable auth | out until the plan changes, or 10 min and then one trial | – |
| Unusable not_found | – | that model is out for 10 min |
| Rejected, Abandoned | – | nothing |

Rules
- `blocked_until` is 0, or the later of the rest and the breaker's time; it is set in `_block` alone.
- A lease that was the breaker's probe or the account's trial ends that state in exactly one way, in `ending`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.breaker import Breaker
from gateway.core.budget import Budget
from gateway.core.latency import Average, Floor, Latency
from gateway.core.meter import Meter
from gateway.core.nouns import Backend, BreakerRules, RetryRules
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
        "_rest_since", "_rests", "_until", "backend", "blocked_until", "breaker", "budget", "duration", "floor",
        "in_flight", "latency", "meter", "missing", "name", "retired", "tally",
    )  # fmt: skip

    def __init__(self, backend: Backend, meter: Meter) -> None:
        self.name = backend.name
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

    def overloaded(
        self,
        retry_after: float | None,
        rules: BreakerRules,
        probe: bool,
        sent: float,
        now: float,
        rng: Random,
        *,
        begun: bool,
    ) -> None:
        """The platform has no capacity."""
        if retry_after is not None:
            rest = min(max(retry_after, 1.0), 120.0)
        elif sent >= self._rest_since:
            rest = min(REST_FIRST * 2.0 ** min(self._rests, 30), REST_LONGEST) * rng.uniform(1.0, 1.2)
        else:
            rest = 0.0
        if sent >= self._rest_since:
            self._rests += 1
            self._rest_since = now
        self._until = max(self._until, now + rest)
        self.failed(rules, probe, now, rng, overload=True, begun=begun)

    def failed(
        self,
        rules: BreakerRules,
        probe: bool,
        now: float,
        rng: Random,
        *,
        overload: bool = False,
        begun: bool = False,
        cheap: bool = False,
    ) -> None:
        """An attempt broke; `cheap`: at once and at no cost."""
        self.breaker.failed(rules, probe, now, rng, overload=overload, begun=begun, cheap=cheap)
        self._block()

    def lose(self, model: str, now: float) -> None:
        """The cloud does not know this model."""
        self.missing[model] = now + MISSING_PAUSE

    def give_back(self, now: float) -> None:
        """The probe ended and says nothing."""
        self.breaker.give_back(now)
        self._block()

    def _block(self) -> None:
        self.blocked_until = max(self._until, self.breaker.until)
