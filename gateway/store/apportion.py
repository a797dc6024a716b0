"""Who should have how much of one limit: pure arithmetic, exact in integers, the same in `shares.lua`.

Max-min fair over what each wants (progressive filling): small wishes are met in full, the rest is divided evenly.
Two additions: where the even part is too small to start anything (one stream among three replicas, a long prompt
against a small token limit) one hungry replica at a time, by turns, gets what its next start needs; and what nobody
wants is half spread evenly, so that an idle replica starts at once, and half kept, so that a burst finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RESERVE = 100
"""An idle replica keeps its even part of 1/RESERVE of the limit even when others could use it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one replica uses, wants in all, and needs on top of its use to start anything."""

    name: str
    used: int
    want: int
    unit: int


def apportion(amount: int, wishes: Sequence[Wish], turn: int) -> dict[str, int]:
    """Divide `amount`; the sum never exceeds it. `turn` breaks ties."""
    ordered = sorted(wishes, key=lambda w: w.name)
    count = len(ordered)
    if not count or amount <= 0:
        return {w.name: 0 for w in ordered}
    start = turn % count
    ordered = ordered[start:] + ordered[:start]
    reserve = amount // (RESERVE * count)
    wants = [max(w.want, reserve) for w in ordered]
    parts, rest = fill(amount, wants)
    if rest > 0:
        spare = rest // 2 // count or (1 if rest >= count else 0)
        return {w.name: part + spare for w, part in zip(ordered, parts, strict=True)}
    chosen = _whose_turn(amount, ordered, parts)
    if chosen is not None:
        first = min(amount, ordered[chosen].used + ordered[chosen].unit)
        wants[chosen] = 0
        parts, _ = fill(amount - first, wants)
        parts[chosen] = first
    return {w.name: part for w, part in zip(ordered, parts, strict=True)}


def fill(amount: int, wants: Sequence[int]) -> tuple[list[int], int]:
    """Max-min fair parts and what is left over. Odd units go to the largest wishes, last in order first."""
    parts = [0] * len(wants)
    left = len(wants)
    for i in sorted(range(len(wants)), key=lambda i: (wants[i], i)):
        parts[i] = min(wants[i], amount // left)
        amount -= parts[i]
        left -= 1
    return parts, amount


def _whose_turn(amount: int, ordered: Sequence[Wish], parts: Sequence[int]) -> int | None:
    """The first that waits for room, uses no more than its part, and whose part would not hold a single start."""
    for i, wish in enumerate(ordered):
        if wish.want > wish.used and wish.used <= parts[i] < min(amount, wish.unit):
            return i
    return None
