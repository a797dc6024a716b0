"""What one account has left: every limit that a cloud counts, in one place, for all backends that share it.

Streams are counted from Go to settle. Requests and prompts enter their windows at dispatch. Expected answers are
*reserved* and move into the window as they flow, so that window plus reservations is at every moment what the
cloud has counted or still may; what was not used is given back at the end, and an answer that outgrows its
reservation simply fills the window (debt). `tps` reserves only the prompt: a second is too short to plan for.

Rules
- `in_flight` and `reserved` change in `take`, `flow` and `release` only, and are 0 when no lease lives.
- A slot whose connection *we* closed is kept `LINGER` longer at least: the cloud learns of it a moment later.
- `cooling_until` is 0, or the time before which nothing is sent; `inf` while a single request tries the key.
- Strikes of one kind lengthen the pause only if the struck request was sent after the pause before: a volley of
  refusals is one piece of news.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from math import inf

from gateway.core.bounds import Bounds
from gateway.core.limit import Learner
from gateway.core.nouns import Learn, LimitKind, Limits, RefusalKind
from gateway.core.quota import QUOTAS, Quota
from gateway.core.window import PROMPT, REQUESTS, TOKENS, Ramp, Window

FULL = inf
LINGER = 0.05
AUTH_PAUSE = 600.0
CAP_LIFE = 60.0
CAP_STEP = 5.0
RETURN_STEPS = 16

PAUSES: dict[str, tuple[float, float, float]] = {
    "rpm": (5.0, 60.0, 120.0),
    "tpm": (5.0, 60.0, 120.0),
    "burst": (5.0, 5.0, 120.0),
    "concurrency": (1.0, 1.0, 120.0),
    "quota": (900.0, 21600.0, 21600.0),
}
"""First pause, longest pause, and the longest that a cloud may ask for; seconds."""

_WINDOWS: dict[LimitKind, tuple[float, int]] = {
    "rpm": (60.0, REQUESTS),
    "tpm": (60.0, TOKENS),
    "rps": (1.0, REQUESTS),
    "tps": (1.0, PROMPT),
}


class Meter:
    """An account's gauges. See the module for the rules."""

    __slots__ = (
        "_ghosts", "_request_windows", "_return", "_streams", "_strikes", "_struck_at", "_temporary", "_token_windows",
        "bounds", "by_kind", "cap", "cooling_reason", "cooling_until", "held", "in_flight", "learner", "name",
        "on_trial", "quotas", "reserved", "retired", "token_cap", "turn", "windows",
    )  # fmt: skip

    def __init__(self, name: str, limits: Limits, learn: Learn = "off") -> None:
        self.name = name
        self.in_flight = 0
        self.reserved = 0
        self.cap: float = inf
        self.cooling_until = 0.0
        self.cooling_reason = ""
        self.on_trial = False
        self.retired: float | None = None
        self.by_kind: dict[LimitKind, Window | Ramp] = {}
        self.windows: tuple[Window | Ramp, ...] = ()
        self._ghosts: deque[float] = deque()
        self._temporary: tuple[float, float] | None = None
        self.turn = inf
        self._strikes = 0
        self._struck_at = -inf
        self._return: tuple[float, float, int] | None = None
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
        for kind, (span, counts) in _WINDOWS.items():
            limit = bounds.limit(kind)
            if limit is None and kind in self.quotas:
                limit = inf
            if limit is not None:
                window = old.get(kind)
                if not isinstance(window, Window):
                    window = Window(span, limit, counts)
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
        self.cap = self._streams if self._temporary is None else min(self._streams, self._temporary[0])
        self.turn = -inf

    def _settle_cap(self, now: float) -> None:
        """Let ghosts go and let a temporary cap relax, and note when the next of these happens."""
        ghosts = self._ghosts
        while ghosts and ghosts[0] <= now:
            ghosts.popleft()
        turn = ghosts[0] if ghosts else inf
        self.cap = self._streams
        if self._temporary is not None:
            cap, since = self._temporary
            if now >= since + CAP_LIFE:
                self._temporary = None
            else:
                steps = int((now - since) / CAP_STEP)
                self.cap = min(self.cap, cap + steps)
                turn = min(turn, since + (steps + 1) * CAP_STEP)
        if self.learner is not None:
            turn = min(turn, self._look(self.learner, now))
        if self._return is not None:
            turn = min(turn, self._come_back(now))
        self.turn = turn

    def _look(self, learner: Learner, now: float) -> float:
        """Ask what was learnt; when to ask again."""
        if now >= learner.turn:
            learner.look(now, self.held, self.in_flight >= min(self._streams, learner.cap()))
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

    def _come_back(self, now: float) -> float:
        """The part of the limit that a returning account may use; when it grows again."""
        assert self._return is not None
        since, span, base = self._return
        if now >= since + span:
            self._return = None
            return inf
        if self.cap < inf:
            self.cap = min(self.cap, max(base + 1, int(base + (now - since) / span * (self.cap - base))))
        return now + span / RETURN_STEPS

    # --- pauses -----------------------------------------------------------------------------------------

    def strike(
        self, kind: RefusalKind, sent: float, now: float, retry_after: float | None, limit: float | None, cost: int = 1
    ) -> None:
        """The cloud refused a request sent at `sent` for a limit of this account; its own window holds `cost` of it."""
        first, longest, most = PAUSES[kind]
        fresh = sent >= self._struck_at
        if retry_after is not None:
            pause = min(max(retry_after, 1.0), most)
        else:
            pause = min(first * 2.0 ** min(self._strikes, 30), longest) if fresh else 0.0
        if fresh:
            self._strikes += 1
            self._struck_at = now
            if kind == "concurrency" and self.learner is None:
                cap = limit if limit is not None else 0.8 * (self.in_flight + 1)
                self._temporary = (max(1.0, float(int(cap))), now)
                self._settle_cap(now)
        if kind == "rpm" or kind == "tpm":
            if limit is not None and limit >= 1:
                self.advertise(kind, limit)
            elif fresh and kind in self.quotas:
                self.learn(kind, self.quotas[kind].refused(self.by_kind[kind].used - cost, now))
        elif kind == "concurrency" and self.learner is not None:
            self.learner.refused(limit, now)
            self._settle_cap(now)
        self.cool(now + pause, kind, now)

    def overloaded(self, sent: float, now: float) -> None:
        """The platform says that it is full."""
        if self.learner is not None:
            self.learner.overloaded(sent, now)
            self._settle_cap(now)

    def come_back(self, span: float, now: float) -> None:
        """After a rest: from what is in flight to the whole limit in `span` seconds."""
        self._return = (now, span, self.in_flight)
        self._settle_cap(now)

    def cool(self, until: float, reason: str, now: float) -> None:
        """Send nothing before `until`; never shortens a pause."""
        if until > max(now, self.cooling_until):
            self.cooling_until = until
            self.cooling_reason = reason

    def lock(self, now: float) -> None:
        """The key was refused: out until the plan changes or `AUTH_PAUSE` is over, and then one request at a time."""
        self.cool(now + AUTH_PAUSE, "auth", now)
        self.on_trial = True

    def enter(self) -> bool:
        """A request is about to be sent after a pause. True when it is the one that tries the key."""
        self.cooling_until = inf if self.on_trial else 0.0
        return self.on_trial

    def leave(self, now: float) -> None:
        """The one that tried the key ended and said nothing: the next may try."""
        self.cooling_until = now

    def accepted(self, sent: float, trial: bool) -> bool:
        """A request sent at `sent` was answered. True when that ended a trial."""
        if sent >= self._struck_at:
            self._strikes = 0
        if not trial:
            return False
        self.unlock()
        return True

    def unlock(self) -> None:
        """The key is good, or new."""
        if self.on_trial:
            self.on_trial = False
            self.cooling_until = 0.0
            self.cooling_reason = ""

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
