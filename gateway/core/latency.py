"""What a backend's answers take: a quick average to choose by, quantiles to show and to reserve by.

Quantiles come from a histogram with logarithmic buckets: constant memory, an error bounded by the bucket's width
(about 5 %), and old samples fade because all counts are halved whenever their sum reaches `FADE`.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from math import exp, log

FADE = 2048
SIZES = 40
"""Sizes of prompts, in bits, that have a floor of their own."""
_PER_UNIT = 10.0
_BUCKETS = 256


class Quantiles:
    """Quantiles of positive samples between `smallest` and `smallest` × e^25; outside it, the ends."""

    __slots__ = ("_counts", "_shift", "total")

    def __init__(self, smallest: float) -> None:
        self._shift = -log(smallest) * _PER_UNIT
        self._counts = [0] * _BUCKETS
        self.total = 0

    def __repr__(self) -> str:
        return f"<Quantiles of {self.total}>"

    def add(self, sample: float, count: int = 1) -> None:
        """Count a sample."""
        place = int(log(sample) * _PER_UNIT + self._shift) if sample > 0 else 0
        if place < 0:
            place = 0
        elif place >= _BUCKETS:
            place = _BUCKETS - 1
        self._counts[place] += count
        self.total += count
        if self.total >= FADE:
            self._counts = [n >> 1 for n in self._counts]
            self.total = sum(self._counts)

    def at(self, share: float) -> float | None:
        """The value that `share` (0 to 1) of the samples do not exceed; None without samples."""
        if not self.total:
            return None
        below = list(accumulate(self._counts))
        place = bisect_left(below, max(share * self.total, 1))
        return exp((place + 0.5 - self._shift) / _PER_UNIT)


class Average:
    """An exponentially weighted mean whose first samples weigh equally. `value` is None without samples."""

    __slots__ = ("_most", "count", "value")

    def __init__(self, most: int = 20) -> None:
        self._most = most
        self.count = 0
        self.value: float | None = None

    def add(self, sample: float) -> None:
        """Weigh a sample in: 1/n for the n-th, never less than 1/most."""
        count = self.count
        if count < self._most:
            self.count = count = count + 1
        value = self.value
        self.value = sample if value is None else value + (sample - value) / count


class Latency:
    """Time to the first token of one backend, in seconds, and tokens per second of one of its streams."""

    __slots__ = ("_heard", "_slow", "_slow_of", "rate", "ttft", "ttfts")

    HALF = 30.0
    """Seconds of silence after which a prediction is halved: a slow spell must not condemn a backend for ever."""
    ENOUGH = 20
    """Samples before it is said what is slow."""
    TAIL = 0.95
    FACTOR = 1.5
    """Slow is what 95 of 100 do not exceed, and at least this times what is usual: where all take nearly the same, the
    slowest of them are not slow."""

    def __init__(self) -> None:
        self.ttft = Average(8)
        self.ttfts = Quantiles(0.001)
        self.rate = Average()
        self._heard = 0.0
        self._slow = 0.0
        self._slow_of = 0

    def first_token(self, seconds: float, now: float) -> None:
        """A sample of the time to the first token."""
        self.ttft.add(seconds)
        self.ttfts.add(seconds)
        self._heard = now

    def none_within(self, seconds: float, now: float) -> None:
        """A first token had not come after so long, and was not awaited. It counts for what it must at least have taken
        if that is more than usual, lest the slow ones that nobody waits for make the rest look quicker and quicker."""
        usual = self.ttft.value
        if usual is None or seconds > usual:
            self.first_token(seconds, now)

    def slow(self) -> float | None:
        """The time from which on a first token is slow; None without `ENOUGH` samples. Renewed every few samples."""
        total = self.ttfts.total
        if total < self.ENOUGH:
            return None
        if abs(total - self._slow_of) >= 8:
            self._slow_of = total
            tail, usual = self.ttfts.at(self.TAIL), self.ttfts.at(0.5)
            assert tail is not None
            assert usual is not None
            self._slow = max(tail, self.FACTOR * usual)
        return self._slow

    def predicted(self, now: float) -> float:
        """The expected time to the first token; 0 when nothing is known, so that the unknown is tried."""
        value = self.ttft.value
        if value is None:
            return 0.0
        silence = now - self._heard
        return value if silence < 1.0 else value * 2.0 ** (-silence / self.HALF)


class Floor:
    """The time to the first token when nothing is in the way, by prompt size: a low quantile per power of two.

    Low samples pull it down quickly. It rises slowly, and only on samples taken when the backend was nearly idle
    (`calm`): a floor learnt under overload would take overload for normal.
    """

    __slots__ = ("_floors",)

    _DOWN, _UP = 0.2, 0.02

    def __init__(self) -> None:
        self._floors = [0.0] * SIZES

    def learn(self, prompt: int, seconds: float, *, calm: bool) -> None:
        """A first token came after so long."""
        size = min(prompt.bit_length(), SIZES - 1)
        floor = self._floors[size]
        if not floor:
            self._floors[size] = seconds
        elif seconds < floor:
            self._floors[size] = floor + self._DOWN * (seconds - floor)
        elif calm:
            self._floors[size] = floor + self._UP * (seconds - floor)

    def known(self) -> list[tuple[int, float]]:
        """By size (the prompt's bits): the floors that are known, in seconds."""
        return [(size, floor) for size, floor in enumerate(self._floors) if floor]

    def hear(self, size: int, floor: float) -> None:
        """Another replica's floor counts like a sample, if it is lower: who has seen only the end of a burst would take
        the queue for normal. It never raises ours: that takes calm samples of our own."""
        mine = self._floors[size]
        if not mine:
            self._floors[size] = floor
        elif floor < mine:
            self._floors[size] = mine + self._DOWN * (floor - mine)

    def expected(self, prompt: int) -> float:
        """Seconds; for sizes not seen yet, from the nearest smaller one in proportion, or the nearest larger one as
        it is; 0 when nothing is known."""
        size = min(prompt.bit_length(), SIZES - 1)
        floor = self._floors[size]
        if floor:
            return floor
        for less in range(size - 1, -1, -1):
            if self._floors[less]:
                return self._floors[less] * 2.0 ** (size - less)
        return next((known for known in self._floors[size:] if known), 0.0)
