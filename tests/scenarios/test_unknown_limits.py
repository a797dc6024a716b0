"""Any cloud is learnt within half a minute, from nothing and from a tenfold wrong start, and then used as it can be."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest

from gateway.core.nouns import Limits
from gateway.sim.knees import KINDS, Kind, alone
from gateway.sim.rehearse import plan_of
from gateway.sim.scenario import Course, play, pressing
from gateway.sim.score import Terms

TERMS = Terms(5.0, 3.0)
NEAR = 0.1
"""How near to the knee, on average over the 15 s after the first 30."""


def learn(kind: Kind, start: float, until: float = 45.0) -> Course:
    fleet = alone(kind)
    limits = {kind.profile.name: Limits(streams=kind.times(start))} if start else {}
    plan = plan_of(fleet, TERMS, limits=limits, learn="beyond" if start else "within", max_length=200)
    return play(plan, fleet, pressing(kind, 10.0, until), until=until)


@pytest.mark.parametrize("start", [0.0, 0.1, 10.0], ids=["unknown", "a tenth", "tenfold"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.profile.name)
def test_the_knee_is_found_within_thirty_seconds(kind: Kind, start: float, note: Callable[[str], None]) -> None:
    course = learn(kind, start)
    name = kind.profile.name
    learnt = fmean(course.limits(name, 30.0, 45.0)) / kind.knee
    used = course.rate(30.0, 45.0) / kind.tokens
    note(
        f"{name:12} from {start or 'nothing':>7}: limit {learnt:4.2f} of the knee, within 10 % since "
        f"{course.settled(name, kind.knee):4.1f} s, tokens {used:4.2f} of the knee's, overload {course.over():5.1%}, "
        f"overload after 30 s {course.over(30.0):5.1%}"
    )
    assert abs(learnt - 1.0) <= NEAR
    assert course.settled(name, kind.knee) <= 30.0
    assert used >= 0.96
    assert course.refused == 0
