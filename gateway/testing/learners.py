"""Several replicas in virtual time: real dispatchers, desks and shares over one store, and one stage of pretend clouds.

The rehearsal's own shell carries verdicts out; what is added is asyncio in virtual time, so that the very tasks that
renew shares and lessons run, and requests that are spread over the replicas.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Plan
from gateway.pipeline.desk import Desk
from gateway.pipeline.live import Live
from gateway.pipeline.sharing import Sharing
from gateway.sim.demand import Need
from gateway.sim.knees import knee
from gateway.sim.rehearse import Shell, Watch
from gateway.sim.stage import Stage, Step
from gateway.store.base import Grant, Report
from gateway.store.memory import MemoryStore
from gateway.testing import virtual_time

STRIDE = 0.01
"""Seconds after which shares and lessons that came in are looked at, if nothing else happens."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What each living replica believes of the one cloud, and what the cloud has."""

    at: float
    learnt: tuple[float, ...]
    probers: int
    in_flight: int
    tokens: int


@dataclass
class Watching(Watch):
    """Counts dispatches, and those that reach a cloud which has all it bears, or a tenth more than that."""

    sent_at: list[float] = field(default_factory=list)
    full_at: list[float] = field(default_factory=list)
    over_at: list[float] = field(default_factory=list)

    def sent(self, cloud: Cloud, now: float) -> None:
        self.sent_at.append(now)
        truth = knee(cloud.profile)
        if cloud.in_flight >= truth:
            self.full_at.append(now)
        if cloud.in_flight >= truth + max(0.1 * truth, 3.0):
            self.over_at.append(now)


class CountingStore(MemoryStore):
    """Counts what Redis would be asked: a script for each report, and one more for each lesson."""

    calls = 0

    def tell(self, reports: Sequence[Report]) -> list[Grant]:
        self.calls += sum(1 if report.lesson is None else 2 for report in reports)
        return super().tell(reports)


class Replica:
    """One process: everything but the sockets."""

    def __init__(
        self, plan: Plan, stage: Stage, seed: int, watch: Watch, store: MemoryStore, expected: int, name: str
    ) -> None:
        loop = asyncio.get_running_loop()
        self.shell = Shell(plan, stage, seed, watch, {}, False)
        self.desk = Desk(self.shell.dispatcher, loop.time)
        live = Live(_no_lines)
        self.sharing = Sharing(self.desk, live, store, replicas=expected, name=name)
        before = asyncio.all_tasks()
        self.sharing.start()
        self._tasks = asyncio.all_tasks() - before
        self.dead = False

    @property
    def dispatcher(self) -> Dispatcher:
        return self.shell.dispatcher

    def refresh(self, now: float) -> None:
        if now >= self.desk.fence:
            self.desk.refresh(now)

    def hungry(self) -> None:
        """Somebody waits: a larger share would help."""
        if self.shell.waiting:
            for name in self.dispatcher.meters:
                self.sharing.sharer.nudge(name)

    async def die(self, stage: Stage, now: float) -> None:
        """As a killed process: its sockets close, its tasks stop, and it tells nobody."""
        self.dead = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ticket, ride in self.shell.running.items():
            assert ride.lease is not None
            stage.clouds[ride.lease.backend].leave(ticket, now)


def _no_lines(*_: Any) -> Any:
    raise AssertionError("nothing is dialled here")


@dataclass
class Drama:
    """A run: `deeds` happen at their times, to the replicas as they are then."""

    plan: Plan
    fleet: Fleet
    needs: tuple[Need, ...]
    count: int
    until: float
    seed: int = 1
    steps: tuple[Step, ...] = ()
    deeds: Mapping[float, Callable[[Drama], Any]] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    every: float = 0.5
    moments: list[Moment] = field(default_factory=list)
    watch: Watching = field(default_factory=Watching)
    replicas: list[Replica] = field(default_factory=list)

    def play(self) -> Drama:
        """Run it to its end."""
        with virtual_time() as run:
            run(self._play())
        return self

    @property
    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if not replica.dead]

    def prober(self) -> Replica | None:
        """Who may try for more."""
        return next(
            (r for r in self.living for lesson in r.dispatcher.lessons(self.now).values() if lesson.probe), None
        )

    def join(self) -> Replica:
        """One more replica."""
        number = len(self.replicas)
        replica = Replica(self.plan, self.stage, self.seed + number, self.watch, self.store, self.count, f"r{number}")
        self.replicas.append(replica)
        return replica

    async def _play(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = loop.time()
        self.stage = Stage(self.fleet, (), self.seed, self.steps)
        self.store = CountingStore(loop.time)
        for _ in range(self.count):
            self.join()
        chance, coming, deeds = Random(f"{self.seed}/who"), deque(self.needs), deque(sorted(self.deeds.items()))
        tick = self.every
        while self.now < self.until:
            at = min(coming[0].at if coming else inf, self.stage.next(), self.now + STRIDE)
            # Not less than the loop's own resolution: two that sleep for less keep each other's time from passing.
            await asyncio.sleep(max(1e-6, at - self.now) if at > self.now else 0)
            self.now = now = loop.time()
            self._events(now)
            while coming and coming[0].at <= now:
                weights = self.weights[: len(self.living)] or None
                (replica,) = chance.choices(self.living, weights)
                replica.refresh(now)
                replica.shell.arrive(coming.popleft(), now)
            while deeds and deeds[0][0] <= now:
                done = deeds.popleft()[1](self)
                if done is not None:
                    await done
            for replica in self.living:
                replica.refresh(now)
                replica.shell.due(now)
                replica.hungry()
            if now >= tick:
                self._note(now)
                tick = now + self.every
        for replica in self.living:
            await replica.sharing.aclose()
            replica.desk.close()

    def _events(self, now: float) -> None:
        for _, event in self.stage.advance(now):
            for replica in self.living:
                if event.ticket in replica.shell.running:
                    replica.shell.seen(event)
                    break

    def _note(self, now: float) -> None:
        (cloud,) = self.stage.clouds.values()
        lessons = [lesson for r in self.living for lesson in r.dispatcher.lessons(now).values()]
        learnt = tuple(a.learnt or inf for r in self.living for a in r.dispatcher.snapshot(now).accounts)
        self.moments.append(
            Moment(now, learnt, sum(lesson.probe for lesson in lessons), cloud.in_flight, cloud.stats(now).tokens_out)
        )

    # --- figures ----------------------------------------------------------------------------------------

    def settled(self, truth: float, within: float = 0.1) -> float:
        """Since when every replica's belief (a mean over 5 s) has stayed within a share of the truth."""
        since = inf
        for place, moment in enumerate(self.moments):
            recent = self.moments[max(0, place - 9) : place + 1]
            means = [
                sum(m.learnt[i] for m in recent if i < len(m.learnt)) / len(recent) for i in range(len(moment.learnt))
            ]
            off = max(abs(mean / truth - 1.0) for mean in means)
            since = inf if off > within else min(since, moment.at)
        return since

    def learnt(self, since: float, until: float) -> float:
        """The mean of what was believed."""
        found = [x for m in self.moments if since <= m.at <= until for x in m.learnt]
        return sum(found) / len(found)

    def rate(self, since: float, until: float) -> float:
        """Output tokens per second of the cloud."""
        window = [m for m in self.moments if since <= m.at <= until]
        return (window[-1].tokens - window[0].tokens) / (window[-1].at - window[0].at)

    @property
    def refused(self) -> float:
        """Refusals by the cloud, per dispatch."""
        (cloud,) = self.stage.clouds.values()
        return sum(cloud.stats(self.now).refused.values()) / max(1, len(self.watch.sent_at))
