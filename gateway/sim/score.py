"""How a run is judged: one record per request, whoever served it, and folds over the records.

The live demo, the rehearsal and the clairvoyant all write `Record`s of the same demand under the same `Terms`, and
`good` is the only definition of a good answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from gateway.sim.demand import Need

Status = Literal["served", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What clients accept. `patience`: longest wait for a slot; `first_token`: how long the cloud may then take.

    Seconds. A plain (not streamed) answer shows no first token, so only its wait is judged.
    """

    patience: float
    first_token: float = 2.0


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one request. Times are seconds from the start of the run.

    `first`: its first token arrived (streamed answers only); `queued`: seconds it waited for a slot; `tokens`: what
    was delivered; `told`: a refusal said when to come again.
    """

    need: Need
    status: Status
    ended: float
    first: float | None = None
    queued: float = 0.0
    tokens: int = 0
    attempts: int = 0
    backend: str = ""
    reason: str = ""
    told: bool = False

    @property
    def ttft(self) -> float | None:
        """Seconds from arrival to the first token, for streamed answers."""
        return None if self.first is None else self.first - self.need.at

    @property
    def decided(self) -> float:
        """Seconds from arrival to the answer, without the time spent waiting for a slot."""
        return max(0.0, self.ended - self.need.at - self.queued)


@dataclass(frozen=True, slots=True)
class Score:
    """The sums of one run. `goodput` in output tokens; counts in requests; `amplification` attempts per admitted."""

    offered: int
    served: int
    good: int
    failed: int
    refused: dict[str, int]
    goodput: int
    amplification: float

    @property
    def turned_away(self) -> int:
        return sum(self.refused.values())


def good(record: Record, terms: Terms) -> bool:
    """Was it served whole, and did it begin in time?"""
    if record.status != "served":
        return False
    ttft = record.ttft
    if ttft is None:
        return record.queued <= terms.patience + 1e-9
    return ttft <= terms.patience + terms.first_token + 1e-9


def score(records: Iterable[Record], terms: Terms) -> Score:
    """Fold a run. Only whole answers that began in time count as goodput."""
    offered = served = fine = failed = goodput = admitted = attempts = 0
    refused: Counter[str] = Counter()
    for record in records:
        offered += 1
        attempts += record.attempts
        admitted += record.attempts > 0
        if record.status == "served":
            served += 1
        elif record.status == "failed":
            failed += 1
        else:
            refused[record.reason] += 1
        if good(record, terms):
            fine += 1
            goodput += record.tokens
    return Score(offered, served, fine, failed, dict(refused), goodput, attempts / admitted if admitted else 1.0)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of all do not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
