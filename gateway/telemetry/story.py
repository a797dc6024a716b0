"""What is kept of a call that has ended until somebody wants to know: its times, no body, no key, nothing large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from gateway.core.nouns import Abandoned, Beaten, Outcome, Rejected, Served
from gateway.service import Attempt, Call, Context, Decision
from gateway.telemetry.usage import Ended

OutcomeName = Callable[[Outcome | None], str]
_FINE = (Served, Beaten, Abandoned, Rejected)
SLOW_ALL = 4.0
"""A plain answer is slow after so many times what a stream's first token may take: it has to be whole."""


class Story(Ended):
    """A finished call. Times are on the gateway's monotonic clock."""

    __slots__ = ("context", "decisions", "dispatched", "got", "kept", "offered", "reading", "responded", "waits")

    def __init__(self, call: Call, tenant: str, class_: str) -> None:
        super().__init__(call, tenant, class_)
        self.reading = call.reading
        self.got = call.got
        self.offered = call.offered
        self.waits = call.waits
        self.responded = call.responded or call.ended
        self.decisions: Sequence[Decision] = call.decisions
        self.dispatched = call.request is not None
        self.context: Context | None = call.context
        self.kept: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Seconds from its arrival to the last byte."""
        return self.ended - self.received

    @property
    def waited(self) -> float:
        """Seconds that a client would call slow: until a stream's first token, or the whole answer."""
        return self.responded - self.received


def at_clouds(attempts: Sequence[Attempt], responded: float) -> float:
    """Seconds until the answer began that attempts took. Those that ran beside each other took their time once."""
    found = until = 0.0
    for attempt in attempts if len(attempts) < 2 else sorted(attempts, key=_sent):
        end = attempt.first_token or attempt.ended or responded
        if end > until:
            found += end - max(until, attempt.sent)
            until = end
    return found


def _sent(attempt: Attempt) -> float:
    return attempt.sent


def why_kept(story: Story, slow: float = inf) -> tuple[str, ...]:
    """What makes a request worth a trace of its own: `failed`, `spilled`, `hedged`, `slow`.

    A client's own mistakes and a tenant over his own limits are no failures; he could fill every trace with them.
    """
    attempts = story.attempts
    found = []
    refused = story.status == 429 and story.dispatched
    if story.status >= 500 or refused or any(not isinstance(a.outcome, _FINE) for a in attempts):
        found.append("failed")
    if any(attempt.lease.tier for attempt in attempts) or len({a.lease.backend for a in attempts}) > 1:
        found.append("spilled")
    if len(attempts) > 1 and any(isinstance(attempt.outcome, Beaten) for attempt in attempts):
        found.append("hedged")
    if story.waited > (slow if story.stream else slow * SLOW_ALL):
        found.append("slow")
    return tuple(found)
