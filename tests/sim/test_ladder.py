"""What a ladder buys: in a surge, shorter answers for all serve more requests in time. The same code as live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.clouds.fleet import load
from gateway.core.ladder import Rung
from gateway.sim.bound import sustained
from gateway.sim.demand import mean_answer, mean_prompt, surge
from gateway.sim.rehearse import Rehearsal, plan_of, rehearse
from gateway.sim.score import Score, Terms, score

CLOUDS = Path(__file__).parents[2] / "policies" / "clouds-demo.yaml"
TERMS = Terms(patience=3.0, first_token=3.0)
SEEDS = (1, 2, 3)
CAP = 60
LADDER = (Rung(0.9, max_tokens=CAP),)


def run(ladder: tuple[Rung, ...], seed: int, times: float) -> tuple[Score, Rehearsal]:
    fleet = load(CLOUDS)
    plan = plan_of(fleet, TERMS)
    plan = replace(plan, policies={"surge": replace(plan.policies["surge"], ladder=ladder)})
    play = surge(sustained(fleet, mean_answer(), mean_prompt()), "", seed, times=times)
    done = rehearse(plan, fleet, play.needs, seed=seed)
    return score(done.records, TERMS), done


def test_in_a_surge_a_ladder_serves_more_requests_in_time() -> None:
    for seed in SEEDS:
        without, _ = run((), seed, 2.5)
        with_, done = run(LADDER, seed, 2.5)
        assert with_.good >= 1.2 * without.good
        short = [record for record in done.records if record.status == "served" and record.tokens < record.need.answer]
        assert {record.tokens for record in short} == {CAP}


def test_in_calm_it_changes_nothing() -> None:
    assert run((), 1, 0.8) == run(LADDER, 1, 0.8)
