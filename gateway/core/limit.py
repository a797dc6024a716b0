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
- `limit`, `standing` and the queue are the whole account's; what others have in flight we are told (`unheard`). A
  replica's part of the limit is the shared store's business; till that has followed, it leaves alone what others use.
- Nothing grows unless the limit is in use and this replica is the prober. Nothing is learnt from what never began.
- Anybody's refusal or queue cuts; what others saw begin in time counts as if this replica had seen it.
- A declared limit is trusted until the cloud contradicts it: no knee, and no bound on the unheard before that.
"""

from __future__ import annotations

from math import inf

from gateway.core.growth import FIRST_VOLLEY, Growth
from gateway.core.knowledge import START, START_TOKENS
from gateway.core.lesson import Lesson
from gateway.core.nouns import Learn
from gateway.core.pace import ANCHOR
from gateway.core.trial import DEEP, PROBE

OVERLOADED = 0.85
LOOK = 0.1
IDLE_STEP = 0.5
SCOUT, SCOUT_SOON, DRAINED = 30.0, 4.0, 0.4
"""A hold in which nobody begins is put to the test after so many seconds, or, after the second number of them, when
less than this share of what ran still runs: a cloud that has halved would have begun somebody by then."""
ANCHOR_TIME = 3.0
"""Seconds from the first token on for which an account that is new may be kept at `START`, to see its pace."""

ABOVE = 1.25
"""In flight beyond so many times a limit, what is refused says nothing of the limit."""
SETTLED = 1.0
"""Seconds after which a refusal has been heard of by all replicas, and what was under way before it has ended."""


class Learner(Growth):
    """One account's limits in streams and tokens. The meter tells it everything and asks `cap`."""

    __slots__ = (
        "_anchor_by", "_began", "_denied", "_ended", "_grown", "_held_at", "_looked_at_pace", "_ran", "_scouts",
        "_spared", "turn",
    )  # fmt: skip

    def __init__(self, learn: Learn, declared: float | None) -> None:
        super().__init__()
        self.turn = inf
        self._scouts = self._ran = self._began = self._ended = 0
        self._anchor_by = self._denied = self._held_at = inf
        self._grown = self._looked_at_pace = self._spared = -inf
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
        whole = self.trial.tried if self.trial.open else self.limit
        if self._anchoring and whole > START:
            whole = START
        others = self.others
        if others.active:
            # What others use is theirs; an even part is ours in any case.
            whole = max(whole - others.streams, min(whole, self.limit) / self.parts)
        if whole < most:
            most = whole
        return most if most == inf else max(1, int(most))

    @property
    def gating(self) -> bool:
        """Does the cap follow what is in flight?"""
        return self.limit < inf or self.holding

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
            self._find(self.trial.tried)
            self.trial.call_off()

    def first(self, number: int, held: int, now: float) -> None:
        """Its first token is here. `held`: tokens in flight."""
        due = self.unheard.pop(number, None)
        if due is None:
            return
        self.begun += 1
        self.begins += 1
        self._accepted += 1
        if self._anchor_by == inf:
            self._anchor_by = now + ANCHOR_TIME
        if number > self._last_begun:
            self._last_begun = number
        if now >= self._denied + SETTLED:
            self._denied = inf
        self._forget(now)
        if self.holding:
            self._began += 1
            self._unweighed = max(self._unweighed, self.holds(number))
            if not self.others.active:
                self._weigh(0, now)
            self._review(now)
        elif number == self.trial.judge:
            self._judged(number, now <= due, now)
        elif self._measured and self.begun > self.limit:
            self._find_more()
        elif now > due:
            self._late(due, now)
        else:
            self.timely += 1
            if self.limit < inf and not self._anchoring:
                self._grow(held)

    def ended(self, number: int, now: float) -> None:
        """A stream is over, whether it had begun or not."""
        if self.unheard.pop(number, None) is None:
            self.begun -= 1
        self.ends += 1
        if number == self.trial.judge:
            self.trial.call_off()
        if self.holding:
            self._ended += 1
            self._review(now)

    def forsake(self, number: int, until: float) -> None:
        """See `Unheard`. Nothing can be learnt of a trial that it was."""
        super().forsake(number, until)
        if number == self.trial.judge:
            self.trial.call_off()

    def gap(self, streams: float, seconds: float, now: float) -> None:
        """Seconds per token of one stream, lately, while so many ran."""
        if self.holding:
            return
        self.samples += 1
        self.gaps += seconds
        self.crowd += streams
        self._paced(streams, seconds, now)

    def _paced(self, streams: float, seconds: float, now: float) -> None:
        pace = self.pace
        pace.add(streams, seconds)
        if not self.trusted and pace.knee < self.limit and self.probe and now >= self._looked_at_pace + 1.0:
            self._looked_at_pace = now
            limit = max(pace.knee, self.limit / 2, START / 2)
            if int(limit) != int(self.limit):
                self._cuts, self._raises = self._cuts + 1, 0
            self.limit = limit
            self.why = "knee of its pace"

    def refused(self, named: float | None, now: float, *, again: bool = False, sent: float = -inf) -> None:
        """Too many at once, says the cloud; `named`: the number its text names. The refused one has left the books.
        `again`: a refusal came before, and nothing that was sent since has been accepted. With others, that is asked
        of what all have met, and of one `sent` when the first refusal had been heard, not far above the limit."""
        standing = self.standing
        known = named is not None and named >= 1
        if self.others.active:
            again = sent >= self._denied + SETTLED and standing <= ABOVE * self.limit
        guessed = again and not known and self.limit < inf
        if guessed:
            limit = max(1.0, float(int(min(self.limit, standing + 1.0) / 2.0)))
        else:
            limit = named if named is not None and known else max(1.0, standing, 0.5 * self._spared_limit(now))
        if limit < self.limit or not self._hard:
            self._lower(min(limit, self.limit), now, hard=True, why="refused: too many at once")
            self._guessed = guessed
        else:
            self._cut = now
            self.trial.call_off()
            # One that was sent before the limit was halved says nothing of the half.
            self._guessed = self._guessed and standing > self.limit
        self._deny(now)

    def _deny(self, now: float) -> None:
        """Somebody was refused."""
        if self._denied == inf or self._guessed:
            self._denied = now
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
        if self._anchoring and self.probe and (self.pace.anchored or now >= self._anchor_by):
            self._anchoring = False
            self._raises += 1
        if self.others.active:
            full = self.standing >= 0.9 * self.limit
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
        self._ran = self.begun + self.others.begun
        self._began = self._ended = self._borne = self._unweighed = 0
        self._held_at = now
        self.trial.call_off()
        self.why = "queue in the cloud"
        self.volley = min(self.volley, self._first_volley)

    def _review(self, now: float) -> None:
        """When the queue is gone, what is in flight is what the cloud bears."""
        if not self.queue(now):
            self._weigh(self.others.begun, now)
            self.holding = False
            self._scouts = 0
            if self._cut > self._held_at:
                return  # another replica has seen the end of it, and told what is borne
            borne = float(self._borne or max(1, self.standing))
            if self._began <= 1:
                # Not below half of what ran: a hold that a crash ended says nothing.
                borne = max(borne, self._ran / 2)
            if self._began > self._ended + 1 or borne >= self.limit:
                # They began without anybody making room: they queued for the prompt to be read, not for a place.
                self._halve_volley()
                self.why = "growing" if self.limit < inf else "declared"
                return
            self._lower(borne, now, hard=False, why="queue in the cloud", deep=borne < DEEP * self._ran)
            self._measured = True

    def _scout(self, now: float) -> None:
        """Now and then one more in spite of the queue: if it begins before those, they were lost and not queued.
        Only who sent them can find out; several who wait in the same queue do not try as often as one would."""
        if not self.holding or not self.overdue(now):
            return
        lasts = (now - self._held_at) / (1 if self.probe else self.parts)
        drained = not self._began and self.begun + self.others.begun <= DRAINED * self._ran
        if lasts < SCOUT * 2.0**self._scouts and not (drained and lasts >= SCOUT_SOON):
            return
        self._scouts += 1
        self.holding = False
        self.volley = len(self.unheard) + 1.0

    # --- shared between replicas ------------------------------------------------------------------------

    def take_over(self, lesson: Lesson, held: int, now: float) -> bool:
        """What other replicas learnt, and what they have in flight beside the `held` tokens here. True when one of
        them was refused lately, for too many at once."""
        before, parts, cuts, others = self.others, self.parts, self._cuts, lesson.others
        ran, least = self.begun + before.begun, min(before.begun, others.begun)
        if others.begins and now >= self._denied + SETTLED:
            self._denied = inf
        self._accepted += others.begins
        denied = False
        if self.hear(lesson):
            self.trial.call_off()
            if self.volley == inf:
                self.volley = self._volley_of(self.limit)
            if self._cuts > cuts:
                self._note_cut(now, deep=self.limit < DEEP * ran)
                if denied := self._hard:
                    self._deny(now)
            self.trial.at = max(self.trial.at, now + PROBE)
        elif not self.probe:
            self.trial.call_off()
        if self.parts > parts:
            self.volley = max(1.0, self.volley * parts / self.parts)
        self._weigh(least, now)
        if self.holding:
            self._began += others.begins
            self._ended += others.ends
        else:
            for _ in range(min(others.samples, ANCHOR)):
                self._paced(others.crowd / others.samples, others.gaps / others.samples / 1e6, now)
            if self._measured and self.begun + least > self.limit:
                self._find_more(least)
            elif others.timely and self.probe and self.limit < inf and not self._anchoring:
                self._more(held, others.timely)
        self.turn = min(self.turn, now if self.holding or others.overdue else now + IDLE_STEP)
        return denied

    # --- less and more ----------------------------------------------------------------------------------

    def _lower(self, limit: float, now: float, *, hard: bool, why: str, deep: bool = False) -> None:
        self.limit = self.ceiling = limit
        if self.volley == inf:
            self.volley = self._volley_of(limit)
        self._hard = hard
        self._guessed = self._measured = False
        self._cuts, self._raises = self._cuts + 1, 0
        self.why = why
        self._note_cut(now, deep=deep)

    def _note_cut(self, now: float, *, deep: bool) -> None:
        """The limit was cut, here or elsewhere: the next trial is due later."""
        self.trial.lowered(now, deep=deep)
        self._cut = now

    def _spared_limit(self, now: float) -> float:
        """What a volley of refusals started from: it may not cut more than half of that."""
        if now - self._spared > 1.0:
            self._spared = now
            self._grown = self.limit if self.limit < inf else 0.0
        return self._grown
