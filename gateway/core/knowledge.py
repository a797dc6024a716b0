"""What is known of one account as a whole, whoever learnt it: the learner's memory, and what it shares with others.

A learner thinks in units of the whole account. Its own streams it counts exactly; what other replicas have in flight
it is told, at most a tick or so late. Alone there are no others, and every sum here is its own number.
"""

from __future__ import annotations

from math import inf

from gateway.core.lesson import NOBODY, LearntKind, Lesson, Mark, Others, Use
from gateway.core.pace import Pace

START = 8
START_TOKENS = 131_072
"""Streams, and tokens in flight, that an account of which nothing is known may have."""


class Knowledge:
    """Numbers, their marks, and what is in flight here and elsewhere. The law that changes them is `limit`."""

    __slots__ = (
        "_anchoring", "_cuts", "_hard", "_knee_told", "_last_begun", "_raises", "_token_raises", "_told", "begins",
        "begun", "ceiling", "ends", "gaps", "holding", "limit", "others", "pace", "probe", "prober", "samples",
        "timely", "tokens", "unheard", "why",
    )  # fmt: skip

    def __init__(self) -> None:
        self.pace = Pace()
        self.unheard: dict[int, float] = {}
        self.begun = 0
        self.others: Others = NOBODY
        self.probe = True
        self.prober = ""
        self.limit = self.tokens = self.ceiling = inf
        self.why = ""
        self.holding = False
        self.begins = self.timely = self.ends = self.samples = 0
        self.gaps = 0.0
        self._anchoring = True
        self._hard = False
        self._knee_told = self._told = inf
        self._cuts = self._raises = self._token_raises = self._last_begun = 0

    # --- in flight --------------------------------------------------------------------------------------

    @property
    def standing(self) -> int:
        """Streams in flight: those that run, those whose prompt is being read, those that queue in the cloud."""
        others = self.others
        return self.begun + len(self.unheard) + others.begun + others.unheard

    @property
    def running(self) -> float:
        """Streams that share the engine: those that have begun, and in part those whose prompt is being read."""
        others = self.others
        return self.begun + others.begun + (len(self.unheard) + others.unheard) / 2

    @property
    def calm(self) -> bool:
        """Is so little in flight that what a first token takes now is what it takes at least?"""
        standing, others = self.standing, self.others
        if others.active and (self.holding or standing >= 0.5 * self._told):
            return False  # who has few streams of many sees little of a queue
        return standing <= 2 or (len(self.unheard) + others.unheard <= 1 and standing < 0.5 * self.limit)

    def overdue(self, now: float) -> int:
        """Streams from here that wait for their first token in vain, all of them sent after whoever began last."""
        last = self._last_begun
        return sum(1 for number, due in self.unheard.items() if due < now and number > last)

    @property
    def parts(self) -> int:
        """Replicas that have streams in flight, this one counted in any case."""
        return self.others.active + 1

    # --- what is believed -------------------------------------------------------------------------------

    @property
    def learnt(self) -> float | None:
        """The limit in streams as it is believed now; None: nothing contradicts what was declared."""
        shown = min(self.limit, self.begun + self.others.begun) if self.holding else self.limit
        return None if shown == inf else max(1.0, shown)

    @property
    def whole(self) -> float:
        """Streams that all replicas together may have, to be divided among them; `inf`: nothing was learnt."""
        return max(1.0, min(self.limit, START) if self._anchoring else self.limit)

    @property
    def knee(self) -> float:
        """Streams beyond which another one is not worth it: by our own measure, else by what we were told."""
        return self.pace.knee if self.pace.knee < inf else self._knee_told

    def token_cap(self) -> float:
        """Tokens that may be in flight here: what the others leave, and never less than an even part."""
        others = self.others
        return self.tokens if not others.active else max(self.tokens / self.parts, self.tokens - others.held)

    # --- told to others, and by them --------------------------------------------------------------------

    def marks(self) -> dict[LearntKind, Mark]:
        """What others should know. Whole numbers: a raise counts when it makes room for one more."""
        found: dict[LearntKind, Mark] = {}
        if self.limit < inf:
            ceiling = None if self.ceiling == inf else self.ceiling
            knee = None if self.knee == inf else self.knee
            limit = float(int(self.whole))
            found["streams"] = Mark(limit, self._cuts, self._raises, ceiling, knee, self._hard, self.why)
        if self.tokens < inf:
            found["tokens"] = Mark(float(int(self.tokens)), 0, self._token_raises)
        return found

    def use(self, now: float, held: int, rpm: float, tpm: float) -> Use:
        """What this replica has in flight, for the others."""
        rows = (self.begun, len(self.unheard), self.overdue(now), held, self.begins, self.timely, self.ends)
        return Use(*rows, round(rpm), round(tpm), self.samples, int(self.gaps * 1e6))

    def hear(self, lesson: Lesson) -> bool:
        """Who probes, what the others have in flight, and tokens. True when the limit in streams is news."""
        self.probe, self.prober, self.others = lesson.probe, lesson.prober, lesson.others
        mine = self.marks()
        tokens = lesson.marks.get("tokens")
        if tokens is not None and tokens.beats(mine.get("tokens")):
            self.tokens, self._token_raises = tokens.limit, tokens.raises
        streams = lesson.marks.get("streams")
        if streams is None or not streams.beats(mine.get("streams")):
            return False
        self.limit = streams.limit
        self.ceiling = inf if streams.ceiling is None else streams.ceiling
        self._knee_told = inf if streams.knee is None else streams.knee
        self._cuts, self._raises, self._hard = streams.cuts, streams.raises, streams.hard
        self.why = streams.why
        self._anchoring = False
        return True
