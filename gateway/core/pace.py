"""How a backend's tokens slow down with the number of streams, and where that stops to pay.

Decoding is bound by memory traffic, so the gap between tokens is a line: gap(B) = t0 + k·B. One more stream then adds
t0/gap² tokens per second, which has fallen to `WORTH` of its first value where gap = t0/√WORTH: the knee.

Two points make the line. The *anchor* is what the first few streams saw: while it is taken the account may not grow,
since a number that changes while it is measured fits to no gap. The *present* is an average of the latest samples. A
regression over everything seen on the way up was tried and is worse: the way up is steep, and gaps lag behind it. The
anchor moves only when as few streams run as when it was taken, so that overload never passes for the normal state.
"""

from __future__ import annotations

from math import inf

WORTH = 0.15
GAIN: float = WORTH**-0.5 - 1.0
ANCHOR = 16
"""Samples of which the anchor is made."""
APART = 2.0
"""The present must be at so many times the anchor's streams to say anything."""
_RECENT = 48
_RENEW = 0.02


class Pace:
    """`knee`: streams beyond which another one is not worth it; `inf` while the line is not known."""

    __slots__ = ("_gap", "_here", "_low_gap", "_low_streams", "_seen", "_streams", "knee")

    def __init__(self) -> None:
        self.knee = inf
        self._seen = self._here = 0
        self._low_streams = self._low_gap = self._streams = self._gap = 0.0

    def __repr__(self) -> str:
        return f"<Pace, {self._gap:.4f} s per token at {self._streams:.0f} streams, knee at {self.knee:.0f}>"

    @property
    def anchored(self) -> bool:
        """Is it known what few streams see?"""
        return self._seen >= ANCHOR

    def add(self, streams: float, gap: float) -> None:
        """Seconds per token of one stream while so many ran."""
        if gap <= 0:
            return
        if self._seen < ANCHOR or streams <= self._low_streams:
            self._seen += 1
            weight = max(_RENEW, 1.0 / self._seen)
            self._low_streams += weight * (streams - self._low_streams)
            self._low_gap += weight * (gap - self._low_gap)
            return
        self._here = min(self._here + 1, _RECENT)
        self._streams += (streams - self._streams) / self._here
        self._gap += (gap - self._gap) / self._here
        self.knee = self._knee()

    def _knee(self) -> float:
        apart = self._streams - self._low_streams
        if self._here < ANCHOR or self._streams < APART * self._low_streams or self._gap <= self._low_gap:
            return inf
        slope = (self._gap - self._low_gap) / apart
        idle = max(self._low_gap - slope * self._low_streams, 0.5 * self._low_gap)
        return idle * GAIN / slope
