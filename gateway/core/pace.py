"""How a backend's tokens slow down with the number of streams, and where that stops to pay.

Decoding is bound by memory traffic, so the gap between tokens is a line: gap(B) = t0 + k·B. One more stream then adds
t0/gap² tokens per second, which has fallen to `WORTH` of its first value where gap = t0/√WORTH: the knee.

The line is fitted through a table, one row per class of B (each about a fifth wider than the one before), each row an
average of the gaps seen there. Rows that are visited no more keep what they know: a fit over the last minute alone
would forget the idle end of the line just when the fleet is busy, and take overload for the normal state.
"""

from __future__ import annotations

from math import inf, log

WORTH = 0.15
_ROWS = 64
_PER_UNIT = 5.0
_WEIGHT = 0.1
_EACH = 1.0
_SPAN = 2.0
_ENOUGH, _MOST = 8, 64


class Pace:
    """`knee`: streams beyond which another one is not worth it; `inf` while the line is not known."""

    __slots__ = ("_fitted", "_gaps", "_seen", "_streams", "knee")

    def __init__(self) -> None:
        self.knee = inf
        self._seen = [0] * _ROWS
        self._streams = [0.0] * _ROWS
        self._gaps = [0.0] * _ROWS
        self._fitted = -inf

    def __repr__(self) -> str:
        return f"<Pace, knee at {self.knee:.0f} of {sum(1 for n in self._seen if n)} rows>"

    def add(self, streams: float, gap: float, now: float) -> bool:
        """Seconds per token of one stream while so many ran. True when the line was fitted anew (once a second)."""
        if streams < 1 or gap <= 0:
            return False
        row = min(int(log(streams) * _PER_UNIT), _ROWS - 1)
        seen = self._seen[row] = min(self._seen[row] + 1, 1_000_000)
        weight = max(_WEIGHT / 4, 1.0 / seen)
        self._streams[row] += weight * (streams - self._streams[row])
        self._gaps[row] += weight * (gap - self._gaps[row])
        if now >= self._fitted + _EACH:
            self._fitted = now
            self._fit()
            return True
        return False

    def _fit(self) -> None:
        """Least squares over the rows; a knee only if they span enough and the line rises."""
        rows = [row for row in range(_ROWS) if self._seen[row] >= _ENOUGH]
        self.knee = inf
        if len(rows) < 3 or self._streams[rows[-1]] < _SPAN * self._streams[rows[0]]:
            return
        xs = [self._streams[row] for row in rows]
        ys = [self._gaps[row] for row in rows]
        weights = [min(self._seen[row], _MOST) for row in rows]
        total = sum(weights)
        x_mean = sum(w * x for w, x in zip(weights, xs, strict=True)) / total
        y_mean = sum(w * y for w, y in zip(weights, ys, strict=True)) / total
        spread = sum(w * (x - x_mean) ** 2 for w, x in zip(weights, xs, strict=True))
        slope = sum(w * (x - x_mean) * (y - y_mean) for w, x, y in zip(weights, xs, ys, strict=True)) / spread
        base = max(y_mean - slope * x_mean, 0.5 * min(ys))
        if slope > 0:
            self.knee = max(base * (WORTH**-0.5 - 1.0) / slope, 1.0)
