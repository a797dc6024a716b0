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
from math import inf

GUARD = 0.05
"""Seconds by which the network may move two requests towards each other."""

QUANTA = 256

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
    shorter at either end. `limit` is what may have started in the last second: last second's basis plus `step`.
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
        self._last: deque[tuple[float, int]] = deque()
        self._before: deque[tuple[float, int]] = deque()

    def __repr__(self) -> str:
        return f"<Ramp {self.used}/{self.limit:g}, step {self.step:g}>"

    def add(self, amount: int, now: float) -> None:
        """`amount` requests started at `now`."""
        self._last.append((now, amount))
        self.used += amount
        self.turn = min(self.turn, self._next())

    def roll(self, now: float) -> None:
        """Move on: what was the last second becomes the second before, what is older is forgotten."""
        last, before = self._last, self._before
        while last and last[0][0] + 1.0 + GUARD <= now:
            before.append(last.popleft())
            self.used -= before[-1][1]
            self.limit += before[-1][1]
        while before and before[0][0] + 2.0 - GUARD <= now:
            self.limit -= before.popleft()[1]
        self.turn = self._next()

    def set_step(self, step: float) -> None:
        """The allowed rise changed; what has started stays counted."""
        self.limit += step - self.step
        self.step = step

    def earliest(self, _amount: float, now: float) -> float:
        """A time before which waiting is certainly in vain (room may need a few more such steps)."""
        if self.turn <= now:
            self.roll(now)
        if self.used + 1 <= self.limit or not self._last:
            return now
        return self._last[0][0] + 1.0 + GUARD

    def _next(self) -> float:
        turn = self._last[0][0] + 1.0 + GUARD if self._last else inf
        return min(turn, self._before[0][0] + 2.0 - GUARD) if self._before else turn
