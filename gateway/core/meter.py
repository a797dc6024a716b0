"""What one account has left: every limit that a cloud counts, in one place, for all backends that share it.

Streams are counted from Go to settle. Requests and prompts enter their windows at dispatch. Expected answers are
*reserved* and move into the window as they flow, so that window plus reservations is at every moment what the
cloud has counted or still may; what was not used is given back at the end, and an answer that outgrows its
reservation simply fills the window (debt). `tps` reserves only the prompt: a second is too short to plan for.

Rules
- `in_flight` and `reserved` change in `take`, `flow` and `release` only, and are 0 when no lease lives.
- A slot whose connection *we* closed is kept `LINGER` longer, since the cloud learns of it a moment later.
- `cooling_until` is 0, or the time before which nothing is sent; `inf` while a single request tries the key.
- Strikes of one kind lengthen the pause only if the struck request was sent after the pause before: a volley of
  refusals is one piece of news.
"""

from __future__ import annotations

from collections import deque
from math import inf

from gateway.core.bounds import Bounds
from gateway.core.nouns import LimitKind, Limits, RefusalKind
from gateway.core.window import PROMPT, REQUESTS, TOKENS, Ramp, Window

FULL = inf
LINGER = 0.05
AUTH_PAUSE = 600.0
CAP_LIFE = 60.0
CAP_STEP = 5.0

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
        "_ghosts", "_request_windows", "_streams", "_strikes", "_struck_at", "_temporary", "_token_windows",
        "bounds", "by_kind", "cap", "cooling_reason", "cooling_until", "in_flight", "name", "on_trial", "reserved",
        "retired", "turn", "windows",
    )  # fmt: skip

    def __init__(self, name: str, limits: Limits) -> None:
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
        self.bounds = Bounds(limits)
        self._rebuild()

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
        if flying >= cap:
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

    def release(self, unspent: int, now: float, linger: bool) -> None:
        """A lease ended; `linger`: we closed the connection."""
        self.in_flight -= 1
        self.reserved -= unspent
        if linger:
            self._ghosts.append(now + LINGER)
            self.turn = min(self.turn, self._ghosts[0])

    def correct(self, prompt: int, then: float, now: float) -> None:
        """The prompt sent at `then` was larger (or, negative, smaller) by `prompt` tokens than believed."""
        for window in self._token_windows:
            if prompt > 0:
                window.add(prompt, now)
            else:
                window.refund(-prompt, then)

    # --- limits -----------------------------------------------------------------------------------------

    def declare(self, limits: Limits) -> None:
        """The operator's limits; they hold at once. Windows of kinds that persist keep what they remember."""
        self.bounds.declared = limits
        self._rebuild()

    def advertise(self, kind: LimitKind, limit: float) -> None:
        """The cloud names a limit. It counts if it is lower than the declared one, until it names another."""
        if self.bounds.advertised.get(kind) != limit:
            self.bounds.advertised[kind] = limit
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
        self.turn = turn

    # --- pauses -----------------------------------------------------------------------------------------

    def strike(
        self, kind: RefusalKind, sent: float, now: float, retry_after: float | None, limit: float | None
    ) -> None:
        """The cloud refused a request sent at `sent` for a limit of this account."""
        first, longest, most = PAUSES[kind]
        fresh = sent >= self._struck_at
        if retry_after is not None:
            pause = min(max(retry_after, 1.0), most)
        else:
            pause = min(first * 2.0 ** min(self._strikes, 30), longest) if fresh else 0.0
        if fresh:
            self._strikes += 1
            self._struck_at = now
            if kind == "concurrency":
                cap = limit if limit is not None else 0.8 * (self.in_flight + 1)
                self._temporary = (max(1.0, float(int(cap))), now)
                self._settle_cap(now)
        if limit is not None and limit >= 1 and (kind == "rpm" or kind == "tpm"):
            self.advertise(kind, limit)
        self.cool(now + pause, kind, now)

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

    def settled(self, now: float) -> float:
        """The cap on streams at this moment."""
        if now >= self.turn:
            self._settle_cap(now)
        return self.cap

    def full(self, _total: int) -> bool:
        """Is there no stream left?"""
        return self.in_flight + len(self._ghosts) >= self.cap

    def occupied(self) -> int:
        """Slots that the cloud may count: those in flight and those whose end it has not noticed."""
        return self.in_flight + len(self._ghosts)
