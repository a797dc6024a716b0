"""What a cloud counts: exact sliding windows, and the tally it is asked for afterwards.

The gateway's own windows lean to the safe side; these must not, or they would hide its mistakes. Every amount is
kept with its time, a window is the half-open interval (now - span, now], and its peak is exact because the fullest
window ends at an entry.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from gateway.core.nouns import LIMIT_KINDS, Limits


class Log:
    """Amounts in any `span` seconds. Rule: times never go backwards (an earlier one counts as the latest)."""

    __slots__ = ("_entries", "_last", "_total", "peak", "span")

    def __init__(self, span: float) -> None:
        self.span = span
        self.peak = 0
        self._entries: deque[tuple[float, int]] = deque()
        self._total = 0
        self._last = 0.0

    def add(self, amount: int, at: float) -> None:
        self._last = at = max(at, self._last)
        self._entries.append((at, amount))
        self._total += amount
        total = self.total(at)
        self.peak = max(self.peak, total)

    def total(self, now: float) -> int:
        """What is in the window that ends `now`."""
        entries = self._entries
        while entries and entries[0][0] <= now - self.span:
            self._total -= entries.popleft()[1]
        return self._total

    def frees(self, now: float) -> float:
        """Seconds until the oldest entry leaves the window; 0 when it is empty."""
        self.total(now)
        return max(0.0, self._entries[0][0] + self.span - now) if self._entries else 0.0


class Rise:
    """Requests of the last second above those of the second before. The same rule of time as a `Log`."""

    __slots__ = ("_before", "_last", "_latest", "peak")

    def __init__(self) -> None:
        self.peak = 0
        self._last: deque[float] = deque()
        self._before: deque[float] = deque()
        self._latest = 0.0

    def add(self, at: float) -> None:
        self._latest = at = max(at, self._latest)
        self._last.append(at)
        self.peak = max(self.peak, self.total(at))

    def total(self, now: float) -> int:
        """Started in (now - 1, now], less those of (now - 2, now - 1]. May be negative."""
        last, before = self._last, self._before
        while last and last[0] <= now - 1.0:
            before.append(last.popleft())
        while before and before[0] <= now - 2.0:
            before.popleft()
        return len(last) - len(before)


class Windows:
    """Every window one account is measured by."""

    __slots__ = ("day", "ramp", "rpm", "rps", "tpm", "tps")

    def __init__(self) -> None:
        self.rpm = Log(60.0)
        self.rps = Log(1.0)
        self.tpm = Log(60.0)
        self.tps = Log(1.0)
        self.day = Log(86_400.0)
        self.ramp = Rise()

    def request(self, at: float) -> None:
        for log in (self.rpm, self.rps, self.day):
            log.add(1, at)
        self.ramp.add(at)

    def tokens(self, amount: int, at: float) -> None:
        self.tpm.add(amount, at)
        self.tps.add(amount, at)

    def used(self, now: float) -> dict[str, int]:
        found: dict[str, int] = {kind: log.total(now) for kind, log in self._logs().items()}
        found["ramp"] = self.ramp.total(now)
        return found

    def exceeded(self, limits: Limits, daily: int | None, now: float) -> list[str]:
        """Which limits one more request would break. Token limits refuse once the window is full: what a request
        will cost is not known when it comes."""
        over = []
        if limits.rps is not None and self.rps.total(now) >= limits.rps:
            over.append("rps")
        if limits.ramp is not None and self.ramp.total(now) + 1 > limits.ramp:
            over.append("ramp")
        if limits.rpm is not None and self.rpm.total(now) >= limits.rpm:
            over.append("rpm")
        if limits.tps is not None and self.tps.total(now) >= limits.tps:
            over.append("tps")
        if limits.tpm is not None and self.tpm.total(now) >= limits.tpm:
            over.append("tpm")
        if daily is not None and self.day.total(now) >= daily:
            over.append("daily")
        return over

    def wait(self, kind: str, now: float) -> float:
        """Seconds after which it is worth asking again."""
        if kind in {"streams", "ramp"}:
            return 1.0
        return self._logs()[kind].frees(now)

    def _logs(self) -> dict[str, Log]:
        return {"rpm": self.rpm, "tpm": self.tpm, "rps": self.rps, "tps": self.tps, "daily": self.day}


@dataclass(slots=True)
class Tally:
    """Sums since the start. Mutable; owned by one `Cloud`."""

    requests: int = 0
    admitted: int = 0
    completed: int = 0
    cut: int = 0
    disconnects: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    told: int = 0
    told_in: int = 0
    told_cached: int = 0
    told_out: int = 0
    peak_streams: int = 0
    peak_running: int = 0
    peak_waiting: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    overruns: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Stats:
    """What one cloud saw. admitted = completed + cut + disconnects + in_flight, always.

    `told` counts answers that left with their usage, and `told_in`, `told_cached`, `told_out` the tokens they spoke of.
    `peak` counts every arrival, refused ones too: it is what the gateway *sent*. `overruns` counts arrivals above a
    limit, per limit. `refused` is per kind of refusal. `used` is the present filling of each window of what was
    admitted, `limits` what may be in it.
    """

    name: str
    fail: str
    requests: int
    admitted: int
    completed: int
    cut: int
    disconnects: int
    in_flight: int
    running: int
    waiting: int
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    told: int
    told_in: int
    told_cached: int
    told_out: int
    refused: dict[str, int]
    overruns: dict[str, int]
    peak: dict[str, int]
    used: dict[str, int]
    limits: dict[str, int]


def declared(limits: Limits, daily: int | None, slots: int | None) -> dict[str, int]:
    """The limits that exist, by name."""
    found: dict[str, int] = {str(kind): value for kind in LIMIT_KINDS if (value := getattr(limits, kind)) is not None}
    if daily is not None:
        found["daily"] = daily
    if slots is not None:
        found["slots"] = slots
    return found
