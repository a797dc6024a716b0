"""How more than the last ceiling is tried: by one stream, and believed only when it is seen.

A *trial* lets one stream more be sent than the ceiling allows (two, four … after each that was borne), and no other
until it is judged. Those that were sent before it and are still there when it begins hold a place each, for a cloud
serves in order: so many it bears at once, whatever its latency. A queue shorter than any time-out shows here and
nowhere else. Where prompts are read for longer than it takes until some answer ends, places change hands unseen: there,
and where the cloud refuses what it has no place for, to begin is enough.

Rules
- `tried` is 0, or the streams that may be in flight until one has been sent that fills it, the `judge`.
- What others have in flight is known a moment late. So where there are others, the count is weighed when they have
  been heard again, with the least that they had meanwhile.
- Each trial waits twice as long as the one before, until trials are borne in a row.
"""

from __future__ import annotations

from math import inf

PROBE, LONGEST_PROBE = 2.0, 16.0
"""Seconds until more than the last ceiling is tried, doubling up to the second."""
HARD_PROBE = 600.0
"""Seconds after which more than a ceiling that refusals set is tried in any case."""
EARNED = 500
"""Streams that must have begun for each refusal that a trial may cost."""
DEEP = 0.8
"""A ceiling below this share of what ran is a loss of capacity: it will last."""
IN_TURN = 5.0
"""Seconds to wait for a moment in which all have begun, so that a trial can be counted."""
DEEP_BACKOFF = 3
"""Doublings that are skipped when much has been lost: it will not be back at once."""
MOST_STEP = 0.2
"""A trial is of this share of the limit at most."""
IN_A_ROW = 4.0
"""A trial of so many streams that is borne says that the cloud has grown: the next ones need not wait."""

NEAR = 0.15
"""Where tries cost refusals, this share of the limit is regained stream by stream: a guess is seldom further off, and
of several that are sent too many each is refused."""
WEIGHED = -1
"""In place of a judge's number: it has begun."""


class Trial:
    """The trial of one account, or the time of the next one (`at`)."""

    __slots__ = ("_backoff", "_gained", "at", "counted", "judge", "step", "tried")

    def __init__(self) -> None:
        self.at = -inf
        self.tried = 0.0
        self.judge = 0
        self.step = 1.0
        self._gained = 0.0
        self.counted = False
        self._backoff = 0

    def __repr__(self) -> str:
        return f"<Trial of {self.tried:g} streams, judged by {self.judge}>" if self.tried else f"<Trial at {self.at:g}>"

    @property
    def open(self) -> bool:
        """May one more be sent on trial?"""
        return self.tried > 0 and not self.judge

    @property
    def weighed(self) -> bool:
        """Has its judge begun, and are the others to be heard yet?"""
        return self.judge == WEIGHED

    def begin(self, tried: float, now: float, *, counted: bool) -> None:
        """Let so many be in flight once. `counted`: believed by count, not by its beginning alone."""
        self.tried = tried
        self.counted = counted
        self.wait(now)

    def borne(self, limit: float, now: float, *, hard: bool) -> None:
        """It has been borne, so try more at once: twice as many; where tries cost refusals (`hard`), as many, and one
        more each time once much has been regained."""
        step = self.step
        gained = self._gained + step
        self.call_off()
        self.at = now
        self._gained = gained
        if not hard:
            self.step = min(2.0 * step, max(1.0, MOST_STEP * limit))
        elif gained >= NEAR * limit:
            self.step = step + 1.0
        if step >= IN_A_ROW:
            self._backoff = 0

    def missed(self, now: float) -> None:
        """It proved nothing. In a row that may be bad luck (an end came between): again, with less."""
        step = self.step
        self.call_off()
        if step > 1.0:
            self.step = max(1.0, step / 2.0)
            self.at = min(self.at, now + PROBE)

    def call_off(self) -> None:
        """None is out, and the next one is of one stream."""
        self.judge = 0
        self.tried = self._gained = 0.0
        self.step = 1.0

    def wait(self, now: float) -> None:
        """The next one: later each time."""
        self.at = now + min(PROBE * 2.0**self._backoff, LONGEST_PROBE)
        self._backoff = min(self._backoff + 1, 10)

    def lowered(self, now: float, *, deep: bool) -> None:
        """There is a new, lower limit. `deep`: much has been lost, and will not be back at once."""
        self.call_off()
        if deep:
            self._backoff = max(self._backoff, DEEP_BACKOFF)
        self.at = now + min(PROBE * 2.0**self._backoff, LONGEST_PROBE)
