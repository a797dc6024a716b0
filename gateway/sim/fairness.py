"""Was it fair? Each tenant's part of a run against what he was entitled to.

Service is measured as the queue charges it, prompt tokens once and answer tokens twice, whoever served it. Entitled
is what weighted water-filling gives of the service that was there: nobody more than he asked for, and what one leaves
goes to the others by their weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.fair import ANSWER
from gateway.sim.demand import Need
from gateway.sim.score import Record, Terms, good, percentile


@dataclass(frozen=True, slots=True)
class Part:
    """One tenant's part of a window: service asked for, had and entitled to; seconds to the first token."""

    tenant: str
    asked: float
    served: float
    entitled: float
    ttft_p50: float | None
    ttft_p99: float | None
    in_time: float
    """share of the admitted that were good"""


def cost(need: Need) -> float:
    return need.prompt + ANSWER * need.answer


def entitlements(asked: Mapping[str, float], weights: Mapping[str, float], total: float) -> dict[str, float]:
    """Weighted water-filling: `total` spread over those who ask. Who is not in `weights` has 1."""
    left = dict(asked)
    given: dict[str, float] = {}
    while left:
        level = total / sum(weights.get(name, 1.0) for name in left)
        content = [name for name, amount in left.items() if amount <= level * weights.get(name, 1.0)]
        if not content:
            return given | {name: level * weights.get(name, 1.0) for name in left}
        for name in content:
            given[name] = left.pop(name)
            total -= given[name]
    return given


def jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 when all are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


def parts(
    records: Iterable[Record], terms: Terms, since: float, until: float, weights: Mapping[str, float] | None = None
) -> dict[str, Part]:
    """By tenant: what became of the requests that arrived in a window."""
    by_tenant: dict[str, list[Record]] = {}
    for record in records:
        if since <= record.need.at < until:
            by_tenant.setdefault(record.need.tenant, []).append(record)
    asked = {name: sum(cost(r.need) for r in found) for name, found in by_tenant.items()}
    served = {name: sum(cost(r.need) for r in found if r.status == "served") for name, found in by_tenant.items()}
    entitled = entitlements(asked, weights or {}, sum(served.values()))
    result = {}
    for name, found in by_tenant.items():
        waits = [r.ttft for r in found if r.ttft is not None]
        admitted = [r for r in found if r.attempts]
        in_time = sum(good(r, terms) for r in admitted) / len(admitted) if admitted else 1.0
        result[name] = Part(
            name, asked[name], served[name], entitled[name], percentile(waits, 0.5), percentile(waits, 0.99), in_time
        )
    return result


def evenness(parts: Iterable[Part]) -> float:
    """Jain's index of served / entitled."""
    return jain([part.served / part.entitled for part in parts if part.entitled > 0])
