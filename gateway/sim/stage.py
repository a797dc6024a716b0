"""The pretend clouds of one fleet in virtual time, with the outages of a scene played on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from random import Random

from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Answer, Fleet, Profile
from gateway.clouds.tickets import Event
from gateway.sim.demand import Outage

AS_ASKED = Answer(median=1e9, sigma=0.0, most=1_000_000)
"""Answers that only `max_tokens` ends, so that demand alone decides their length."""


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on a cloud is different: `become` makes its new profile of the old one."""

    at: float
    cloud: str
    become: Callable[[Profile], Profile]


class Stage:
    """Clouds by name, each with its own seeded chance. `next` says when something happens, `advance` what did."""

    def __init__(self, fleet: Fleet, outages: Iterable[Outage], seed: int, steps: Iterable[Step] = ()) -> None:
        self.clouds = {
            profile.name: Cloud(
                replace(profile, answer=replace(AS_ASKED, reasoning=profile.answer.reasoning)),
                Random(f"{seed}/{profile.name}"),
            )
            for profile in fleet.clouds
        }
        crash, heal = partial(replace, fail="crash"), partial(replace, fail="")
        edges = [
            Step(at, outage.cloud, become)
            for outage in outages
            for at, become in ((outage.starts, crash), (outage.ends, heal))
        ]
        self._edges = sorted([*edges, *steps], key=lambda step: step.at)

    def next(self) -> float:
        """When the next event or outage edge is, `inf` if never."""
        due = [at for cloud in self.clouds.values() if (at := cloud.next_due()) is not None]
        return min(min(due, default=inf), self._edges[0].at if self._edges else inf)

    def advance(self, now: float) -> list[tuple[str, Event]]:
        """Everything that happened up to `now`; call it at least at every time that `next` names."""
        happened = [(name, event) for name, cloud in self.clouds.items() for event in cloud.due(now)]
        while self._edges and self._edges[0].at <= now:
            step = self._edges.pop(0)
            cloud = self.clouds[step.cloud]
            happened += [(step.cloud, event) for event in cloud.change(step.become(cloud.profile), now)]
        return happened
