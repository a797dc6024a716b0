"""Rules of a policy that `nouns` has no room for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AffinityRules:
    """Prompts go where their beginning was sent in the last `keep` seconds, at least, while that backend carries at
    most `bound` times its part of the load. `ignore`: a regular expression of what is cut out of a beginning first."""

    keep: float = 1200.0
    bound: float = 1.25
    ignore: str = ""
