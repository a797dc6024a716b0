"""How much a cloud bears, learnt from what it does: streams, and tokens in flight. Quotas are learnt apart (`quota`).

Every stream that was sent and has not begun is *unheard*; a stream that has begun is running. That split tells more
than any latency average: unheard ones that are *overdue* (their first token should have come, by the backend's own
floor) are a queue inside the cloud, and what runs meanwhile is what the cloud really computes at once.

      OPEN ── more overdue than a few, all younger than whoever began last ──▶ HOLD: only what runs is replaced
        ▲                                                                       │ by nothing
        └── the queue is gone: limit = ceiling = what is in flight at this moment ◀┘

| signal | means |
|---|---|
| first token in time, limit in use | limit + 1; near the last ceiling + ¼; at it nothing until a trial is due |
| first token late | half as many may be unheard at once |
| overdue first tokens | HOLD |
| refused: too many at once | limit = ceiling = what was accepted; the next trial must be earned |
| refused again, with nothing accepted between | the cloud has shrunk: half, and trials (`trial`) from there |
| refused: platform overloaded | limit × 0.85, once per volley |
| gaps between tokens | a line gap = t0 + k·running; the knee is where one more stream yields 15 % of the first |

Rules
- `limit` is the whole account's; what this replica may use of it is the shared store's business.
- Nothing grows unless the limit is in use and this replica is the prober. Nothing is learnt from what never began.
- A declared limit is trusted until the cloud contradicts it: no knee, and no bound on the unheard before that.
"""

from __future__ import annotations

from math import inf

from gateway.core.nouns import Learn, Lesson
from gateway.core.pace import Pace
from gateway.core.trial import DEEP, EARNED, HARD_PROBE, IN_TURN, PROBE, Trial
from gateway.core.unheard import Unheard

START = 8
START_TOKENS = 131_072
"""Streams, and tokens in flight, that an account of which nothing is known may have."""
LEAST_VOLLEY, FIRST_VOLLEY = 2.0, 8.0
OVERLOADED = 0.85
LOOK = 0.1
IDLE_STEP = 0.5
SCOUT, SCOUT_SOON, DRAINED = 30.0, 4.0, 0.4
"""A hold in which nobody begins is put to the test after so many seconds, or, after the second number of them, when
less than this share of what ran still runs: a cloud that has halved would have begun somebody by then."""
ANCHOR_TIME = 3.0
"""Seconds from the first token on for which an account that is new may be kept at `START`, to see its pace."""


