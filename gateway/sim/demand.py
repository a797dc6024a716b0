"""What clients want: open-loop demand in phases, drawn from one seed.

Gaps between arrivals are Gamma with a coefficient of variation above one, since real traffic comes in clumps and
Poisson hides the trouble. Answer lengths are decided here (clients send them as `max_tokens`), so that every judge
of a run knows exactly what was asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from random import Random

from gateway.core.nouns import ServiceClass

CLUMPS = 1.5
"""coefficient of variation of the gaps"""
PROMPTS = ((0.55, 40, 120), (0.35, 120, 320), (0.10, 320, 800))
"""share, least and most prompt tokens"""
ANSWER_MEDIAN, ANSWER_SIGMA, ANSWER_LEAST, ANSWER_MOST = 105.0, 0.3, 50, 200
STREAMED = 0.75


@dataclass(frozen=True, slots=True)
class Need:
    """One request: when it arrives (seconds from the start), its prompt and answer in tokens, how and by whom."""

    id: int
    at: float
    prompt: int
    answer: int
    stream: bool = True
    tenant: str = "demo"
    class_: ServiceClass = "standard"


@dataclass(frozen=True, slots=True)
class Phase:
    """`rate` requests per second for `lasts` seconds."""

    name: str
    starts: float
    lasts: float
    rate: float

    @property
    def ends(self) -> float:
        return self.starts + self.lasts


@dataclass(frozen=True, slots=True)
class Outage:
    """One cloud is gone from `starts` to `ends`: what runs there is torn off, and nobody answers."""

    cloud: str
    starts: float
    ends: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole rehearsal's outside world."""

    phases: tuple[Phase, ...]
    needs: tuple[Need, ...]
    outages: tuple[Outage, ...]

    @property
    def lasts(self) -> float:
        return self.phases[-1].ends

    def phase(self, at: float) -> str:
        """The name of the phase at a time; "drain" after the last."""
        return next((phase.name for phase in self.phases if at < phase.ends), "drain")


def mean_answer() -> float:
    """Expected answer length in tokens (clipping left out: it moves the mean by less than a token)."""
    return ANSWER_MEDIAN * exp(ANSWER_SIGMA**2 / 2)


def mean_prompt() -> float:
    """Expected prompt length in tokens."""
    return sum(share * (least + most) / 2 for share, least, most in PROMPTS)


def surge(
    capacity: float,
    outage: str,
    seed: int,
    *,
    times: float = 6.0,
    calm: float = 8.0,
    peak: float = 20.0,
    out: float = 6.0,
) -> Scene:
    """Calm at half the fleet's `capacity` (requests/s), a surge of `times` the capacity, calm again.

    Cloud `outage` (empty: none) fails for `out` seconds in the middle of the surge. All lengths in seconds.
    """
    phases = (
        Phase("calm", 0.0, calm, capacity / 2),
        Phase("surge", calm, peak, capacity * times),
        Phase("recovery", calm + peak, calm, capacity / 2),
    )
    begins = calm + (peak - out) / 2
    outages = (Outage(outage, begins, begins + out),) if outage else ()
    return Scene(phases, draw(phases, Random(seed)), outages)


def draw(phases: tuple[Phase, ...], rng: Random) -> tuple[Need, ...]:
    """The arrivals of some phases, in order."""
    shape = 1.0 / CLUMPS**2
    needs: list[Need] = []
    for phase in phases:
        at = phase.starts
        while True:
            at += rng.gammavariate(shape, 1.0 / (shape * phase.rate))
            if at >= phase.ends:
                break
            needs.append(Need(len(needs), at, _prompt(rng), _answer(rng), rng.random() < STREAMED))
    return tuple(needs)


def _prompt(rng: Random) -> int:
    shares = [share for share, _, _ in PROMPTS]
    _, least, most = rng.choices(PROMPTS, shares)[0]
    return rng.randint(least, most)


def _answer(rng: Random) -> int:
    drawn = round(rng.lognormvariate(log(ANSWER_MEDIAN), ANSWER_SIGMA))
    return min(max(drawn, ANSWER_LEAST), ANSWER_MOST)
