"""The demo's closing report: every figure is a fold over the records of clients or over the clouds' own counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from gateway.clouds.profiles import Fleet
from gateway.sim.bound import bound
from gateway.sim.clairvoyant import replay
from gateway.sim.demand import Outage, Scene
from gateway.sim.score import Record, Score, Terms, percentile, score

PROMPT = 0.050
"""seconds within which a refused client has its answer"""
_HARD = ("streams", "rpm", "rps", "ramp")
"""limits whose peak counts every arrival, refused ones too"""


@dataclass(frozen=True, slots=True)
class CloudReport:
    """One cloud: `peaks` and `limits` by kind, `refused` what it said no to by kind; `torn` by the crash."""

    name: str
    served: int
    spilled: int
    torn: int
    unreachable: int
    refused: Mapping[str, int]
    overruns: Mapping[str, int]
    peaks: Mapping[str, int]
    limits: Mapping[str, int]

    @property
    def above(self) -> list[str]:
        """Limits above which it has seen us, by its own count."""
        over = [kind for kind in _HARD if kind in self.limits and self.peaks.get(kind, 0) > self.limits[kind]]
        return sorted({*over, *(kind for kind, count in self.overruns.items() if count)})


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and whether it was kept."""

    promise: str
    kept: bool
    found: str


@dataclass(frozen=True, slots=True)
class Report:
    """Tokens, seconds, requests. `share`: of the clairvoyant's goodput; `floor`: what it must reach."""

    seed: int
    lasts: float
    score: Score
    clairvoyant: Score
    bound: float
    share: float
    floor: float
    ttft: Mapping[str, float | None]
    clairvoyant_ttft: Mapping[str, float | None]
    refusal: Mapping[str, float | None]
    failures: Mapping[str, int]
    waited_in_vain: int
    told: int
    generator_late: float
    clouds: tuple[CloudReport, ...]

    @property
    def checks(self) -> list[Check]:
        """What decides the exit code."""
        above = [f"{cloud.name} {kind}" for cloud in self.clouds for kind in cloud.above]
        said_no = {
            f"{cloud.name} {kind}": count
            for cloud in self.clouds
            for kind, count in cloud.refused.items()
            if kind != "crash"
        }
        refused = self.score.turned_away
        return [
            Check("no request reached a cloud above a limit", not above, ", ".join(above) or "0 overruns"),
            Check(
                "no cloud had to refuse",
                not said_no,
                ", ".join(f"{count} × {kind}" for kind, count in said_no.items()) or "0 refusals",
            ),
            Check(
                f"goodput at least {self.floor:.0%} of the clairvoyant's", self.share >= self.floor, f"{self.share:.1%}"
            ),
            Check(
                "every refused client was told when to come again", self.told == refused, f"{self.told} of {refused}"
            ),
        ]

    @property
    def passed(self) -> bool:
        return all(check.kept for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for a machine."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks], "passed": self.passed}


def spread(values: list[float]) -> dict[str, float | None]:
    """p50, p95 and p99."""
    return {f"p{round(100 * share)}": percentile(values, share) for share in (0.5, 0.95, 0.99)}


def fold(
    seed: int,
    floor: float,
    fleet: Fleet,
    scene: Scene,
    outages: tuple[Outage, ...],
    terms: Terms,
    records: list[Record],
    stats: Mapping[str, Mapping[str, Any]],
    status: Mapping[str, Any],
    generator_late: float,
) -> Report:
    """Judge a run. `outages`: as they really happened; `stats`: the clouds' counts; `status`: the gateway's view."""
    ours = score(records, terms)
    seen = replay(fleet, scene.needs, outages, terms, seed)
    theirs = score(seen, terms)
    refused = [record for record in records if record.status == "refused"]
    backends = {backend["name"]: backend for backend in status["fleet"]["backends"]}
    return Report(
        seed=seed,
        lasts=scene.lasts,
        score=ours,
        clairvoyant=theirs,
        bound=bound(fleet, scene.needs, outages, terms),
        share=ours.goodput / theirs.goodput if theirs.goodput else 1.0,
        floor=floor,
        ttft=spread(_ttfts(records)),
        clairvoyant_ttft=spread(_ttfts(seen)),
        refusal=spread([record.decided for record in refused]),
        failures=dict(Counter(record.reason for record in records if record.status == "failed")),
        waited_in_vain=sum(record.queued > PROMPT for record in refused),
        told=sum(record.told for record in refused),
        generator_late=generator_late,
        clouds=tuple(_cloud(name, stats[name], backends[name]["counters"]) for name in stats),
    )


def _ttfts(records: list[Record]) -> list[float]:
    return [record.ttft for record in records if record.status == "served" and record.ttft is not None]


def _cloud(name: str, stats: Mapping[str, Any], counters: Mapping[str, int]) -> CloudReport:
    return CloudReport(
        name=name,
        served=stats["completed"],
        spilled=counters["spilled_in"],
        torn=stats["cut"],
        unreachable=max(0, counters["granted"] - stats["requests"]),
        refused=stats["refused"],
        overruns=stats["overruns"],
        peaks={kind: stats["peak"].get(kind, 0) for kind in (*_HARD, "tpm", "tps")},
        limits={kind: limit for kind, limit in stats["limits"].items() if kind != "slots"},
    )
