"""What one replica learns of an account, so that all may know it: values to exchange, and how two of them merge.

Every learnt number has a *mark*: how often it was cut, how often raised since, and the number. Of two marks the one
with more cuts holds, then the one with more raises, then the lower number. So a cut that anybody makes beats every
raise that was made in ignorance of it; of cuts made at once the lower one holds; and since only one replica raises,
raises do not compete. This is the maximum of a total order: merging is commutative, associative and idempotent, and
needs neither clocks nor an order of arrival. A store that lost everything is taught anew by whoever speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

LearntKind = Literal["streams", "tokens", "rpm", "tpm"]
"""Streams and tokens in flight, requests and tokens per minute: each is learnt, and merged, for itself."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One learnt number of the whole account.

    `ceiling`: beyond it a probe must be due, None: it is not known yet; `knee`: where its pace says that more is not
    worth it; `hard`: refusals set it; `guessed`: as half of what they refused; `measured`: a queue set it. These and
    `why` go with the number and do not decide which mark holds.
    """

    limit: float
    cuts: int = 0
    raises: int = 0
    ceiling: float | None = None
    knee: float | None = None
    hard: bool = False
    guessed: bool = False
    measured: bool = False
    why: str = ""

    @property
    def rank(self) -> tuple[int, int, float]:
        """The order of marks."""
        return self.cuts, self.raises, -self.limit

    def beats(self, other: Mark | None) -> bool:
        """Does this one hold, and say something else?"""
        return other is None or self.rank > other.rank


Marks = Mapping[LearntKind, Mark]


def join(one: Marks, other: Marks) -> dict[LearntKind, Mark]:
    """What holds when both are known."""
    found = dict(one)
    for kind, mark in other.items():
        if mark.beats(found.get(kind)):
            found[kind] = mark
    return found


def ranks(marks: Marks) -> dict[LearntKind, tuple[int, int, float]]:
    """What tells whether two sets of marks say the same."""
    return {kind: mark.rank for kind, mark in marks.items()}


Floors = tuple[tuple[str, int, int], ...]
"""Of a backend, by the size of prompts in bits: the least time to the first token, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one replica has at an account.

    begun, unheard    streams in flight that have begun, and that have not
    overdue           of these, the ones that are too late (and younger than whoever began last)
    held              tokens in flight: prompts and expected answers
    begins, timely    first tokens since it started, and those of them that came in time
    ends              streams that have ended since it started
    rpm, tpm          requests, tokens of the last minute
    samples, gaps     how often the time per token was measured since it started, and the sum, in microseconds
    crowd             the sum of the account's streams that ran at each of these measurements
    floors            what first tokens take at least; none are told by who has nothing in flight
    """

    begun: int = 0
    unheard: int = 0
    overdue: int = 0
    held: int = 0
    begins: int = 0
    timely: int = 0
    ends: int = 0
    rpm: int = 0
    tpm: int = 0
    samples: int = 0
    gaps: int = 0
    crowd: int = 0
    floors: Floors = field(default=(), kw_only=True)

    @property
    def streams(self) -> int:
        """In flight."""
        return self.begun + self.unheard


@dataclass(frozen=True, slots=True)
class Others:
    """What the other replicas have in flight, as they told lately; `active` of them have any.

    What is at this moment is added up; of what counts since the start, it is what happened since the last news.
    """

    active: int = 0
    begun: int = 0
    unheard: int = 0
    overdue: int = 0
    held: int = 0
    rpm: int = 0
    tpm: int = 0
    begins: int = 0
    timely: int = 0
    ends: int = 0
    samples: int = 0
    gaps: int = 0
    crowd: int = 0
    floors: Floors = field(default=(), kw_only=True)

    @property
    def streams(self) -> int:
        """In flight elsewhere."""
        return self.begun + self.unheard


NOBODY = Others()


def others(before: Mapping[str, Use], now: Mapping[str, Use]) -> Others:
    """Add up the rows of the others, by name. Of one that is new nothing has happened yet."""
    known = [(before[name], use) for name, use in now.items() if name in before]
    return Others(
        sum(1 for use in now.values() if use.streams),
        *(_sum(getattr(use, name) for use in now.values())
          for name in ("begun", "unheard", "overdue", "held", "rpm", "tpm")),
        *(_sum(max(0, getattr(use, name) - getattr(old, name)) for old, use in known)
          for name in ("begins", "timely", "ends", "samples", "gaps", "crowd")),
        floors=_least(use.floors for use in now.values()),
    )  # fmt: skip


def _least(rows: Iterable[Floors]) -> Floors:
    found: dict[tuple[str, int], int] = {}
    for floors in rows:
        for backend, size, floor in floors:
            found[backend, size] = min(floor, found.get((backend, size), floor))
    return tuple((backend, size, floor) for (backend, size), floor in found.items())


def _sum(numbers: Iterable[int]) -> int:
    return sum(numbers)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of one account.

    Told by a replica: its marks, its `use`, and whether it holds the right to probe. Told to it: what holds, what the
    `others` have in flight, whether it may try for more (`probe`), and who may (`prober`, '' when not known).
    """

    marks: Marks = field(default_factory=dict)
    probe: bool = True
    use: Use = Use()
    others: Others = NOBODY
    prober: str = ""


@dataclass(frozen=True, slots=True)
class Learned:
    """A change for `apply`: what other replicas learnt and use. Marks that ours beat are ignored, the rest holds."""

    accounts: Mapping[str, Lesson]
