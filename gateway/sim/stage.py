"""The pretend clouds of one fleet in virtual time, with the outages of a scene played on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf
from random import Random

from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Answer, Fleet
from gateway.clouds.tickets import Event
from gateway.sim.demand import Outage

AS_ASKED = Answer(median=1e9, sigma=0.0, most=1_000_000)
"""Answers that only `max_tokens` ends, so that demand alone decides their length."""


class Stage:
    """Clouds by name, each with its own seeded chance. `next` says when something happens, `advance` what did."""

    def __init__(self, fleet: Fleet, outages: Iterable[Outage], seed: int) -> None:
        self.clouds = {
            profile.name: Cloud(
                replace(profile, answer=replace(AS_ASKED, reasoning=profile.answer.reasoning)),
                Random(f"{seed}/{profile.name}"),
            )
            for profile in fleet.clouds
        }
        self._edges = sorted(
            (at, outage.cloud, mode) for outage in outages for at, mode in ((outage.starts, "crash"), (outage.ends, ""))
        )

    def next(self) -> float:
        """When the next event or outage edge is, `inf` if never."""
        due = [at for cloud in self.clouds.values() if (at := cloud.next_due()) is not None]
        return min(min(due, default=inf), self._edges[0][0] if self._edges else inf)

    def advance(self, now: float) -> list[tuple[str, Event]]:
        """Everything that happened up to `now`; call it at least at every time that `next` names."""
        happened = [(name, event) for name, cloud in self.clouds.items() for event in cloud.due(now)]
        while self._edges and self._edges[0][0] <= now:
            _, name, mode = self._edges.pop(0)
            cloud = self.clouds[name]
            profile = replace(cloud.profile, fail="crash" if mode else "")
            happened += [(name, event) for event in cloud.change(profile, now)]
        return happened
