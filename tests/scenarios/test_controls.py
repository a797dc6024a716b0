"""The same surge without learning: figures mean something only beside those of what else could be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.core.nouns import Learn, Limits
from gateway.sim.clairvoyant import replay
from gateway.sim.knees import KINDS, alone
from gateway.sim.rehearse import plan_of
from gateway.sim.scenario import Course, Gradient, play, pressing
from gateway.sim.score import Terms, score

KIND = next(kind for kind in KINDS if kind.profile.name == "h200-wide")
TERMS = Terms(5.0, 3.0)
LASTS = 75.0


@pytest.fixture(scope="module")
def judge() -> Callable[[str, float | None, Learn, bool], tuple[float, Course]]:
    """Name, declared streams, what may be learnt, with the gradient: E against a clairvoyant queue, and the course."""
    fleet = alone(KIND)
    needs = pressing(KIND, 5.0, LASTS)
    told = alone(KIND, limits=Limits(streams=KIND.times(1.0)))
    best = score(replay(told, needs, (), TERMS, 1), TERMS).goodput

    def run(name: str, streams: float | None, learn: Learn, gradient: bool) -> tuple[float, Course]:
        limits = Limits(streams=None if streams is None else KIND.times(streams))
        plan = plan_of(fleet, TERMS, limits={KIND.profile.name: limits}, learn=learn, max_length=400)
        meddle = Gradient(KIND.profile.name) if gradient else None
        course = play(plan, fleet, needs, until=LASTS + 120.0, meddle=meddle)
        return score(course.run.records, TERMS).goodput / best, course

    return run


@pytest.mark.parametrize(
    ("name", "streams", "learn", "gradient", "least", "most"),
    [
        ("learnt from nothing", None, "within", False, 0.80, 1.05),
        ("declared truly", 1.0, "within", False, 0.95, 1.05),
        ("declared twice too high, learnt", 2.0, "within", False, 0.80, 1.05),
        ("control: no limiter", None, "off", False, 0.0, 0.3),
        ("control: static at 50 %", 0.5, "off", False, 0.4, 0.9),
        ("control: static at 100 %", 1.0, "off", False, 0.95, 1.05),
        ("control: static at 200 %", 2.0, "off", False, 0.0, 0.6),
        ("control: gradient on completion times", None, "off", True, 0.0, 0.9),
    ],
)
def test_learning_beats_what_it_replaces(
    judge: Callable[[str, float | None, Learn, bool], tuple[float, Course]],
    note: Callable[[str], None],
    name: str,
    streams: float | None,
    learn: Learn,
    gradient: bool,
    least: float,
    most: float,
) -> None:
    share, course = judge(name, streams, learn, gradient)
    note(f"{name:38} E {share:5.2f}, overload {course.over():6.1%}, amplification {course.amplification:5.3f}")
    assert least <= share <= most
