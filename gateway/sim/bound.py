"""What nobody can exceed: the min-plus bound on goodput, with no queue, no order and no jitter in it.

Whatever is served of the requests that arrive in a stretch of time is at most what they ask for, and at most what
the clouds can produce from the stretch's beginning until the last of them must have ended. Over all stretches
[s, t] that gives

    goodput ≤ asked(before s) + capacity(s, t + patience + longest service) + asked(after t)

A cloud's capacity over a stretch is what its slots produce while it is up, or what its other limits let through,
whichever is less. Ours is the prefix form, s ≤ t, of the bound for arrivals with patience; a fluid one: batches are
always full and chances are their means.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import ceil, inf

from gateway.clouds import laws
from gateway.clouds.profiles import Fleet, Profile
from gateway.sim.demand import Need, Outage
from gateway.sim.score import Terms

CUTS = 48
"""between how many moments stretches are tried; more only tighten the bound"""
CROWD = 64
"""streams a cloud without a number of slots is taken to compute at once"""


def rate(profile: Profile, longest: int) -> float:
    """Output tokens per second of a cloud with all its slots busy, none of which is ever idle between answers.

    `longest` is the longest answer in tokens: what a slot loses on an answer's first token weighs least on it.
    """
    slots = min(profile.limits.streams or inf, profile.slots or inf)
    batch = int(min(slots, CROWD)) if slots == inf else int(slots)
    step = laws.per_token(profile.laws, batch)
    return batch * longest / (profile.laws.net + longest * step)


def capacity(profile: Profile, outages: tuple[Outage, ...], since: float, until: float, longest: int) -> float:
    """Output tokens that a cloud can produce between two times (seconds)."""
    if until <= since:
        return 0.0
    down = sum(
        max(0.0, min(outage.ends, until) - max(outage.starts, since)) for outage in outages if outage.cloud == profile.name
    )
    span, limits = until - since, profile.limits
    most = [rate(profile, longest) * (span - down)]
    for limit, window, worth in (
        (limits.tpm, 60.0, 1),
        (limits.tps, 1.0, 1),
        (limits.rpm, 60.0, longest),
        (limits.rps, 1.0, longest),
    ):
        if limit is not None:
            most.append(float(limit * ceil(span / window) * worth))
    return min(most)


def tail(fleet: Fleet, longest: int, prompt: int) -> float:
    """Seconds by which the last answer outlives its dispatch, at most."""
    return max(
        rules.net + laws.prefill(rules, prompt) + longest * laws.per_token(rules, int(profile.limits.streams or CROWD))
        for profile in fleet.clouds
        for rules in (profile.laws,)
    )


def bound(fleet: Fleet, needs: tuple[Need, ...], outages: tuple[Outage, ...], terms: Terms) -> float:
    """Output tokens of good answers that no scheduler can exceed on this demand."""
    if not needs:
        return 0.0
    times = [need.at for need in needs]
    asked = [0, *accumulate(need.answer for need in needs)]
    longest = max(need.answer for need in needs)
    late = terms.patience + terms.first_token + tail(fleet, longest, max(need.prompt for need in needs))
    cuts = [times[len(times) * place // CUTS] for place in range(min(CUTS, len(times)))]
    best = float(asked[-1])
    for since in cuts:
        before = asked[bisect_right(times, since) - 1]
        for until in (*(cut for cut in cuts if cut >= since), times[-1]):
            after = asked[-1] - asked[bisect_right(times, until)]
            middle = sum(capacity(profile, outages, since, until + late, longest) for profile in fleet.clouds)
            best = min(best, before + middle + after)
    return best


def sustained(fleet: Fleet, answer: float, prompt: float) -> float:
    """Requests per second that the fleet carries for a minute, for answers and prompts of these mean lengths."""
    total = 0.0
    for profile in fleet.clouds:
        limits = profile.limits
        most = [rate(profile, round(answer)) / answer]
        for limit, window, worth in (
            (limits.tpm, 60.0, answer + prompt),
            (limits.tps, 1.0, answer + prompt),
            (limits.rpm, 60.0, 1.0),
            (limits.rps, 1.0, 1.0),
        ):
            if limit is not None:
                most.append(limit / window / worth)
        total += min(most)
    return total
