"""Scenarios for a learner: a plan, clouds that change, demand far above what they bear; and the figures to judge by.

All in virtual time and from one seed. A scenario is judged over windows of its time, since an answer may take longer
than the claim that is made about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from random import Random

from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Limits, Plan, Shares
from gateway.sim.demand import Need, Outage
from gateway.sim.knees import Kind, knee
from gateway.sim.rehearse import Rehearsal, Watch, rehearse
from gateway.sim.score import Record
from gateway.sim.stage import Stage, Step

SLACK, LEAST_SLACK = 0.1, 3.0
"""In flight above the knee by this share of it, or by so many streams, is too much: more than a learner's doubt."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A second of a run: by cloud what was learnt, what is in flight, and tokens out since the start."""

    at: float
    learnt: dict[str, float]
    in_flight: dict[str, int]
    tokens: dict[str, int]


@dataclass
class Ledger(Watch):
    """Notes what a scenario is judged by. `meddle` lets a control adjust limits each time a request ends.

    `full_at`: a request was sent although as many were in flight as the cloud bears, the strictest notion of too much,
    by which every trial of one stream more counts; `over_at`: by `SLACK` more than that.
    """

    every: float = 0.5
    meddle: Callable[[Dispatcher, Record], None] | None = None
    moments: list[Moment] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    over_at: list[float] = field(default_factory=list)
    full_at: list[float] = field(default_factory=list)

    def sent(self, cloud: Cloud, now: float) -> None:
        self.sent_at.append(now)
        truth = knee(cloud.profile)
        if cloud.in_flight >= truth:
            self.full_at.append(now)
        if cloud.in_flight >= truth + max(SLACK * truth, LEAST_SLACK):
            self.over_at.append(now)

    def ended(self, dispatcher: Dispatcher, record: Record) -> None:
        if self.meddle is not None:
            self.meddle(dispatcher, record)

    def tick(self, dispatcher: Dispatcher, stage: Stage, now: float) -> None:
        accounts = dispatcher.snapshot(now).accounts
        self.moments.append(
            Moment(
                now,
                {a.name: inf if a.learnt is None else a.learnt for a in accounts},
                {name: cloud.in_flight for name, cloud in stage.clouds.items()},
                {name: cloud.stats(now).tokens_out for name, cloud in stage.clouds.items()},
            )
        )


@dataclass(frozen=True, slots=True)
class Course:
    """A scenario that has run."""

    run: Rehearsal
    ledger: Ledger

    def limits(self, cloud: str, since: float, until: float) -> list[float]:
        """What was learnt, every half second."""
        return [m.learnt[cloud] for m in self.ledger.moments if since <= m.at <= until]

    def settled(self, cloud: str, truth: float, within: float = 0.1) -> float:
        """Since when a running mean of 5 s of what was learnt has stayed within a share of the truth; `inf`: not."""
        moments = self.ledger.moments
        since = inf
        for place, moment in enumerate(moments):
            recent = [m.learnt[cloud] for m in moments[max(0, place - 9) : place + 1]]
            off = abs(sum(recent) / len(recent) / truth - 1.0)
            since = inf if off > within else min(since, moment.at)
        return since

    def rate(self, since: float, until: float) -> float:
        """Output tokens per second of all clouds."""
        window = [m for m in self.ledger.moments if since <= m.at <= until]
        first, last = window[0], window[-1]
        return (sum(last.tokens.values()) - sum(first.tokens.values())) / (last.at - first.at)

    def over(self, since: float = 0.0, until: float = inf) -> float:
        """Share of the dispatches that went to a cloud which had too much already."""
        sent = sum(since <= t < until for t in self.ledger.sent_at)
        return sum(since <= t < until for t in self.ledger.over_at) / max(sent, 1)

    @property
    def refused(self) -> float:
        """Upstream refusals per dispatch."""
        refused = sum(sum(stats.refused.values()) for stats in self.run.clouds.values())
        return refused / max(1, len(self.ledger.sent_at))

    @property
    def amplification(self) -> float:
        """Attempts per request that was attempted at all."""
        tried = [record.attempts for record in self.run.records if record.attempts]
        return sum(tried) / max(1, len(tried))


def pressing(kind: Kind, times: float, lasts: float, seed: int = 1) -> tuple[Need, ...]:
    """Poisson arrivals of `times` what the knee serves; prompts and answers vary by half of the kind's."""
    rng, rate, now = Random(seed), times * kind.tokens / kind.answer, 0.0
    needs: list[Need] = []
    while (now := now + rng.expovariate(rate)) < lasts:
        prompt, answer = (round(size * rng.uniform(0.5, 1.5)) for size in (kind.prompt, kind.answer))
        needs.append(Need(len(needs), now, prompt, answer))
    return tuple(needs)


def play(
    plan: Plan,
    fleet: Fleet,
    needs: tuple[Need, ...],
    *,
    until: float,
    outages: tuple[Outage, ...] = (),
    steps: tuple[Step, ...] = (),
    meddle: Callable[[Dispatcher, Record], None] | None = None,
    seed: int = 1,
) -> Course:
    """Run it."""
    ledger = Ledger(meddle=meddle)
    return Course(rehearse(plan, fleet, needs, outages, seed, steps=steps, watch=ledger, until=until), ledger)


class Gradient:
    """A control: the gradient limiter on *completion* times that services without streams use.

    limit ← limit × clamp(long / recent, ½, 1) + 4, smoothed by a fifth, at each completion. Answer lengths differ, so a
    long answer reads as congestion, and news of congestion is as old as an answer is long.
    """

    def __init__(self, cloud: str, start: float = 20.0) -> None:
        self._cloud = cloud
        self.limit = start
        self._long = 0.0

    def __call__(self, dispatcher: Dispatcher, record: Record) -> None:
        """A request ended; tell the dispatcher the new limit as if it were a share."""
        if record.status != "served":
            return
        took = record.decided
        self._long = took if not self._long else self._long + (took - self._long) / 100
        gradient = min(1.0, max(0.5, self._long / took))
        self.limit += 0.2 * (gradient * self.limit + 4.0 - self.limit)
        self.limit = min(max(self.limit, 4.0), 1000.0)
        dispatcher.apply(Shares({self._cloud: Limits(streams=int(self.limit))}), record.ended)
