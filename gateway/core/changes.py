"""What a change of the world means for the accounts. A new plan is the dispatcher's own affair: it moves who waits.

Accounts that are not known are ignored: a share or a header may be older than the plan.
"""

from __future__ import annotations

from gateway.core.fleet import Fleet
from gateway.core.nouns import Advertised, Learned, Shares

ADVERTISED_PAUSE = (1.0, 5.0, 60.0)
"""Least, default and longest pause of an account whose cloud says that nothing remains."""


def carry_out(change: Advertised | Shares | Learned, fleet: Fleet, now: float) -> None:
    """Tell the meters."""
    if isinstance(change, Advertised):
        _advertised(change, fleet, now)
        return
    if isinstance(change, Learned):
        for name, lesson in change.accounts.items():
            if name in fleet.meters:
                fleet.meters[name].take_over(lesson, now)
        return
    for name, share in change.accounts.items():
        if name in fleet.meters:
            fleet.meters[name].share(share)


def _advertised(change: Advertised, fleet: Fleet, now: float) -> None:
    meter = fleet.meters.get(change.account)
    if meter is None:
        return
    if change.limit is not None and change.limit >= 1:
        meter.advertise(change.kind, change.limit)
    if change.remaining is not None and change.remaining <= 0:
        least, default, longest = ADVERTISED_PAUSE
        pause = default if change.reset is None else min(max(change.reset, least), longest)
        meter.cool(now + pause, change.kind, now)
