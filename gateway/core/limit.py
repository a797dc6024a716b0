"""How much a cloud bears, learnt from what it does: streams, and tokens in flight. Quotas are learnt apart (`quota`).

Every stream that was sent and has not begun is *unheard*; a stream that has begun is running. That split tells more
than any latency average: unheard ones that are *overdue* (their first token should have come, by the backend's own
floor) are a queue inside the cloud, and what runs meanwhile is what the cloud really computes at once.

      OPEN ── more overdue than a few, all younger than whoever began last ──▶ HOLD: only what runs is replaced
        ▲                                                                       │ by nothing
        └── the queue is gone: limit = ceiling = what is in flight at this moment ◀┘

| signal | means |
|---|---|
| first token in time, limit in use | limit + 1; near the last ceiling + ¼; at it nothing until a probe is due |
| first token late | half as many may be unheard at once |
| overdue first tokens | HOLD |
| refused: too many at once | limit = ceiling = what was accepted; the next probe must be earned |
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

START = 8
START_TOKENS = 131_072
"""Streams, and tokens in flight, that an account of which nothing is known may have."""
LEAST_VOLLEY, FIRST_VOLLEY = 2.0, 8.0
FEW, FEW_SHARE = 2, 0.03
"""So many overdue streams (or this share of all in flight) are no queue yet."""
OVERLOADED = 0.85
LOOK = 0.1
IDLE_STEP = 0.5
SCOUT = 4.0
ANCHOR_TIME = 3.0
"""Seconds from the first token on for which an account that is new may be kept at `START`, to see its pace."""
PROBE, LONGEST_PROBE, HARD_PROBE = 2.0, 16.0, 600.0
"""Seconds until more than the last ceiling is tried, doubling to the second; the third when refusals set it."""
EARNED = 500
"""Streams that must have begun for each refusal that a probe may cost."""
STRETCH, MOST_STRETCH = 0.03, 1.2


class Learner:
    """One account's limits in streams and tokens. The meter tells it everything and asks `cap`."""

    __slots__ = (
        "_accepted", "_anchor_by", "_anchoring", "_backoff", "_begins", "_cut", "_ends", "_forsaken", "_grown", "_hard",
        "_last_begun", "_looked", "_looked_at_pace", "_probe_at", "_probing", "_ran", "_scout_at", "_scouts", "_spared",
        "_told", "_wins", "begun", "ceiling", "holding", "limit", "pace", "probe", "tokens", "trusted", "turn",
        "unheard", "version", "volley", "why",
    )  # fmt: skip

    def __init__(self, learn: Learn, declared: float | None) -> None:
        self.pace = Pace()
        self.unheard: dict[int, float] = {}
        self._forsaken: dict[int, float] = {}
        self.begun = 0
        self.ceiling = inf
        self.probe = True
        self.version = 0
        self.holding = False
        self.turn = inf
        self.limit = self.tokens = self.volley = inf
        self.trusted = False
        self.why = ""
        self._backoff = self._scouts = self._last_begun = self._ran = self._wins = 0
        self._begins = self._ends = 0
        self._accepted = 0
        self._hard = self._probing = False
        self._anchoring = True
        self._anchor_by = inf
        self._looked_at_pace = -inf
        self._probe_at = self._cut = self._grown = self._looked = self._spared = -inf
        self._scout_at = inf
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
        if self.limit < most:
            most = self.limit
        if self._anchoring and most > START:
            most = START
        return most if most == inf else max(1, int(most))

    @property
    def gating(self) -> bool:
        """Does the cap follow what is in flight?"""
        return self.limit < inf or self.holding

    @property
    def standing(self) -> int:
        """Streams in flight: those that run, those whose prompt is being read, those that queue in the cloud."""
        return self.begun + len(self.unheard)

    @property
    def running(self) -> float:
        """Streams that share the engine: those that have begun, and in part those whose prompt is being read."""
        return self.begun + len(self.unheard) / 2

    @property
    def calm(self) -> bool:
        """Is so little in flight that what a first token takes now is what it takes at least?"""
        standing = self.standing
        return standing <= 2 or (len(self.unheard) <= 1 and standing < 0.5 * self.limit)

    @property
    def learnt(self) -> float | None:
        """The limit in streams as it is believed now; None: nothing contradicts what was declared."""
        shown = min(self.limit, self.begun) if self.holding else self.limit
        return None if shown == inf else max(1.0, shown)

    # --- what the meter tells ---------------------------------------------------------------------------

    def sent(self, number: int, due: float) -> None:
        """A stream was sent; its first token is due at a time."""
        self.unheard[number] = due
        if due < self.turn:
            self.turn = due

    def sent_blind(self) -> None:
        """A plain request was sent: its first token will not be seen, so it counts as running at once."""
        self.begun += 1

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
            self._review(now)
        elif now > due:
            self._late(due, now)
        elif self.limit < inf and not self._anchoring:
            self._grow(held)

    def ended(self, number: int, now: float) -> None:
        """A stream is over, whether it had begun or not."""
        if self.unheard.pop(number, None) is None:
            self.begun -= 1
        if self.holding:
            self._ends += 1
            self._review(now)

    def forsake(self, number: int, until: float) -> None:
        """A hedge was quicker: nobody awaits this one's first token. It is still a sign of a queue, until a younger one
        begins or that time has come; else a cloud that requests are taken away from would never be seen to queue."""
        if number in self.unheard:
            self._forsaken[number] = until

    def _forget(self, now: float) -> None:
        if self._forsaken:
            for number in [n for n, until in self._forsaken.items() if n < self._last_begun or until <= now]:
                del self._forsaken[number]
                self.unheard.pop(number, None)

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

    def refused(self, named: float | None, now: float) -> None:
        """Too many at once, says the cloud; `named`: the number its text names. The refused one has left the books."""
        standing = self.standing
        limit = named if named is not None and named >= 1 else max(1.0, standing, 0.5 * self._spared_limit(now))
        if limit < self.limit or not self._hard:
            self._lower(min(limit, self.limit), now, hard=True, why="refused: too many at once")

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
        elif self._queue(now):
            self._hold(now)
        elif full and self.probe and self.limit < inf and not self._anchoring:
            self._try_more(now)
        due = min(self.unheard.values(), default=inf)
        self.turn = max(due, now + LOOK) if due < inf else inf
        if self.limit < inf and (full or self.holding or self._anchoring):
            self.turn = min(self.turn, now + IDLE_STEP)

    # --- the queue inside the cloud ---------------------------------------------------------------------

    def _queue(self, now: float) -> int:
        """How many wait for their first token in vain, all of them sent after whoever began last; 0 if only a few."""
        last = self._last_begun
        overdue = sum(1 for number, due in self.unheard.items() if due < now and number > last)
        return overdue if overdue >= max(FEW, FEW_SHARE * (self.standing)) else 0

    def _hold(self, now: float) -> None:
        self.holding = True
        self._ran = self.begun
        self._begins = self._ends = 0
        self._scout_at = now + SCOUT * 2.0**self._scouts
        self.why = "queue in the cloud"
        self.version += 1
        self.volley = min(self.volley, FIRST_VOLLEY)

    def _review(self, now: float) -> None:
        """When the queue is gone, what is in flight is what the cloud bears."""
        if not self._queue(now):
            self.holding = False
            self._scouts = 0
            if self._begins > self._ends + 1:
                # They began without anybody making room: they queued for the prompt to be read, not for a place.
                self.volley = max(LEAST_VOLLEY, self.volley / 2)
                self.why = "growing" if self.limit < inf else "declared"
                return
            # Not below half of what ran: a hold that a crash ended says nothing.
            standing = max(1.0, self.standing, self._ran / 2)
            self._lower(min(self.limit, standing), now, hard=False, why="queue in the cloud")

    def _scout(self, now: float) -> None:
        """Now and then one more in spite of the queue: if it begins before those, they were lost and not queued."""
        if not self.holding or now < self._scout_at:
            return
        self._scouts += 1
        self.holding = False
        self.volley = len(self.unheard) + 1.0

    # --- shared between replicas ------------------------------------------------------------------------

    def lesson(self) -> Lesson:
        """What others should know."""
        tokens = None if self.tokens == inf else self.tokens
        return Lesson(self.learnt, tokens, version=self.version, probe=self.probe)

    def take_over(self, lesson: Lesson, now: float) -> None:
        """What another replica learnt, unless our own lesson is newer."""
        self.probe = lesson.probe
        if lesson.version <= self.version or self.holding:
            return
        self.limit = self.ceiling = inf if lesson.streams is None else lesson.streams
        self.tokens = inf if lesson.tokens is None else lesson.tokens
        self.version = lesson.version
        self._probe_at = now + PROBE
        self.why = "told by another replica"

    # --- less and more ----------------------------------------------------------------------------------

    def _lower(self, limit: float, now: float, *, hard: bool, why: str) -> None:
        self.limit = self.ceiling = limit
        if self.volley == inf:
            self.volley = max(FIRST_VOLLEY, limit / 4)
        self._hard = hard
        self._cut = now
        self._wins = 0
        self._probing = False
        wait = min(PROBE * 2.0**self._backoff, LONGEST_PROBE)
        self._backoff = min(self._backoff + 1, 10)
        self._probe_at = now + wait
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
        if standing >= 0.8 * self.limit:
            if standing >= self.ceiling and self._probing:
                self._wins += 1
                self.ceiling = self.ceiling * min(1.0 + STRETCH * self._wins, MOST_STRETCH) + 1.0
                self._backoff = 0
            self._raise(1.0 if self.limit < 0.9 * self.ceiling else 0.25)

    def _raise(self, step: float) -> None:
        knee = inf if self.trusted else self.pace.knee
        limit = min(self.limit + step, self.ceiling, max(knee, START / 2))
        if limit != self.limit:
            if int(limit) != int(self.limit):
                self.version += 1
            self.why = "knee of its pace" if limit == knee else "growing" if limit < self.ceiling else self.why
            self.limit = limit

    def _try_more(self, now: float) -> None:
        """The limit is in use. Nobody is unheard: one more. At the ceiling: one more when a probe is due."""
        if self.limit < self.ceiling:
            if not self.unheard:
                self._raise(1.0)
            return
        earned = self._accepted >= EARNED or now >= self._cut + HARD_PROBE
        if now >= self._probe_at and (earned or not self._hard):
            if self._hard:
                self._accepted = 0
            self._probe_at = now + min(PROBE * 2.0**self._backoff, LONGEST_PROBE)
            self.ceiling = self.limit + 1.0
            self._probing = True
            self._raise(1.0)
