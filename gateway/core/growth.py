"""What makes a limit larger: first tokens that come in time, trials that are borne, and streams seen to run.

Only who may probe raises what is merely hoped for. What was counted to hold a place anybody may say.
"""

from __future__ import annotations

from math import inf

from gateway.core.knowledge import START, Knowledge
from gateway.core.trial import EARNED, HARD_PROBE, IN_TURN, WEIGHED

LEAST_VOLLEY, FIRST_VOLLEY = 2.0, 8.0
IN_USE = 0.8
"""A limit of which this share is in flight is in use."""
LEAD, LEAST_LEAD = 0.02, 1.0
"""By how much a limit that several replicas use may lead what they have in flight: shares follow late, and as many
streams are sent at once."""


class Growth(Knowledge):
    """Raises the limit, and `volley`: how many streams from here may be unheard at once."""

    __slots__ = ("_accepted", "_borne", "_cut", "_looked", "_unweighed", "volley")

    def __init__(self) -> None:
        super().__init__()
        self.volley = inf
        self._accepted = self._borne = self._unweighed = 0
        self._cut = self._looked = -inf

    # --- unheard at once --------------------------------------------------------------------------------

    @property
    def _first_volley(self) -> float:
        return max(LEAST_VOLLEY, FIRST_VOLLEY / self.parts)

    def _volley_of(self, limit: float) -> float:
        """How many may be unheard at once under a limit that has just been found, of this replica's."""
        return max(FIRST_VOLLEY, limit / 4) / self.parts

    def _halve_volley(self) -> None:
        self.volley = max(1.0, LEAST_VOLLEY / self.parts, self.volley / 2)

    def _late(self, due: float, now: float) -> None:
        if due >= self._looked:
            self._looked = now
            self._halve_volley()

    # --- first tokens in time ---------------------------------------------------------------------------

    def _grow(self, held: int) -> None:
        """A first token in time: the cloud bears what it has."""
        if len(self.unheard) + 2 >= self.volley:
            self.volley = min(self.volley + 1.0, max(self._first_volley, self.begun / 2))
        if self.probe:
            self._more(held, 1)

    def _more(self, held: int, count: int) -> None:
        """So many first tokens came in time, here or elsewhere: raise what is in use."""
        standing, others = self.standing, self.others
        held += others.held
        if held >= IN_USE * self.tokens:
            self.tokens += count * max(1.0, held / max(1, standing))
            self._token_raises += 1
        lead = max(LEAST_LEAD, LEAD * self.limit) if others.active else (1.0 - IN_USE) * self.limit
        if standing >= self.limit - lead and self.limit < self.ceiling:
            step = 1.0 if self.limit < 0.9 * self.ceiling else 0.25
            self._raise(min(step * count, max(step, standing + lead - self.limit)))

    def _raise(self, step: float) -> None:
        knee = self._knee()
        limit = min(self.limit + step, self.ceiling, knee)
        if limit != self.limit:
            if int(limit) != int(self.limit):
                self._raises += 1
            self.why = "knee of its pace" if limit == knee else "growing" if limit < self.ceiling else self.why
            self.limit = limit

    def _knee(self) -> float:
        """Streams beyond which the pace makes another one not worth it."""
        return inf if self.trusted else max(self.knee, START / 2)

    def _find(self, limit: float) -> None:
        """More than was believed has been borne."""
        self.limit = self.ceiling = limit
        self._raises += 1

    def _find_more(self, others: int = 0) -> None:
        """The queue that set the limit was shorter than it looked: so many run."""
        limit = min(float(self.begun + others), self._knee())
        if limit > self.limit:
            self._find(limit)

    # --- trials, and what was counted -------------------------------------------------------------------

    def _try_more(self, now: float) -> None:
        """The limit is in use. Nobody is unheard: one more. At the ceiling: a trial when it is due."""
        unheard = len(self.unheard) + self.others.unheard
        if self.limit < self.ceiling:
            if not unheard:
                self._raise(1.0)
            return
        trial = self.trial
        if trial.tried or now < trial.at:
            return
        tried = float(int(min(self.limit + trial.step, self._knee())))
        earned = self._guessed or self._accepted >= EARNED or now >= self._cut + HARD_PROBE
        if tried <= self.limit or (self._hard and not earned):
            return
        if unheard and not self._hard and now < trial.at + IN_TURN:
            return
        self._accepted = 0
        trial.begin(tried, now, counted=not unheard and not self._hard)

    def _judged(self, number: int, in_time: bool, now: float) -> None:
        """The last stream of a trial has begun: what has the cloud borne?"""
        trial = self.trial
        if not trial.counted:
            self._conclude(trial.tried if in_time or self._hard else 0.0, now)
            return
        self._unweighed = self.holds(number)
        trial.judge = WEIGHED
        if not self.others.active:
            self._weigh(0, now)

    def _weigh(self, others: int, now: float) -> None:
        """So many hold a place elsewhere: with those counted here, what has the cloud borne?"""
        if self._unweighed:
            borne, self._unweighed = self._unweighed + others, 0
            if self.holding:
                self._borne = max(self._borne, borne)
            elif self.trial.weighed:
                self._conclude(borne, now)

    def _conclude(self, borne: float, now: float) -> None:
        """So many were borne in a trial."""
        if borne > self.limit:
            self._find(float(borne))
            self.trial.borne(self.limit, now, hard=self._hard)
            self.why = "growing"
        else:
            self.trial.missed(now)