class Learner(Unheard):
    """One account's limits in streams and tokens. The meter tells it everything and asks `cap`."""

    __slots__ = (
        "_accepted", "_anchor_by", "_anchoring", "_begins", "_borne", "_cut", "_ends", "_grown", "_guessed", "_hard",
        "_held_at", "_looked", "_looked_at_pace", "_measured", "_ran", "_scouts", "_spared", "_told", "ceiling",
        "holding", "limit", "pace", "probe", "tokens", "trial", "trusted", "turn", "version", "volley", "why",
    )  # fmt: skip

    def __init__(self, learn: Learn, declared: float | None) -> None:
        super().__init__()
        self.pace = Pace()
        self.ceiling = inf
        self.probe = True
        self.version = 0
        self.holding = False
        self.turn = inf
        self.limit = self.tokens = self.volley = inf
        self.trusted = False
        self.why = ""
        self.trial = Trial()
        self._scouts = self._ran = 0
        self._begins = self._ends = self._borne = 0
        self._accepted = 0
        self._hard = self._guessed = self._measured = False
        self._anchoring = True
        self._anchor_by = inf
        self._looked_at_pace = -inf
        self._cut = self._grown = self._looked = self._spared = -inf
        self._held_at = inf
        self.declare(learn, declared)

    def __repr__(self) -> str:
        state = "holding" if self.holding else "open"
        return (
            f"<Learner {self.limit:g}/{self.ceiling:g} streams, {self.begun}+{len(self.unheard)}, {state}: {self.why}>"
        )

    def declare(self, learn: Learn, declared: float | None) -> None:
        """What the operator says: a number to start from, and whether it is a ceiling (the meter sees to that)."""
        trusted = declared is not None and learn != "beyond"
        self._told = float(START if declared is None else declared)
        if self.why and trusted == self.trusted:
            return
        self.trusted = trusted
        if trusted:
            self.limit = self.tokens = self.volley = inf
            self._anchoring = False
            self.why = "declared"
        else:
            self.limit, self.tokens, self.volley = float(declared or START), START_TOKENS, FIRST_VOLLEY
            self.why = "start"

    # --- what the meter asks ----------------------------------------------------------------------------

    def cap(self) -> float:
        """Streams that may be in flight now, whole."""
        if self.holding:
            return self.begun
        most = self.begun + self.volley
        limit = self.trial.tried if self.trial.open else self.limit
        if limit < most:
            most = limit
        if self._anchoring and most > START:
            most = START
        return most if most == inf else max(1, int(most))

    @property
    def gating(self) -> bool:
        """Does the cap follow what is in flight?"""
        return self.limit < inf or self.holding

    @property
    def calm(self) -> bool:
        """Is so little in flight that what a first token takes now is what it takes at least?"""
        standing = self.standing
        return standing <= 2 or (len(self.unheard) <= 1 and standing < 0.5 * self.limit)

    @property
    def learnt(self) -> float | None:
        """The limit in streams as it is believed now, with a trial; None: nothing contradicts what was declared."""
        shown = min(self.limit, self.begun) if self.holding else max(self.limit, self.trial.tried)
        return None if shown == inf else max(1.0, shown)

    # --- what the meter tells ---------------------------------------------------------------------------

    def sent(self, number: int, due: float) -> None:
        """A stream was sent; its first token is due at a time."""
        if self.trial.open and self.standing + 1 >= self.trial.tried:
            self.trial.judge = number
        self.unheard[number] = due
        if due < self.turn:
            self.turn = due

    def sent_blind(self) -> None:
        """A plain request was sent: its first token will not be seen, so it counts as running at once."""
        self.begun += 1
        if self.trial.open and self.standing >= self.trial.tried:
            # Nothing will be seen of it. If the cloud minds, it says so.
            self.limit = self.ceiling = self.trial.tried
            self.trial.call_off()

    def first(self, number: int, held: int, now: float) -> None:
        """Its first token is here. `held`: tokens in flight."""
        due = self.unheard.pop(number, None)
        if due is None:
            return
        self.begun += 1
        self._accepted += 1
        if self._anchor_by == inf:
            self._anchor_by = now + ANCHOR_TIME
        if number > self._last_begun:
            self._last_begun = number
        self._forget(now)
        if self.holding:
            self._begins += 1
            self._borne = max(self._borne, self.holds(number))
            self._review(now)
        elif number == self.trial.judge:
            self._judged(number, now <= due, now)
        elif self._measured and self.begun > self.limit:
            # The queue that set it was shorter than it looked.
            self.limit = self.ceiling = max(self.limit, min(float(self.begun), self._knee()))
        elif now > due:
            self._late(due, now)
        elif self.limit < inf and not self._anchoring:
            self._grow(held)

    def ended(self, number: int, now: float) -> None:
        """A stream is over, whether it had begun or not."""
        if self.unheard.pop(number, None) is None:
            self.begun -= 1
        if number == self.trial.judge:
            self.trial.call_off()
        if self.holding:
            self._ends += 1
            self._review(now)

    def forsake(self, number: int, until: float) -> None:
        """See `Unheard`. Nothing can be learnt of a trial that it was."""
        super().forsake(number, until)
        if number == self.trial.judge:
            self.trial.call_off()

    def gap(self, streams: float, seconds: float, now: float) -> None:
        """Seconds per token of one stream, lately, while so many ran."""
        pace = self.pace
        if self.holding:
            return
        pace.add(streams, seconds)
        if not self.trusted and pace.knee < self.limit and now >= self._looked_at_pace + 1.0:
            self._looked_at_pace = now
            self.limit = max(pace.knee, self.limit / 2, START / 2)
            self.why = "knee of its pace"
            self.version += 1

    def refused(self, named: float | None, now: float, *, again: bool = False) -> None:
        """Too many at once, says the cloud; `named`: the number its text names. The refused one has left the books.
        `again`: a refusal came before, and nothing that was sent since has been accepted."""
        standing = self.standing
        known = named is not None and named >= 1
        guessed = again and not known and self.limit < inf
        if guessed:
            limit = max(1.0, float(int(min(self.limit, standing + 1.0) / 2.0)))
        else:
            limit = named if named is not None and known else max(1.0, standing, 0.5 * self._spared_limit(now))
        if limit < self.limit or not self._hard:
            self._lower(min(limit, self.limit), now, hard=True, why="refused: too many at once")
        else:
            self._cut = now
            self.trial.call_off()
        self._guessed = guessed
        self._accepted = 0

    def overloaded(self, sent: float, now: float) -> None:
        """The platform is full. News only if we use much of what we may, and once per volley."""
        standing = self.standing
        if sent < self._cut or standing < 0.5 * min(self.limit, self._told):
            return
        limit = OVERLOADED * min(self.limit, standing + 1)
        self._lower(max(1.0, limit), now, hard=False, why="refused: overloaded")

    def look(self, now: float, held: int, full: bool) -> None:
        """Time has passed: is somebody overdue, may more be tried? `full`: the limit is in use."""
        if self._anchoring and (self.pace.anchored or now >= self._anchor_by):
            self._anchoring = False
        self._forget(now)
        if self.holding:
            self._review(now)
            self._scout(now)
        elif self.queue(now):
            self._hold(now)
        elif full and self.probe and self.limit < inf and not self._anchoring:
            self._try_more(now)
        due = min(self.unheard.values(), default=inf)
        self.turn = max(due, now + LOOK) if due < inf else inf
        if self.limit < inf and (full or self.holding or self._anchoring):
            self.turn = min(self.turn, now + IDLE_STEP)

    # --- the queue inside the cloud ---------------------------------------------------------------------

    def _hold(self, now: float) -> None:
        self.holding = True
        self._ran = self.begun
        self._begins = self._ends = self._borne = 0
        self._held_at = now
        self.trial.call_off()
        self.why = "queue in the cloud"
        self.version += 1
        self.volley = min(self.volley, FIRST_VOLLEY)

    def _review(self, now: float) -> None:
        """When the queue is gone, what is in flight is what the cloud bears."""
        if not self.queue(now):
            self.holding = False
            self._scouts = 0
            borne = float(self._borne or max(1, self.standing))
            if self._begins <= 1:
                # Not below half of what ran: a hold that a crash ended says nothing.
                borne = max(borne, self._ran / 2)
            if self._begins > self._ends + 1 or borne >= self.limit:
                # They began without anybody making room: they queued for the prompt to be read, not for a place.
                self.volley = max(LEAST_VOLLEY, self.volley / 2)
                self.why = "growing" if self.limit < inf else "declared"
                return
            self._lower(borne, now, hard=False, why="queue in the cloud", deep=borne < DEEP * self._ran)
            self._measured = True

    def _scout(self, now: float) -> None:
        """Now and then one more in spite of the queue: if it begins before those, they were lost and not queued."""
        if not self.holding:
            return
        lasts = now - self._held_at
        drained = not self._begins and self.begun <= DRAINED * self._ran
        if lasts < SCOUT * 2.0**self._scouts and not (drained and lasts >= SCOUT_SOON):
            return
        self._scouts += 1
        self.holding = False
        self.volley = len(self.unheard) + 1.0

    # --- shared between replicas ------------------------------------------------------------------------

    def lesson(self) -> Lesson:
        """What others should know."""
        tokens = None if self.tokens == inf else self.tokens
        shown = self.learnt if self.holding or self.limit == inf else max(1.0, self.limit)
        return Lesson(shown, tokens, version=self.version, probe=self.probe)

    def take_over(self, lesson: Lesson, now: float) -> None:
        """What another replica learnt, unless our own lesson is newer."""
        self.probe = lesson.probe
        if lesson.version <= self.version or self.holding:
            return
        self.limit = self.ceiling = inf if lesson.streams is None else lesson.streams
        self.tokens = inf if lesson.tokens is None else lesson.tokens
        self.version = lesson.version
        self.trial.call_off()
        self.trial.at = now + PROBE
        self.why = "told by another replica"

    # --- less and more ----------------------------------------------------------------------------------

    def _lower(self, limit: float, now: float, *, hard: bool, why: str, deep: bool = False) -> None:
        self.limit = self.ceiling = limit
        if self.volley == inf:
            self.volley = max(FIRST_VOLLEY, limit / 4)
        self._hard = hard
        self._guessed = self._measured = False
        self._cut = now
        self.trial.lowered(now, deep=deep)
        self.why = why
        self.version += 1

    def _spared_limit(self, now: float) -> float:
        """What a volley of refusals started from: it may not cut more than half of that."""
        if now - self._spared > 1.0:
            self._spared = now
            self._grown = self.limit if self.limit < inf else 0.0
        return self._grown

    def _late(self, due: float, now: float) -> None:
        if due >= self._looked:
            self._looked = now
            self.volley = max(LEAST_VOLLEY, self.volley / 2)

    def _grow(self, held: int) -> None:
        """A first token in time: the cloud bears what it has."""
        standing = self.standing
        if len(self.unheard) + 2 >= self.volley:
            self.volley = min(self.volley + 1.0, max(FIRST_VOLLEY, self.begun / 2))
        if not self.probe:
            return
        if held >= 0.8 * self.tokens:
            self.tokens += max(1.0, held / max(1, standing))
        if standing >= 0.8 * self.limit and self.limit < self.ceiling:
            self._raise(1.0 if self.limit < 0.9 * self.ceiling else 0.25)

    def _raise(self, step: float) -> None:
        knee = self._knee()
        limit = min(self.limit + step, self.ceiling, knee)
        if limit != self.limit:
            if int(limit) != int(self.limit):
                self.version += 1
            self.why = "knee of its pace" if limit == knee else "growing" if limit < self.ceiling else self.why
            self.limit = limit

    def _knee(self) -> float:
        """Streams beyond which the pace makes another one not worth it."""
        return inf if self.trusted else max(self.pace.knee, START / 2)

    def _try_more(self, now: float) -> None:
        """The limit is in use. Nobody is unheard: one more. At the ceiling: a trial when it is due."""
        if self.limit < self.ceiling:
            if not self.unheard:
                self._raise(1.0)
            return
        trial = self.trial
        if trial.tried or now < trial.at:
            return
        tried = float(int(min(self.limit + trial.step, self._knee())))
        earned = self._guessed or self._accepted >= EARNED or now >= self._cut + HARD_PROBE
        if tried <= self.limit or (self._hard and not earned):
            return
        if self.unheard and not self._hard and now < trial.at + IN_TURN:
            return
        self._accepted = 0
        trial.begin(tried, now, counted=not self.unheard and not self._hard)

    def _judged(self, number: int, in_time: bool, now: float) -> None:
        """The last stream of a trial has begun: what has the cloud borne?"""
        trial = self.trial
        borne = self.holds(number) if trial.counted else trial.tried if in_time or self._hard else 0.0
        if borne > self.limit:
            self.limit = self.ceiling = float(borne)
            trial.borne(self.limit, now, hard=self._hard)
            self.version += 1
            self.why = "growing"
        else:
            trial.missed(now)
