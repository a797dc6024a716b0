"""The formulas: how long a token takes, how long an answer is. Plain functions; chance is handed in.

TPOT(B) = t0 + k·B is linear in the batch because decoding is bound by memory traffic: weights once per step,
key-value caches once per sequence.
"""

from __future__ import annotations

from math import log
from random import Random
from typing import TypeVar

from gateway.clouds.profiles import Answer, Laws

_T = TypeVar("_T")


def spread(laws: Laws, rng: Random) -> float:
    """A factor around 1, uniform within the laws' jitter."""
    return 1.0 + laws.jitter * (2.0 * rng.random() - 1.0) if laws.jitter else 1.0


def per_token(laws: Laws, running: int) -> float:
    """Seconds from one token of a stream to its next while `running` sequences are computed."""
    return laws.t0 + laws.k * running


def prefill(laws: Laws, tokens: int) -> float:
    """Seconds of the prefill engine for so many prompt tokens that no cache holds."""
    return tokens / laws.prefill


def length(answer: Answer, max_tokens: int | None, rng: Random) -> tuple[int, bool]:
    """Tokens of one answer, and whether `max_tokens` is what ended it."""
    drawn = rng.lognormvariate(log(answer.median), answer.sigma) if answer.sigma else answer.median
    natural = min(max(1, round(drawn)), answer.most)
    if max_tokens is not None and max_tokens < natural:
        return max(1, max_tokens), True
    return natural, False


def thoughts(answer: Answer, tokens: int) -> int:
    """How many of an answer's tokens are thoughts; at least one token is left for the answer itself."""
    return min(round(answer.reasoning * tokens), tokens - 1)


def pick(odds: tuple[tuple[_T, float], ...], rng: Random) -> _T | None:
    """At most one of several exclusive chances. Draws nothing when there are none."""
    if not odds:
        return None
    dice = rng.random()
    for what, share in odds:
        if dice < share:
            return what
        dice -= share
    return None
