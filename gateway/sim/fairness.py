"""Was it fair? Each tenant's part of a run against what he was entitled to.

Service is measured as the queue charges it, prompt tokens once and answer tokens twice, whoever served it. Entitled
is what weighted water-filling gives of the service that was there: nobody more than he asked for, and what one leaves
goes to the others by their weights. It is done second by second, among those whose requests are not older than their
patience: of a second's thousand requests nobody is entitled to more than can be served before they leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.fair import ANSWER
from gateway.sim.demand import Need
from gateway.sim.score import Record, Terms, good, percentile

STEP = 1.0


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
    refused: int

    @property
    def ratio(self) -> float:
        """Served / entitled. Who was refused nothing had what he wanted, though his answers may outlast the window."""
        return self.served / self.entitled if self.refused else 1.0


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


def entitlements_in_time(
    needs: Sequence[Need],
    weights: Mapping[str, float],
    per_second: float,
    patience: float,
    window: tuple[float, float],
) -> dict[str, float]:
    """Water-filling of `per_second` in steps of a second; what each is given within a window."""
    since, until = window
    backlog: dict[str, deque[tuple[float, float]]] = {need.tenant: deque() for need in needs}
    given = dict.fromkeys(backlog, 0.0)
    coming = deque(sorted(needs, key=lambda need: need.at))
    now = 0.0
    while now < until:
        now += STEP
        while coming and coming[0].at < now:
            need = coming.popleft()
            backlog[need.tenant].append((need.at, cost(need)))
        for line in backlog.values():
            while line and line[0][0] + patience < now - STEP:
                line.popleft()
        asked = {name: sum(amount for _, amount in line) for name, line in backlog.items() if line}
        for name, amount in entitlements(asked, weights, per_second * STEP).items():
            _take(backlog[name], amount)
            given[name] += amount if now > since else 0.0
    return given


def _take(line: deque[tuple[float, float]], amount: float) -> None:
    """The oldest first."""
    while line and amount > 0:
        at, wanted = line.popleft()
        if wanted > amount + 1e-6:
            line.appendleft((at, wanted - amount))
        amount -= wanted


def service(record: Record, since: float, until: float) -> float:
    """What it had within a window: its prompt when it was dispatched, its answer evenly from then to its end."""
    if not record.attempts:
        return 0.0
    sent = record.need.at + record.queued
    flows = max(record.ended - sent, 1e-9)
    part = max(0.0, min(until, record.ended) - max(since, sent)) / flows
    return (record.need.prompt if since <= sent < until else 0.0) + ANSWER * record.tokens * part


def jain(shares: Sequence[float]) -> float:
    """Jain's index: 1 when all are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


def parts(
    records: Sequence[Record], terms: Terms, since: float, until: float, weights: Mapping[str, float] | None = None
) -> dict[str, Part]:
    """By tenant: what he asked for in a window, what was done for him in it, and how those fared who came in it.

    What was done counts whenever it was asked for: answers may take longer than the window. So do entitlements.
    """
    asked: dict[str, float] = {}
    served: dict[str, float] = {}
    came: dict[str, list[Record]] = {}
    for record in records:
        name = record.need.tenant
        served[name] = served.get(name, 0.0) + service(record, since, until)
        if since <= record.need.at < until:
            asked[name] = asked.get(name, 0.0) + cost(record.need)
            came.setdefault(name, []).append(record)
    needs = [record.need for record in records]
    per_second = sum(served.values()) / (until - since)
    entitled = entitlements_in_time(needs, weights or {}, per_second, terms.patience, (since, until))
    result = {}
    for name, found in came.items():
        waits = [r.ttft for r in found if r.ttft is not None]
        admitted = [r for r in found if r.attempts]
        in_time = sum(good(r, terms) for r in admitted) / len(admitted) if admitted else 1.0
        p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
        refused = len(found) - len(admitted)
        result[name] = Part(name, asked[name], served[name], entitled[name], p50, p99, in_time, refused)
    return result


def evenness(parts: Iterable[Part]) -> float:
    """Jain's index of served / entitled."""
    return jain([part.ratio for part in parts])
