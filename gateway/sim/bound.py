"""What nobody can exceed: the min-plus bound on goodput, with no queue, no order and no chance in it.

Whatever is served of the requests that arrive in a stretch of time [s, t] is at most what they ask for. It is also at
most what the clouds can produce until the last of them must have been dispatched, and one more answer per slot. So

    goodput ≤ asked(before s) + capacity(s, t + patience) + overhang(t) + asked(after t)      for all s ≤ t

A cloud's capacity is what its slots produce while it is up, or what its other limits let through, whichever is less;
those other limits may be filled with the requests that earn most under them. It is a fluid bound: batches are full at
once and jitter is its mean. No real scheduler comes near it in a short surge, because of the overhang.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from gateway.clouds import laws
from gateway.clouds.profiles import Fleet, Profile
from gateway.sim.demand import Need, Outage
from gateway.sim.score import Terms

CUTS = 48
"""between how many moments stretches are tried; more only tighten the bound"""


@dataclass(frozen=True, slots=True)
class Shape:
    """The best that requests can be: `longest` answer in tokens, `lean` the largest share of answer in all tokens."""

    longest: float
    lean: float = 1.0


def rate(profile: Profile, longest: float) -> float:
    """Output tokens per second with all slots busy and none ever idle; `inf` when nothing bounds how many run.

    What a slot loses on an answer's first token weighs least on the `longest`.
    """
    slots = min(profile.limits.streams or inf, profile.slots or inf)
    if slots == inf:
        return inf
    return slots * longest / (profile.laws.net + longest * laws.per_token(profile.laws, int(slots)))


def capacity(profile: Profile, outages: tuple[Outage, ...], since: float, until: float, shape: Shape) -> float:
    """Output tokens that a cloud can produce between two times (seconds), or is allowed to take on."""
    span, limits = until - since, profile.limits
    down = sum(
        max(0.0, min(outage.ends, until) - max(outage.starts, since))
        for outage in outages
        if outage.cloud == profile.name
    )
    most = [rate(profile, shape.longest) * (span - down) if span > down else 0.0]
    for limit, window, worth in (
        (limits.tpm, 60.0, shape.lean),
        (limits.rpm, 60.0, shape.longest),
        (limits.rps, 1.0, shape.longest),
    ):
        if limit is not None:
            most.append(limit * (int(span / window) + 1) * worth)
    return min(most)


def overhang(fleet: Fleet, needs: tuple[Need, ...], until: float) -> float:
    """Output tokens still to come when nobody who arrived up to `until` can be dispatched any more, at most.

    Every slot may then be busy with one request, and who came earlier must have been dispatched earlier.
    """
    slots = [(profile, profile.limits.streams or profile.slots or 0) for profile in fleet.clouds]
    slowest = max(laws.per_token(profile.laws, count) * (1 + profile.laws.jitter) for profile, count in slots)
    left = [need.answer - (until - need.at) / slowest for need in needs if need.at <= until]
    left.sort(reverse=True)
    return sum(max(0.0, tokens) for tokens in left[: sum(count for _, count in slots)])


def bound(fleet: Fleet, needs: tuple[Need, ...], outages: tuple[Outage, ...], terms: Terms) -> float:
    """Output tokens of good answers that no scheduler can exceed on this demand."""
    if not needs:
        return 0.0
    times = [need.at for need in needs]
    asked = [0, *accumulate(need.answer for need in needs)]
    shape = Shape(max(need.answer for need in needs), max(need.answer / (need.answer + need.prompt) for need in needs))
    cuts = [times[len(times) * place // CUTS] for place in range(min(CUTS, len(times)))]
    best = float(asked[-1])
    for until in (*cuts, times[-1]):
        rest = overhang(fleet, needs, until) + asked[-1] - asked[bisect_right(times, until)]
        for since in (cut for cut in cuts if cut <= until):
            before = asked[bisect_left(times, since)]
            middle = sum(capacity(profile, outages, since, until + terms.patience, shape) for profile in fleet.clouds)
            best = min(best, before + middle + rest)
    return best


def sustained(fleet: Fleet, answer: float, prompt: float) -> float:
    """Requests per second that the fleet carries for minutes, when answers and prompts have these mean lengths."""
    total = 0.0
    for profile in fleet.clouds:
        limits = profile.limits
        most = [rate(profile, answer) / answer]
        for limit, window, cost in (
            (limits.tpm, 60.0, answer + prompt),
            (limits.rpm, 60.0, 1.0),
            (limits.rps, 1.0, 1.0),
        ):
            if limit is not None:
                most.append(limit / window / cost)
        total += min(most)
    return total
