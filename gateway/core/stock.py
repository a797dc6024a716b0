"""One limit of a caller, as one replica sees it: a window of its own, or units in hand that all replicas' pool gave it.

Alone, or while the pool is out of reach, the window decides: the limit holds here, and callers are not turned away for
a fault of ours. With a pool nothing is let in beyond the units in hand. They were counted as used when they were given,
and every use is told to the pool with its time, from which on it counts for a span; so the limit holds in any span of
any replicas together, and a unit is missing only between leaving the window and being asked for again.

How many units to hold: what came lately needs within `AHEAD`, in whole requests, and what waits. Where the pool has
some to spare it may be more, so that hardly anybody waits; and while a quarter of the limit is free (`calm`) it is kept
longer: nobody misses it, and the pool is seldom asked.

Rules
- `balance` rises in `granted` and, for streams, in `end`; it ends at `until`, before the pool gives it to others.
- A refund is dated to the use that it takes back, never later: else it would open a hole in the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, inf

from gateway.core.caps import SPANS, WEIGHS, CapKind
from gateway.core.window import REQUESTS, Window

TICK = 0.25
"""Seconds between two exchanges with the pool while limits are nearly used up."""

AHEAD = 2 * TICK
FAIR_AHEAD, CALM_AHEAD = 3.0, 10.0
"""Seconds of what comes that are held in any case; if there is some to spare; and if there is plenty."""

KEEP = 5.0
"""Seconds after which units in hand are told of again, at the latest."""

TTL, MARGIN = 15.0, 1.0
"""Seconds for which the pool leaves units to a replica that is silent, and by how much sooner it lets go of them."""

FORGET = 30.0
"""Seconds after the last request in which what is in hand is kept while it is calm."""

_SLOT = 50
"""Milliseconds within which uses are told as one, dated to the end."""
_MEMORY = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a replica tells the pool of one limit. Times in milliseconds of its own clock.

    hold   what it has in hand (of streams also what is in use), all of it still in force
    need   as much it needs to have in hand now; `like`: if there is plenty
    unit   less than so much more than nothing lets anybody in
    uses   (when, how much) since it last told; a negative amount takes back what was used then
    """

    limit: int
    hold: int
    need: int
    like: int
    unit: int
    uses: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the pool gave. `used` counts all replicas' uses and what they have in hand, this gift included.

    `opens`: in so many milliseconds there is room by lapse of time alone; -1: that is not known.
    """

    granted: int
    used: int
    opens: int = -1
    calm: bool = False


class Stock:
    """See the module. `shared`: the pool decides. `pooled`: there is a pool, and uses are noted for it."""

    __slots__ = (
        "_asked", "_dry", "_fresh_until", "_mean", "_pending", "_rate", "_reported", "_sent", "_starts", "_wanted",
        "balance", "calm", "closed", "free", "held", "kind", "limit", "opens", "pooled", "shared", "span", "unit",
        "until", "waiting", "weighs", "window",
    )  # fmt: skip

    def __init__(self, kind: CapKind, limit: int, *, pooled: bool = False, shared: bool = False) -> None:
        self.kind = kind
        self.limit = limit
        self.span = SPANS[kind]
        self.weighs = WEIGHS[kind]
        self.window = Window(self.span or 1.0, limit, REQUESTS)
        self.pooled = pooled
        self.shared = shared
        self.held = 0
        """streams in use"""
        self.balance = 0
        self.until = -inf
        self.calm = False
        self.closed = -inf
        """no use to ask the pool before"""
        self.opens = inf
        self.free = 0
        self.waiting = 0
        """what those need who wait for the pool's answer"""
        self.unit = inf
        self._pending: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._reported = -inf
        self._wanted = 0
        self._dry = False
        self._fresh_until = -inf
        self._asked = 0
        self._starts = 0
        self._rate = 0.0
        self._mean = 1.0

    def __repr__(self) -> str:
        what = f"{self.balance} in hand" if self.shared else "alone"
        return f"<Stock {self.kind} {self.limit}, {what}>"

    # --- one request --------------------------------------------------------------------------------------

    def has(self, need: int, now: float) -> bool:
        """Is there room? What is larger than the whole limit goes when nothing else is in it."""
        if need > self.limit:
            need = self.limit
        if self.shared:
            if now >= self.until:
                self.balance = 0
            return self.balance >= need
        return self.used(now) + need <= self.limit

    def take(self, amount: int, now: float) -> None:
        """A request is let in."""
        self._asked += amount
        self._starts += 1
        if self.span:
            self.more(amount, now)
        else:
            self.held += 1
            self.balance -= 1 if self.balance else 0

    def more(self, amount: int, now: float) -> None:
        """So much flowed beyond what was taken: debt, if there is no room for it."""
        self.window.add(amount, now)
        self.balance -= min(self.balance, amount)
        if self.pooled:
            self._note(amount, now)

    def refund(self, amount: int, then: float) -> None:
        """So much of what was used at `then` was not needed."""
        self.window.refund(amount, then)
        if self.pooled:
            self._note(-amount, then)

    def end(self) -> None:
        """A stream is over."""
        self.held -= 1
        if self.shared:
            self.balance += 1

    def missed(self, need: int) -> None:
        """Somebody found no room; so much he would have used."""
        self._asked += min(need, self.limit)
        self._starts += 1

    def wait(self, need: int) -> None:
        """Somebody waits for the pool's answer. `waited` must follow."""
        need = min(need, self.limit)
        self.waiting += need
        self.unit = min(self.unit, need)

    def waited(self, need: int) -> None:
        self.waiting -= min(need, self.limit)
        if not self.waiting:
            self.unit = inf

    def used(self, now: float) -> int:
        """What this replica used and what still counts."""
        if not self.span:
            return self.held
        if now >= self.window.turn:
            self.window.roll(now)
        return self.window.used

    def left(self, now: float) -> int:
        """What is left for everybody, as far as is known here."""
        left = self.free + self.balance if self.shared else self.limit - self.used(now)
        return max(0, min(self.limit, left))

    def opening(self, need: int, now: float) -> float:
        """In how many seconds there is room by lapse of time alone; `inf` if that is not known."""
        if self.shared:
            return max(0.0, self.opens - now)
        if not self.span:
            return inf
        return self.window.earliest(min(need, self.limit), now) - now

    # --- the pool -----------------------------------------------------------------------------------------

    def due(self) -> float:
        """When to tell the pool next."""
        if self.waiting:
            return -inf
        if self.calm:
            low = self._asked and self.balance < self._rate * AHEAD
            active = self._pending or self.balance or self.held or self._asked
            return self._reported + (TICK if low else KEEP) if active else inf
        if self._pending or self.balance or self._asked:
            return self._reported + TICK
        return self._reported + KEEP if self.held else inf

    def ask(self, now: float, *, leaving: bool = False) -> Ask:
        """Begin an exchange: `granted` or `failed` must follow. What is not needed is out of hand from now on."""
        elapsed = max(now - self._reported, TICK)
        self._rate += (1.0 - exp(-elapsed / _MEMORY)) * (self._asked / elapsed - self._rate)
        another = 0
        if self._starts:
            self._mean = max(1.0, self._asked / self._starts)
            another = ceil(self._mean)
            self._fresh_until = now + FORGET
        self._asked = self._starts = 0
        self._reported = now
        if now >= self.until:
            self.balance = 0
        need = self.waiting + int(int(self._rate * AHEAD / self._mean) * self._mean)
        ahead = self._rate * (CALM_AHEAD if self.calm else FAIR_AHEAD)
        like = max(need, self.waiting + int(ahead + 0.5) + another)
        keep = need if self._dry else max(like, self.balance) if self.calm and now < self._fresh_until else like
        if leaving:
            need = like = keep = 0
        elif self.unit < inf and self.balance < self.unit:
            keep = 0  # a piece that lets nobody in here may be what another replica lacks
        self.balance = min(self.balance, keep)
        need, like = min(need, self.limit), min(like, self.limit)
        self._wanted = need - self.balance
        self._sent, self._pending = self._pending, {}
        uses = tuple(
            ((slot + 1) * _SLOT, amount)
            for slot, amount in self._sent.items()
            if amount and (slot + 1) * _SLOT > (now - self.span) * 1000
        )
        unit = 1 if self.unit == inf else int(self.unit)
        held = self.held
        return Ask(self.limit, held + self.balance, held + need, held + like, held + unit, uses)

    def granted(self, answer: Answer, sent: float, now: float) -> None:
        """The pool's answer to what was asked at `sent`."""
        self._sent = {}
        self.balance += answer.granted
        self.until = sent + TTL - MARGIN
        self.free = self.limit - answer.used
        self.calm = answer.calm
        self.opens = now + answer.opens / 1000 if answer.opens >= 0 else inf
        self._dry = answer.granted < self._wanted
        self.closed = min(self.opens, now + TICK) if self._dry else -inf

    def failed(self) -> None:
        """The exchange was given up. What it told is told again: counted twice, perhaps, and never not at all."""
        for slot, amount in self._sent.items():
            self._pending[slot] = self._pending.get(slot, 0) + amount
        self._sent = {}

    def join(self, shared: bool) -> None:
        """The pool decides from now on, or no longer. Nothing is in hand at first."""
        self.shared = shared
        self.balance = 0
        self.closed = self.until = -inf

    def _note(self, amount: int, then: float) -> None:
        slot = int(then * 1000) // _SLOT
        self._pending[slot] = self._pending.get(slot, 0) + amount
