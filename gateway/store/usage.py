"""From the dispatcher's view of an account to what the share book wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, inf

from gateway.core.gauges import whole_of
from gateway.core.meter import Meter
from gateway.core.nouns import Demand, LimitKind
from gateway.core.window import Ramp
from gateway.store.shares import Usage

_COUNTED_IN_TOKENS = ("tpm", "tps")


def usage(meter: Meter, demand: Demand, now: float) -> Mapping[LimitKind, Usage]:
    """Every kind of limit that the account has as a whole, declared, said or learnt, rounded against us.

    The next start's need in tokens is taken as the average of those that wait. Of a ramp, what is used is the
    highest rise to come (`Ramp.rise`).
    """
    queue = demand.want.get("streams", 0) - demand.used.get("streams", 0)
    found: dict[LimitKind, Usage] = {}
    for kind, used in demand.used.items():
        whole = whole_of(meter, kind)
        if whole is None or whole == inf:
            continue
        waiting = max(0.0, demand.want.get(kind, used) - used)
        gauge = meter.by_kind.get(kind)
        if isinstance(gauge, Ramp):
            used = gauge.rise(now)
        unit = ceil(waiting / queue) if kind in _COUNTED_IN_TOKENS and queue > 0 else 1
        found[kind] = Usage(int(whole), ceil(used), ceil(waiting), max(1, unit))
    return found
