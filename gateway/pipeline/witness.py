"""Notes why a request went where it went: for those that are traced or ask to be told, and for every one that did not
simply go to its first tier.

Looking at every backend costs as much as a third of a request, so it is done so many times a second at most; between
two looks, requests of one kind share what was seen.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.core.explain import Candidate
from gateway.core.nouns import Go, Request, Verdict, Wait
from gateway.pipeline.desk import Desk
from gateway.service import Call, Decision

LOOKS = 50.0
"""Per second, on average."""
BURST = 1.0
"""Seconds whose looks may be saved up."""
STALE = 1.0
"""Seconds after which what was seen is not told any more."""
MOST_KINDS = 1000
_OTHERS = "others wait for it"

Kind = tuple[object, ...]


def untraced(call: Call) -> None:
    """Where nobody traces."""
    del call


class Witness:
    """One per dispatcher. It is asked at every verdict and mostly has nothing to do."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._next = 0.0
        self._seen: dict[Kind, tuple[float, tuple[Candidate, ...]]] = {}

    def see(self, call: Call, verdict: Verdict) -> None:
        """Take note of a verdict, if it is worth it."""
        context = call.context
        asked = call.told or (context is not None and context.sampled)
        if asked or call.attempts or type(verdict) is not Go or verdict.lease.tier:
            self._note(call, verdict)

    def _note(self, call: Call, verdict: Verdict) -> None:
        request = call.request
        assert request is not None
        now = self._desk.clock()
        looked, candidates = self._look(request, now)
        backend = reason = ""
        if isinstance(verdict, Go):
            word, backend = "go", verdict.lease.backend
        elif isinstance(verdict, Wait):
            word, reason = "wait", f"place {verdict.position + 1} in the queue"
            if verdict.position == 0:
                candidates = tuple(_alone(candidate) for candidate in candidates)
        else:
            word, reason = "refuse", verdict.reason
        found = Decision(now, word, backend, len(call.attempts) + 1, reason, looked, candidates)
        call.decisions = (*call.decisions, found)

    def _look(self, request: Request, now: float) -> tuple[float, tuple[Candidate, ...]]:
        kind = (request.model, request.class_, request.tenant, request.stream, request.prompt_bytes.bit_length())
        if now < self._next - BURST:
            seen = self._seen.get(kind)
            return seen if seen is not None and now - seen[0] <= STALE else (now, ())
        self._next = max(self._next, now) + 1 / LOOKS
        if len(self._seen) >= MOST_KINDS:
            self._seen.clear()
        found = self._seen[kind] = (now, self._desk.dispatcher.explain(request, now))
        return found


def _alone(candidate: Candidate) -> Candidate:
    """A candidate as seen by who is first in the queue: he does not wait for himself."""
    return replace(candidate, why_not=tuple(why for why in candidate.why_not if why != _OTHERS))
