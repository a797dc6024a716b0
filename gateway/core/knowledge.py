"""What is believed of one account as a whole, whoever learnt it: the learner's numbers, and their marks.

A learner thinks in units of the whole account; who is in flight, here and elsewhere, its senses say (`unheard`).
"""

from __future__ import annotations

from math import inf

from gateway.core.lesson import Floors, LearntKind, Lesson, Mark, Use
from gateway.core.pace import Pace
from gateway.core.trial import Trial
from gateway.core.unheard import Unheard

START = 8
START_TOKENS = 131_072
"""Streams, and tokens in flight, that an account of which nothing is known may have."""


class Knowledge(Unheard):
    """Numbers, and what is told of them. The law that changes them is `limit`."""

    __slots__ = (
        "_anchoring", "_cuts", "_guessed", "_hard", "_knee_told", "_measured", "_raises", "_token_raises", "_told",
        "begins", "ceiling", "crowd", "ends", "gaps", "holding", "limit", "pace", "probe", "prober", "samples",
        "timely", "tokens", "trial", "trusted", "why",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.pace = Pace()
        self.trial = Trial()
        self.probe = True
        self.prober = ""
        self.limit = self.tokens = self.ceiling = inf
        self.trusted = False
        self.why = ""
        self.holding = False
        self.begins = self.timely = self.ends = self.samples = 0
        self.gaps = self.crowd = 0.0
        self._anchoring = True
        self._hard = self._guessed = self._measured = False
        self._knee_told = self._told = inf
        self._cuts = self._raises = self._token_raises = 0

    @property
    def calm(self) -> bool:
        """Is so little in flight that what a first token takes now is what it takes at least?"""
        standing, others = self.standing, self.others
        if others.active and (self.holding or standing >= 0.5 * self._told):
            return False  # who has few streams of many sees little of a queue
        return standing <= 2 or (len(self.unheard) + others.unheard <= 1 and standing < 0.5 * self.limit)

    # --- what is believed -------------------------------------------------------------------------------

    @property
    def learnt(self) -> float | None:
        """The limit in streams as it is believed now, with a trial; None: nothing contradicts what was declared."""
        running = self.begun + self.others.begun
        shown = min(self.limit, running) if self.holding else max(self.limit, self.trial.tried)
        return None if shown == inf else max(1.0, shown)

    @property
    def whole(self) -> float:
        """Streams that all replicas together may have, to be divided among them; `inf`: nothing was learnt."""
        return max(1.0, min(self.limit, START) if self._anchoring else self.limit)

    @property
    def knee(self) -> float:
        """Streams beyond which another one is not worth it: by our own measure, else by what we were told."""
        return self.pace.knee if self.pace.knee < inf else self._knee_told

    def bonus(self, whole: float | None) -> float:
        """By how much a trial may exceed this replica's share. `whole`: what the operator or the cloud says of all."""
        trial = self.trial
        if not trial.open or (whole is not None and trial.tried > whole):
            return 0.0
        return trial.tried - int(self.limit)

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
            found["streams"] = Mark(
                limit, self._cuts, self._raises, ceiling, knee, self._hard, self._guessed, self._measured, self.why
            )
        if self.tokens < inf:
            found["tokens"] = Mark(float(int(self.tokens)), 0, self._token_raises)
        return found

    def use(self, now: float, held: int, rpm: float, tpm: float, floors: Floors) -> Use:
        """What this replica has in flight, for the others."""
        rows = (self.begun, len(self.unheard), self.overdue(now), held, self.begins, self.timely, self.ends)
        return Use(*rows, round(rpm), round(tpm), self.samples, int(self.gaps * 1e6), int(self.crowd), floors=floors)

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
        self._cuts, self._raises = streams.cuts, streams.raises
        self._hard, self._guessed, self._measured = streams.hard, streams.guessed, streams.measured
        self.why = streams.why
        self._anchoring = False
        return True
