"""How much went to a cloud lately: sliding windows that never flatter us.

A *fixed* window lets twice the limit through at its edge, and a token bucket lets a burst of the bucket's size
through on top of the rate. Clouds that count exactly refuse both, so the windows here are logs: every amount is
remembered until it is older than the span. Amounts that fall into one quantum (span/256) share an entry, dated to
the quantum's *end*, and entries are kept `GUARD` longer than the span, because two requests that leave us a
minute apart may arrive a little less than a minute apart. Both roundings only ever make the window fuller.

`used` is a plain attribute: whoever reads it first compares `turn` (the time at which something next changes by
itself) with the clock and calls `roll`. That keeps the common case to two comparisons.

Rule: times handed in never go backwards.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from math import ceil, inf

GUARD = 0.05
"""Seconds by which the network may move two requests towards each other."""

QUANTA = 256

MERGE = 1 / 128
"""Seconds within which a ramp counts starts as one."""

EVEN = 0.1
"""Seconds over which a share of a ramp is spread."""

REQUESTS, PROMPT, TOKENS = 0, 1, 2
"""What a window counts: requests; tokens with nothing reserved but the prompt; tokens with reservations."""


class Window:
    """Amounts in any `span` seconds. Every operation is O(1) amortised, `earliest` O(entries).

    `partial`: the limit is a share of a larger one, so that not even an empty window lets through what exceeds it.
    """

    __slots__ = (
        "_amounts", "_keep", "_order", "_per_second", "_quantum", "counts", "limit", "partial", "span", "turn", "used",
    )  # fmt: skip

    def __init__(self, span: float, limit: float, counts: int) -> None:
        self.span = span
        self.limit = limit
        self.partial = False
        self.counts = counts
        self.used = 0
        self.turn = inf
        self._quantum = span / QUANTA
        self._per_second = QUANTA / span
        self._keep = span + GUARD + self._quantum
        self._order: deque[int] = deque()
        self._amounts: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<Window {self.used}/{self.limit:g} in {self.span:g}s>"

    def add(self, amount: int, now: float) -> None:
        """`amount` was sent at `now`. May exceed the limit: what has flowed has flowed."""
        slot = int(now * self._per_second)
        amounts = self._amounts
        if slot in amounts:
            amounts[slot] += amount
        else:
            if not self._order:
                self.turn = slot * self._quantum + self._keep
            self._order.append(slot)
            amounts[slot] = amount
        self.used += amount

    def roll(self, now: float) -> None:
        """Forget what is older than the span."""
        order, quantum, keep = self._order, self._quantum, self._keep
        while order and order[0] * quantum + keep <= now:
            self.used -= self._amounts.pop(order.popleft())
        self.turn = order[0] * quantum + keep if order else inf

    def refund(self, amount: int, then: float) -> None:
        """Take back `amount` of what was added at `then`; nothing happens if that has left the window already.

        Never dated now: a refund that outlives what it refunds would open a hole in the limit.
        """
        slot = int(then * self._per_second)
        if slot in self._amounts:
            self._amounts[slot] -= amount
            self.used -= amount

    def since(self, then: float) -> int:
        """How much was added from `then` on, to a quantum. O(quanta since then)."""
        first, total = int(then * self._per_second), 0
        for slot in reversed(self._order):
            if slot < first:
                break
            total += self._amounts[slot]
        return total

    def earliest(self, amount: float, now: float) -> float:
        """When `amount` more fits, if nothing else is added. An amount above the limit fits an empty window."""
        if self.turn <= now:
            self.roll(now)
        excess = self.used + min(amount, self.limit) - self.limit
        at = now
        for slot in self._order:
            if excess <= 0:
                break
            excess -= self._amounts[slot]
            at = slot * self._quantum + self._keep
        return at


class Ramp:
    """Requests of the last second against those of the second before: the same face as a window.

    Doubt counts against us on both sides: the last second is taken `GUARD` longer, the one before it `GUARD`
    shorter at either end. `used` is what started in the last second, `limit` what may have.

    One who has the whole limit compares when he starts something: `limit` is last second's basis plus `step`. That is
    not enough for shares, since while others start something, one's own basis may pass before one's own last second
    has. So with a share (`partial`) the rise must stay within `step` at *every* moment to come, as if nothing more
    were started (`rise`): then the sum of all rises is within the sum of all steps, whoever starts when, with no
    clock in common. A burst cannot be followed by a larger one under that rule; so it is also spread, over `EVEN`
    at a time, and what is allowed grows from second to second.
    """

    __slots__ = ("_before", "_last", "counts", "limit", "partial", "span", "step", "turn", "used")

    def __init__(self, step: float) -> None:
        self.span = 1.0
        self.step = step
        self.partial = False
        self.counts = REQUESTS
        self.used = 0
        self.limit = step
        self.turn = inf
        self._last: deque[_Starts] = deque()
        self._before: deque[_Starts] = deque()

    def __repr__(self) -> str:
        return f"<Ramp {self.used}/{self.limit:g}, step {self.step:g}>"

    def add(self, amount: int, now: float) -> None:
        """`amount` requests started at `now`."""
        last = self._last
        if last and now < last[-1].first + MERGE:
            last[-1].latest = now
            last[-1].amount += amount
        else:
            last.append(_Starts(now, amount))
        self.used += amount
        self.turn = min(self.turn, self._next(now))

    def roll(self, now: float) -> None:
        """Move on: what was the last second becomes the second before, what is older is forgotten."""
        last, before = self._last, self._before
        while last and last[0].passes <= now:
            before.append(last.popleft())
            self.used -= before[-1].amount
        while before and before[0].leaves <= now:
            before.popleft()
        self.turn = self._next(now)
        if self.partial:
            self.limit = self.used + min(self.step - self._highest(self.turn), self._evenly(now))
        else:
            self.limit = self.step + sum(starts.amount for starts in before)

    def set_step(self, step: float) -> None:
        """The allowed rise changed, or whose it is; what has started stays counted."""
        self.limit += step - self.step
        self.step = step
        self.turn = -inf

    def risen(self, now: float) -> int:
        """By how much the last second now exceeds the one before."""
        self.roll(now)
        return self.used - sum(starts.amount for starts in self._before)

    def rise(self, now: float) -> int:
        """What is taken of the step and cannot be taken back: the highest rise from now on, if nothing is started."""
        self.roll(now)
        return max(0, self._highest(now))

    def earliest(self, _amount: float, now: float) -> float:
        """A time before which waiting is certainly in vain (room may need a few more such steps)."""
        if self.turn <= now:
            self.roll(now)
        if self.used + 1 <= self.limit or not self._last:
            return now
        return self.turn if self.partial else self._last[0].passes

    def _next(self, now: float) -> float:
        turn = self._last[0].passes if self._last else inf
        if self._before:
            turn = min(turn, self._before[0].leaves)
        return min(turn, now + EVEN / 2) if self.partial and turn < inf else turn

    def _highest(self, until: float) -> int:
        """The highest rise to come of what has started, as long as a start at `until` stays in the last second."""
        last, before, i = self._last, self._before, 0
        rise = highest = self.used - sum(starts.amount for starts in before)
        for starts in chain(before, last):
            if starts.leaves > until + 1.0 + GUARD:
                break
            while i < len(last) and last[i].passes <= starts.leaves:
                rise -= 2 * last[i].amount
                i += 1
            rise += starts.amount
            highest = max(highest, rise)
        return highest

    def _evenly(self, now: float) -> int:
        lately = sum(starts.amount for starts in self._last if starts.latest > now - EVEN)
        return max(1, ceil((self.used + self.step) * EVEN)) - lately


class _Starts:
    """Requests that started within `MERGE`: counted from the first and to the latest, whichever is against us."""

    __slots__ = ("amount", "first", "latest")

    def __init__(self, at: float, amount: int) -> None:
        self.first = self.latest = at
        self.amount = amount

    @property
    def passes(self) -> float:
        """When they pass from the last second into the one before."""
        return self.latest + 1.0 + GUARD

    @property
    def leaves(self) -> float:
        """When they leave the second before."""
        return self.first + 2.0 - GUARD
