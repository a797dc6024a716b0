"""The nouns of a pretend cloud: what is asked of it, what it answers, what happens to a ticket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gateway.clouds.profiles import Fate

Kind = Literal[
    "rpm", "tpm", "burst", "concurrency", "quota", "overloaded",
    "content", "invalid", "auth", "not_found", "server", "timeout", "crash",
]  # fmt: skip
EventKind = Literal["keepalive", "tokens", "stall", "cut", "error", "finish"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a cloud needs to know of a request.

    `units` are prefix units: (fingerprint of the prompt up to here, tokens up to here).
    """

    prompt: int = 100
    max_tokens: int | None = None
    n: int = 1
    units: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Not admitted. `limit` is the limit that was full, `number` its size, `seen` its filling; 0 where none."""

    kind: Kind
    limit: str = ""
    number: int = 0
    seen: int = 0
    retry_after: float | None = None


@dataclass(eq=False, slots=True)
class Ticket:
    """One admitted request. Everything but the first block is the model's own and changes."""

    id: int
    ask: Ask
    arrived: float
    length: int
    truncated: bool
    thoughts: int

    cached: int = 0
    produced: int = 0
    phase: Literal["waiting", "prefill", "decoding", "stalled", "ended"] = "waiting"
    fate: Fate | None = None
    fate_at: int = 0
    first_due: float = 0.0
    alive_due: float = 0.0
    serial: int = 0
    held: bool = False
    pace: float = field(default=1.0, repr=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Event:
    """Something a ticket's client would see. `start` and `count` say which tokens; `reason` is set on a finish."""

    ticket: Ticket
    at: float
    kind: EventKind
    start: int = 0
    count: int = 0
    reason: str = ""

    @property
    def ends(self) -> bool:
        return self.kind in {"cut", "error", "finish"}
