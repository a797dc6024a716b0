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
- `limit`, `standing` and the queue are the whole account's; what others have in flight we are told (`knowledge`). A
  replica's part of the limit is the shared store's business; till that has followed, it leaves alone what others use.
- Nothing grows unless the limit is in use and this replica is the prober. Nothing is learnt from what never began.
- Anybody's refusal or queue cuts; what others saw begin in time counts as if this replica had seen it.
- A declared limit is trusted until the cloud contradicts it: no knee, and no bound on the unheard before that.
"""

from __future__ import annotations

from math import inf

from gateway.core.knowledge import START, START_TOKENS, Knowledge
from gateway.core.lesson import Lesson
from gateway.core.nouns import Learn
from gateway.core.pace import ANCHOR

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
IN_USE = 0.8
"""A limit of which this share is in flight is in use."""
LEAD, LEAST_LEAD = 0.02, 1.0
"""By how much a limit that several replicas use may lead what they have in flight: shares follow late, and as many
streams are sent at once."""
SETTLED = 1.0
"""Seconds within which cuts by several replicas are taken for one."""


class Learner(Knowledge):
    """One account's limits in streams and tokens. The meter tells it everything and asks `cap`."""

    __slots__ = (
        "_accepted", "_anchor_by", "_backoff", "_began", "_cut", "_ended", "_forsaken", "_grown", "_held_at", "_looked",
        "_looked_at_pace", "_probe_at", "_probing", "_ran", "_scout_at", "_scouts", "_spared", "_wins",
        "trusted", "turn", "volley",
    )  # fmt: skip

    def __init__(self, learn: Learn, declared: float | None) -> None:
        super().__init__()
        self._forsaken: dict[int, float] = {}
        self.turn = self.volley = inf
        self.trusted = False
        self._backoff = self._scouts = self._ran = self._wins = 0
        self._began = self._ended = 0
        self._accepted = 0
        self._probing = False
        self._anchor_by = inf
        self._looked_at_pace = -inf
        self._probe_at = self._cut = self._grown = self._held_at = self._looked = self._spared = -inf
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
        whole = START if self._anchoring and self.limit > START else self.limit
        others = self.others
        if others.active:
            # What others use is theirs; an even part is ours in any case.
            whole = max(whole - others.streams, whole / self.parts)
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
        self.begins += 1
        self._accepted += 1
        if self._anchor_by == inf:
            self._anchor_by = now + ANCHOR_TIME
        if number > self._last_begun:
            self._last_begun = number
        self._forget(now)
        if self.holding:
            self._began += 1
            self._review(now)
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
        if self.holding:
            self._ended += 1
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
        if self.holding:
            return
        self.samples += 1
        self.gaps += seconds
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
        if self._anchoring and self.probe and (self.pace.anchored or now >= self._anchor_by):
            self._anchoring = False
            self._raises += 1
        if self.others.active:
            full = self.standing >= 0.9 * self.limit
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
        """How many, here and elsewhere, wait for their first token in vain; 0 if only a few."""
        overdue = self.overdue(now) + self.others.overdue
        return overdue if overdue >= max(FEW, FEW_SHARE * (self.standing)) else 0

    def _hold(self, now: float) -> None:
        self.holding = True
        self._held_at = now
        self._ran = self.begun + self.others.begun
        self._began = self._ended = 0
        # Only who sent them can find out; several who wait in the same queue do not try as often as one would.
        self._scout_at = now + SCOUT * 2.0**self._scouts * self.parts
        self.why = "queue in the cloud"
        self.volley = min(self.volley, self._first_volley)

    def _review(self, now: float) -> None:
        """When the queue is gone, what is in flight is what the cloud bears."""
        if not self._queue(now):
            self.holding = False
            self._scouts = 0
            if self._cut > self._held_at:
                return  # another replica has seen the end of it, and told what is borne
            if self._began > self._ended + 1:
                # They began without anybody making room: they queued for the prompt to be read, not for a place.
                self._halve_volley()
                self.why = "growing" if self.limit < inf else "declared"
                return
            # Not below half of what ran: a hold that a crash ended says nothing.
            standing = max(1.0, self.standing, self._ran / 2)
            self._lower(min(self.limit, standing), now, hard=False, why="queue in the cloud")

    def _scout(self, now: float) -> None:
        """Now and then one more in spite of the queue: if it begins before those, they were lost and not queued."""
        if not self.holding or now < self._scout_at or not self.overdue(now):
            return
        self._scouts += 1
        self.holding = False
        self.volley = len(self.unheard) + 1.0

    # --- shared between replicas ------------------------------------------------------------------------

    def take_over(self, lesson: Lesson, held: int, now: float) -> None:
        """What other replicas learnt, and what they have in flight beside the `held` tokens here."""
        cuts, parts, others = self._cuts, self.parts, lesson.others
        if self.hear(lesson):
            self._probing = False
            if self.volley == inf:
                self.volley = self._volley_of(self.limit)
            if self._cuts > cuts:
                self._note_cut(now)
            self._probe_at = max(self._probe_at, now + PROBE)
        if self.parts > parts:
            self.volley = max(1.0, self.volley * parts / self.parts)
        self._accepted += others.begins
        if self.holding:
            self._began += others.begins
            self._ended += others.ends
        else:
            for _ in range(min(others.samples, ANCHOR)):
                self._paced(self.running, others.gaps / others.samples / 1e6, now)
            if others.timely and self.probe and self.limit < inf and not self._anchoring:
                self._more(held, others.timely)
        self.turn = min(self.turn, now if self.holding or others.overdue else now + IDLE_STEP)

    @property
    def _first_volley(self) -> float:
        return max(LEAST_VOLLEY, FIRST_VOLLEY / self.parts)

    def _volley_of(self, limit: float) -> float:
        """How many may be unheard at once under a limit that has just been found, of this replica's."""
        return max(FIRST_VOLLEY, limit / 4) / self.parts

    def _halve_volley(self) -> None:
        self.volley = max(1.0, LEAST_VOLLEY / self.parts, self.volley / 2)

    # --- less and more ----------------------------------------------------------------------------------

    def _lower(self, limit: float, now: float, *, hard: bool, why: str) -> None:
        self.limit = self.ceiling = limit
        if self.volley == inf:
            self.volley = self._volley_of(limit)
        self._hard = hard
        self._cuts, self._raises = self._cuts + 1, 0
        self.why = why
        self._note_cut(now)

    def _note_cut(self, now: float) -> None:
        """The limit was cut, here or elsewhere: the next probe is due later, once per cut."""
        if not self.others.active or now >= self._cut + SETTLED:
            self._probe_at = now + min(PROBE * 2.0**self._backoff, LONGEST_PROBE)
            self._backoff = min(self._backoff + 1, 10)
        self._cut = now
        self._wins = 0
        self._probing = False

    def _spared_limit(self, now: float) -> float:
        """What a volley of refusals started from: it may not cut more than half of that."""
        if now - self._spared > 1.0:
            self._spared = now
            self._grown = self.limit if self.limit < inf else 0.0
        return self._grown

    def _late(self, due: float, now: float) -> None:
        if due >= self._looked:
            self._looked = now
            self._halve_volley()

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
        if standing >= self.limit - lead:
            if standing >= self.ceiling and self._probing:
                self._wins += 1
                self.ceiling = self.ceiling * min(1.0 + STRETCH * self._wins, MOST_STRETCH) + 1.0
                self._backoff = 0
            step = 1.0 if self.limit < 0.9 * self.ceiling else 0.25
            self._raise(min(step * count, max(step, standing + lead - self.limit)))

    def _raise(self, step: float) -> None:
        knee = inf if self.trusted else self.knee
        limit = min(self.limit + step, self.ceiling, max(knee, START / 2))
        if limit != self.limit:
            if int(limit) != int(self.limit):
                self._raises += 1
            self.why = "knee of its pace" if limit == knee else "growing" if limit < self.ceiling else self.why
            self.limit = limit

    def _try_more(self, now: float) -> None:
        """The limit is in use. Nobody is unheard: one more. At the ceiling: one more when a probe is due."""
        if self.limit < self.ceiling:
            if not self.unheard and not self.others.unheard:
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
