"""What one account has left: every limit that a cloud counts, in one place, for all backends that share it.

Streams are counted from Go to settle. Requests and prompts enter their windows at dispatch. Expected answers are
*reserved* and move into the window as they flow, so that window plus reservations is at every moment what the
cloud has counted or still may; what was not used is given back at the end, and an answer that outgrows its
reservation simply fills the window (debt). `tps` reserves only the prompt: a second is too short to plan for.

Rules
- `in_flight` and `reserved` change in `take`, `flow` and `release` only, and are 0 when no lease lives.
- A slot whose connection *we* closed is kept `LINGER` longer at least: the cloud learns of it a moment later.
- When nothing is sent at all is told in `pauses`, and how traffic returns in `comeback`.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from gateway.core.bounds import Bounds
from gateway.core.comeback import Climb, Relief, Return, rise, span
from gateway.core.limit import Learner
from gateway.core.nouns import Learn, Limited, LimitKind, Limits
from gateway.core.pauses import Pauses
from gateway.core.quota import QUOTAS, Quota
from gateway.core.window import PROMPT, REQUESTS, TOKENS, Ramp, Window

if TYPE_CHECKING:
    from random import Random

FULL = inf
LINGER = 0.05

_WINDOWS: dict[LimitKind, tuple[float, int]] = {
    "rpm": (60.0, REQUESTS),
    "tpm": (60.0, TOKENS),
    "rps": (1.0, REQUESTS),
    "tps": (1.0, PROMPT),
}


class Meter(Pauses):
    """An account's gauges. See the module for the rules."""

    __slots__ = (
        "_climb", "_ghosts", "_owed", "_relief", "_request_windows", "_return", "_streams", "_token_windows", "bounds",
        "by_kind", "cap", "held", "in_flight", "learner", "name", "quotas", "reserved", "retired", "token_cap", "turn",
        "windows",
    )  # fmt: skip

    def __init__(self, name: str, limits: Limits, learn: Learn = "off") -> None:
        super().__init__()
        self.name = name
        self.in_flight = 0
        self.reserved = 0
        self.cap: float = inf
        self.retired: float | None = None
        self.by_kind: dict[LimitKind, Window | Ramp] = {}
        self.windows: tuple[Window | Ramp, ...] = ()
        self._ghosts: deque[float] = deque()
        self._relief: Relief | None = None
        self._return: Return | None = None
        self._climb: Climb | None = None
        self._owed: tuple[float, int] | None = None
        self.turn = inf
        self.held = 0
        self.token_cap: float = inf
        self.learner: Learner | None = None
        self.quotas: dict[LimitKind, Quota] = {}
        self.bounds = Bounds(limits)
        self.declare(limits, learn)

    def __repr__(self) -> str:
        cooling = f", cooling ({self.cooling_reason}) until {self.cooling_until:g}" if self.cooling_until else ""
        return f"<Meter {self.name}: {self.in_flight}/{self.cap:g} in flight, {list(self.windows)}{cooling}>"

    # --- the hot path -----------------------------------------------------------------------------------

    def load(self, prompt: int, total: int, now: float) -> float:
        """The share of the fullest limit in use, or `FULL` when some limit has no room for this request."""
        if now >= self.turn:
            self._settle_cap(now)
        cap = self.cap
        flying = self.in_flight + len(self._ghosts)
        if flying >= cap or (self.held + total > self.token_cap and flying):
            return FULL
        worst = flying / cap
        for window in self._request_windows:
            if now >= window.turn:
                window.roll(now)
            used, limit = window.used, window.limit
            if used + 1 > limit:
                return FULL
            if used > worst * limit:
                worst = used / limit
        for window in self._token_windows:
            if now >= window.turn:
                window.roll(now)
            used, limit = window.used, window.limit
            if window.counts == TOKENS:
                used += self.reserved
                need = total
            else:
                need = prompt
            # What is larger than the limit itself goes when the window is empty, unless others have a part of it.
            if used + need > limit and (used > 0 or window.partial):
                return FULL
            if used > worst * limit:
                worst = used / limit
        return worst

    def take(self, prompt: int, answer: int, now: float) -> None:
        """A request is sent."""
        self.in_flight += 1
        self.reserved += answer
        for window in self._request_windows:
            window.add(1, now)
        for window in self._token_windows:
            window.add(prompt, now)

    def flow(self, tokens: int, reserved: int, now: float) -> None:
        """`tokens` came out, `reserved` of them from this lease's reservation."""
        self.reserved -= reserved
        for window in self._token_windows:
            window.add(tokens, now)

    def release(self, unspent: int, now: float, linger: float = 0.0) -> None:
        """A lease ended; `linger`: seconds for which its slot is kept."""
        self.in_flight -= 1
        self.reserved -= unspent
        if linger:
            insort(self._ghosts, now + linger)
            self.turn = min(self.turn, self._ghosts[0])

    # --- what the learner sees --------------------------------------------------------------------------

    def unwatch(self, lease: int, total: int, now: float) -> None:
        """A lease over so many tokens ended."""
        self.held -= total
        if (learner := self.learner) is not None:
            learner.ended(lease, now)
            if learner.gating:
                self._settle_cap(now)

    def watch(self, lease: int, total: int, due: float, stream: bool, now: float) -> None:
        """A lease over so many tokens began whose first token is overdue from `due` on; a plain answer shows none."""
        self.held += total
        learner = self.learner
        if learner is None:
            return
        if stream:
            learner.sent(lease, due)
            self.turn = min(self.turn, due)
        else:
            learner.sent_blind()
        if learner.gating:
            self._settle_cap(now)

    def heard(self, lease: int, now: float) -> bool:
        """Its first token is here. True when that made room."""
        learner = self.learner
        if learner is None:
            return False
        learner.first(lease, self.held, now)
        if gating := learner.gating:
            self._settle_cap(now)
        return gating

    def correct(self, prompt: int, then: float, now: float) -> None:
        """The prompt sent at `then` was larger (or, negative, smaller) by `prompt` tokens than believed."""
        for window in self._token_windows:
            if prompt > 0:
                window.add(prompt, now)
            else:
                window.refund(-prompt, then)

    # --- limits -----------------------------------------------------------------------------------------

    def declare(self, limits: Limits, learn: Learn = "off") -> None:
        """The operator's limits; they hold at once. Windows of kinds that persist keep what they remember."""
        beyond = learn == "beyond"
        self.bounds.declared = Limits(rps=limits.rps, tps=limits.tps, ramp=limits.ramp) if beyond else limits
        if learn == "off":
            self.learner = None
            self.bounds.learned.clear()
            self._climb = None
            self.quotas = {}
        elif self.learner is None:
            # What is in flight already is taken for running: its first tokens are not awaited.
            self.learner = Learner(learn, limits.streams)
            self.learner.begun = self.in_flight
            self.quotas = {kind: Quota() for kind in QUOTAS}
        else:
            self.learner.declare(learn, limits.streams)
        if beyond:
            for kind in QUOTAS:
                start = getattr(limits, kind)
                if start is not None:
                    self.bounds.learned.setdefault(kind, start)
        self._rebuild()

    def advertise(self, kind: LimitKind, limit: float) -> None:
        """The cloud names a limit. It counts if it is lower than the declared one, until it names another."""
        if self.bounds.advertised.get(kind) != limit:
            self.bounds.advertised[kind] = limit
            self._rebuild()

    def learn(self, kind: LimitKind, limit: float) -> None:
        """A rate limit was learnt."""
        self.bounds.learned[kind] = limit
        self._rebuild()

    def share(self, share: Limits | None) -> None:
        """This replica's part of the limits, None: all of them. It holds at once."""
        if self.bounds.share != share:
            self.bounds.share = share
            self._rebuild()

    def _rebuild(self) -> None:
        """Make the gauges anew from the limits that hold now; what they remember stays."""
        old, bounds = self.by_kind, self.bounds
        new: dict[LimitKind, Window | Ramp] = {}
        for kind, (seconds, counts) in _WINDOWS.items():
            limit = bounds.limit(kind)
            if limit is None and kind in self.quotas:
                limit = inf
            if limit is not None:
                window = old.get(kind)
                if not isinstance(window, Window):
                    window = Window(seconds, limit, counts)
                window.limit = limit
                new[kind] = window
        step = bounds.limit("ramp")
        if step is not None:
            ramp = old.get("ramp")
            if not isinstance(ramp, Ramp):
                ramp = Ramp(step)
            ramp.set_step(step)
            new["ramp"] = ramp
        for kind, gauge in new.items():
            gauge.partial = bounds.limit(kind) != bounds.whole(kind)
        self.by_kind = new
        self.windows = tuple(new.values())
        self._request_windows = tuple(w for w in self.windows if w.counts == REQUESTS)
        self._token_windows = tuple(w for w in self.windows if isinstance(w, Window) and w.counts != REQUESTS)
        streams = bounds.limit("streams")
        self._streams = inf if streams is None else streams
        self.cap = self._streams
        self.turn = -inf

    def _settle_cap(self, now: float) -> None:
        """Let ghosts go and let a temporary cap relax, and note when the next of these happens."""
        ghosts = self._ghosts
        while ghosts and ghosts[0] <= now:
            ghosts.popleft()
        turn = ghosts[0] if ghosts else inf
        self.cap = self._streams
        if (relief := self._relief) is not None:
            turn = min(turn, relief.turn(now))
            if relief.turn(now) < inf:
                self.cap = min(self.cap, relief.cap(now))
            else:
                self._relief = None
        if self.learner is not None:
            turn = min(turn, self._look(self.learner, now))
        if self._climb is not None:
            turn = min(turn, self._relax(self._climb, now))
        if (returning := self._return) is not None:
            turn = min(turn, returning.turn(now))
            if returning.turn(now) < inf:
                self.cap = returning.cap(self.cap, now)
            else:
                self._return = None
        self.turn = turn

    def _look(self, learner: Learner, now: float) -> float:
        """Ask what was learnt; when to ask again."""
        if now >= learner.turn:
            learner.look(now, self.held, self.in_flight >= min(self._streams, learner.cap()))
        if self.bounds.part("streams") is not None and self.cap == self._streams:
            # A trial needs no share, since one replica at a time tries; but it never exceeds what is known.
            self.cap += learner.bonus(self.bounds.whole("streams"))
        self.cap = min(self.cap, learner.cap())
        self.token_cap = learner.token_cap()
        turn = learner.turn
        for kind, quota in self.quotas.items():
            window = self.by_kind[kind]
            if quota.due(window, now):
                self.bounds.learned[kind] = quota.limit
                window.limit = self.bounds.limit(kind) or inf
            turn = min(turn, quota.turn)
        return turn

    def _relax(self, climb: Climb, now: float) -> float:
        """The rise in starts that the cloud bears, larger when it has borne it for a while; when to ask again."""
        if now >= climb.turn:
            climb.relax(now)
            if climb.over:
                self._climb = None
                del self.bounds.learned["ramp"]
                self._rebuild()
                return inf
            self.learn("ramp", climb.step)
        return climb.turn

    # --- refusals, and the return -----------------------------------------------------------------------

    def strike(self, outcome: Limited, sent: float, now: float, rng: Random, cost: int = 1) -> None:
        """The cloud refused a request sent at `sent` for a limit of this account; its own window holds `cost` of it."""
        kind, limit = outcome.kind, outcome.limit
        pause = self.struck(kind, sent, now, outcome.retry_after, rng)
        if kind == "concurrency":
            self._too_many(limit, sent, now, fresh=pause > 0)
        elif kind == "burst" and pause:
            self._too_fast(now)
        elif kind == "rpm" or kind == "tpm":
            if limit is not None and limit >= 1:
                self.advertise(kind, limit)
            elif pause and kind in self.quotas:
                self.learn(kind, self.quotas[kind].refused(self.by_kind[kind].used - cost, now))
            window = self.by_kind.get(kind)
            if window is not None and window.limit < inf:
                return
        if pause and kind != "burst":
            self.owe(span(pause, rng), self.in_flight + 1)

    def _too_many(self, limit: float | None, sent: float, now: float, *, fresh: bool) -> None:
        if self.learner is not None:
            self.learner.refused(limit, now, again=fresh and self._strikes > 1, sent=sent)
        elif fresh:
            self._relief = Relief(limit if limit is not None else 0.8 * (self.in_flight + 1), now)
        self._settle_cap(now)

    def _too_fast(self, now: float) -> None:
        """Its starts rose too quickly: a smaller rise from now on, and what is returning returns more slowly."""
        if self._climb is None:
            self._climb = Climb(rise(self.windows, self.in_flight + 1, now), now)
        else:
            self._climb.refused(now)
        if self._return is not None:
            self._return = self._return.slower(self.in_flight, now)
        self.learn("ramp", self._climb.step)

    def overloaded(self, sent: float, now: float) -> None:
        """The platform says that it is full."""
        if self.learner is not None:
            self.learner.overloaded(sent, now)
            self._settle_cap(now)

    def owe(self, within: float, full: int) -> None:
        """When the pause is over, come back in so many seconds; `full`: to what, where no limit is known."""
        self._owed = (within, full)

    def come_back(self, within: float, now: float, full: float = inf) -> None:
        """After a rest: from what is in flight to the whole limit in `within` seconds."""
        self._return = Return(within, self.in_flight, full, now)
        self._settle_cap(now)

    def enter(self, now: float) -> bool:
        """A request is about to be sent after a pause. True when it is the one that tries the key."""
        self.cooling_until = inf if self.on_trial else 0.0
        if self._owed is not None and not self.on_trial:
            within, full = self._owed
            self._owed = None
            self.come_back(within, now, full)
        return self.on_trial

    # --- read by `gauges` -------------------------------------------------------------------------------

    def settled(self, now: float, *, again: bool = False) -> float:
        """The cap on streams at this moment; `again`: whatever was believed of it."""
        if again or now >= self.turn:
            self._settle_cap(now)
        return self.cap

    def full(self, total: int) -> bool:
        """Is there no stream left, or too much in flight for so many tokens more?"""
        flying = self.occupied()
        return flying >= self.cap or (flying > 0 and self.held + total > self.token_cap)

    def occupied(self) -> int:
        """Those in flight and those whose end the cloud has not noticed."""
        return self.in_flight + len(self._ghosts)
