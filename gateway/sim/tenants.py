"""Demand by tenants: each with arrivals and lengths of its own, since surges come from few of them.

The gaps between a tenant's arrivals are Gamma with the coefficient of variation that was measured for him, as in
ServeGen (Xiang et al., arXiv 2505.09999): Poisson arrivals hide the trouble. Lengths are drawn from quantiles.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from math import exp, log
from random import Random

from gateway.core.nouns import ServiceClass
from gateway.sim.demand import Need

POINTS = (0.0, 0.5, 0.9, 0.99, 1.0)
LEAST, MOST = 0.3, 1.2
"""The shortest is this share of the median, the longest this much of the 99th percentile."""
LONGEST = 32_768


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long prompts or answers are, in tokens, by three quantiles; between them it is linear in the logarithm."""

    p50: float
    p90: float
    p99: float

    def at(self, share: float) -> int:
        """The length that a share of all do not exceed."""
        known = [max(1.0, v) for v in (LEAST * self.p50, self.p50, self.p90, self.p99, MOST * self.p99)]
        place = min(bisect_right(POINTS, share), len(POINTS) - 1)
        low, high = POINTS[place - 1], POINTS[place]
        part = (share - low) / (high - low)
        drawn = exp((1 - part) * log(known[place - 1]) + part * log(known[place]))
        return min(round(drawn), LONGEST)

    def mean(self) -> float:
        """The mean, to within a percent."""
        steps = 1000
        return sum(self.at((step + 0.5) / steps) for step in range(steps)) / steps


@dataclass(frozen=True, slots=True)
class Client:
    """One tenant: `rate` in requests per second, `variation` of the gaps between them."""

    name: str
    rate: float
    variation: float
    prompt: Lengths
    answer: Lengths
    class_: ServiceClass = "standard"

    def times(self, factor: float) -> Client:
        """The same with another rate."""
        return replace(self, rate=self.rate * factor)


def read(lines: Iterable[str], column: str) -> list[Client]:
    """Clients from a table of measured ones; `column` is the rate to take: `mean_rps` or `peak_10min_rps`."""
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [
        Client(
            f"client-{row['client']}",
            float(row[column]),
            float(row["rate_weighted_iat_cv"]),
            _lengths(row, "in"),
            _lengths(row, "out"),
        )
        for row in rows
    ]


def _lengths(row: Mapping[str, str], side: str) -> Lengths:
    return Lengths(float(row[f"{side}_p50"]), float(row[f"{side}_p90"]), float(row[f"{side}_p99"]))


def arrivals(clients: Sequence[Client], since: float, until: float, seed: int) -> tuple[Need, ...]:
    """Everybody's requests in order. Each client has chance of his own: leaving one out changes no other."""
    streams = [_of(client, since, until, Random(f"{seed}/{client.name}")) for client in clients if client.rate > 0]
    ordered = merge(*streams, key=lambda need: need.at)
    return tuple(replace(need, id=number) for number, need in enumerate(ordered))


def _of(client: Client, since: float, until: float, rng: Random) -> list[Need]:
    shape = 1.0 / client.variation**2
    gap = 1.0 / (shape * client.rate)
    needs: list[Need] = []
    # A Gamma process that began long ago: the first gap is somewhere in its middle.
    at = since - rng.random() * rng.gammavariate(shape + 1.0, gap)
    while (at := at + rng.gammavariate(shape, gap)) < until:
        prompt, answer = client.prompt.at(rng.random()), client.answer.at(rng.random())
        if at >= since:
            needs.append(Need(len(needs), at, prompt, answer, tenant=client.name, class_=client.class_))
    return needs
