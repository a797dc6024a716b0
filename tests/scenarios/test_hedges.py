"""Hedges: what a short tail costs with one of two clouds slow now and then, and that a full fleet sees none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import HedgeRules, Limits
from gateway.sim.knees import KINDS
from gateway.sim.rehearse import Rehearsal, Watch, plan_of, rehearse
from gateway.sim.scenario import pressing
from gateway.sim.score import Terms, percentile
from gateway.sim.stage import Stage, Step

Note = Callable[[str], None]
KIND = next(kind for kind in KINDS if kind.profile.name == "h200-wide")
NAMES = "ab"
FLEET = Fleet(tuple(replace(KIND.profile, name=name) for name in NAMES))
STREAMS = KIND.times(1.0)
TERMS = Terms(5.0, 3.0)
LASTS, LEARNING = 300.0, 40.0
SLOW_EVERY, SLOW_FOR, DRAG = 6.0, 0.5, 30.0


class Hedged(Watch):
    """How full the fleet was at each hedge, by the clouds' own count."""

    every = 0.05

    def __init__(self) -> None:
        self.uses: list[float] = []
        self._seen: tuple[Dispatcher, Stage] | None = None

    def tick(self, dispatcher: Dispatcher, stage: Stage, now: float) -> None:
        self._seen = (dispatcher, stage)

    def sent(self, cloud: Cloud, now: float) -> None:
        if self._seen is not None:
            dispatcher, stage = self._seen
            if dispatcher.snapshot(now).totals.hedged > len(self.uses):
                flying = sum(cloud.in_flight for cloud in stage.clouds.values())
                self.uses.append(flying / (len(NAMES) * STREAMS))


def run(load: float, hedge: HedgeRules | None, seed: int, *, slow: bool, watch: Watch | None = None) -> Rehearsal:
    """So much of what both clouds bear is asked of them; `slow`: one of them, now and then."""
    limits = {name: Limits(streams=STREAMS) for name in NAMES}
    plan = plan_of(FLEET, TERMS, limits=limits, learn="within", max_length=400, hedge=hedge)
    starts = [LEARNING + n * SLOW_EVERY for n in range(int((LASTS - LEARNING) / SLOW_EVERY))] if slow else []
    ill, well = partial(replace, fail="slow", drag=DRAG), partial(replace, fail="")
    steps = tuple(Step(at, "a", how) for start in starts for at, how in ((start, ill), (start + SLOW_FOR, well)))
    needs = pressing(KIND, len(NAMES) * load, LASTS, seed)
    return rehearse(plan, FLEET, needs, (), seed, steps=steps, watch=watch)


def firsts(runs: list[Rehearsal]) -> list[float]:
    return [r.ttft for run in runs for r in run.records if r.ttft is not None and r.need.at >= LEARNING]


def tokens(runs: list[Rehearsal]) -> int:
    return sum(stats.tokens_in + stats.tokens_out for run in runs for stats in run.clouds.values())


def amplification(runs: list[Rehearsal]) -> float:
    return sum(r.attempts for run in runs for r in run.records) / sum(
        r.attempts > 0 for run in runs for r in run.records
    )


def test_the_tail_is_cut_by_a_third_at_two_percent_more_tokens(note: Note) -> None:
    without = [run(0.5, None, seed, slow=True) for seed in (1, 2, 3)]
    hedged = [run(0.5, HedgeRules(), seed, slow=True) for seed in (1, 2, 3)]
    before, after = firsts(without), firsts(hedged)
    more = tokens(hedged) / tokens(without) - 1.0
    (p99, cut), (p50, same) = [
        (percentile(before, share) or 0.0, percentile(after, share) or 0.0) for share in (0.99, 0.5)
    ]
    granted, won = (sum(getattr(r.view.totals, name) for r in hedged) for name in ("hedged", "hedges_won"))
    note(
        f"hedges, one of two clouds slow now and then: TTFT p99 {p99:.2f} s -> {cut:.2f} s ({cut / p99 - 1.0:+.0%}), "
        f"p50 {p50:.3f} s -> {same:.3f} s, longest {max(before):.2f} s -> {max(after):.2f} s; {granted} hedges, "
        f"{won} won, tokens {more:+.2%}, amplification {amplification(hedged):.3f}"
    )
    assert cut <= 0.7 * p99
    assert same <= 1.05 * p50
    assert more <= 0.02
    assert amplification(hedged) <= 1.02
    assert {r.status for run in hedged for r in run.records} == {"served"}
    assert all(stats.overruns == {} and stats.in_flight == 0 for run in hedged for stats in run.clouds.values())


def test_in_calm_nobody_is_asked_twice(note: Note) -> None:
    calm = run(0.5, HedgeRules(), 1, slow=False)
    note(f"hedges in calm: {calm.view.totals.hedged}, amplification {amplification([calm]):.3f}")
    assert amplification([calm]) <= 1.02


def test_a_fleet_that_is_full_is_not_asked_for_more(note: Note) -> None:
    counts = {}
    for load in (0.85, 0.95, 3.0):
        watch = Hedged()
        found = run(load, HedgeRules(), 1, slow=True, watch=watch)
        counts[load] = found.view.totals.hedged
        assert len(watch.uses) == counts[load]
        assert max(watch.uses, default=0.0) <= 0.85
        assert all(stats.overruns == {} for stats in found.clouds.values())
    note(f"hedges by load, none with more than 85 % in use: {counts}")
    assert counts[3.0] == 0
