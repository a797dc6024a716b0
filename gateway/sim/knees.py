"""Eight kinds of backend with the knees that a learner should find, for rehearsals.

The laws are fits to published measurements of DeepSeek R1/V3 class models, one accelerator (or one small node)
each. The knee is where the engine's slots end, or where one more stream yields less than 15 % of what the first one
yields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from gateway.clouds.profiles import Answer, Fleet, Laws, Profile, Style

WORTH = 0.15


@dataclass(frozen=True, slots=True)
class Kind:
    """A backend and what is asked of it: prompt and answer in tokens."""

    profile: Profile
    prompt: int
    answer: int

    @property
    def knee(self) -> float:
        """Streams beyond which more are not worth it."""
        return knee(self.profile)

    @property
    def tokens(self) -> float:
        """Output tokens per second at the knee."""
        return at(self.profile, self.knee)

    def times(self, factor: float) -> int:
        return max(1, round(self.knee * factor))


def knee(profile: Profile) -> float:
    laws = profile.laws
    pace = laws.t0 * (WORTH**-0.5 - 1.0) / laws.k
    return float(min(pace, profile.slots or inf, profile.limits.streams or inf))


def at(profile: Profile, streams: float) -> float:
    """Output tokens per second with so many streams."""
    return streams / (profile.laws.t0 + profile.laws.k * streams)


def _kind(name: str, t0: float, k: float, prefill: float, slots: int | None, prompt: int, answer: int) -> Kind:
    """`t0`, `k` in milliseconds; prefill in tokens per second; a long silent queue behind the slots."""
    profile = Profile(
        name,
        slots=slots,
        queue=None,
        laws=Laws(t0 / 1000, k / 1000, prefill, net=0.05, jitter=0.1),
        answer=Answer(median=answer, sigma=0.0, most=8192),
        style=Style(tokens_per_event=4, keep_alive=3.0),
    )
    return Kind(profile, prompt, answer)


KINDS = (
    _kind("h20", 21.4, 0.91, 16_500, 32, 4000, 1000),
    _kind("ascend-910c", 13.5, 0.377, 5_655, 48, 1000, 1000),
    _kind("ascend-910b", 30.0, 1.0, 11_500, None, 2000, 1000),
    _kind("h800-day", 17.0, 0.33, 32_200, 88, 1000, 800),
    _kind("h800-wide", 18.0, 0.29, 50_300, None, 2000, 800),
    _kind("h200-wide", 18.0, 0.29, 50_300, 64, 1000, 600),
    _kind("h200-tp8", 18.0, 0.17, 16_500, 128, 1000, 600),
    _kind("h100-awq", 28.0, 1.3, 2_800, None, 250, 500),
)


def alone(kind: Kind, **changes: object) -> Fleet:
    """A fleet of one."""
    return Fleet((replace(kind.profile, **changes),))  # type: ignore[arg-type]
