"""Money budgets: periods, the part of a budget that this replica holds, and what it has spent of it.

All amounts are whole millionths of the document's currency (`micros`), but for what this replica has spent, which is
kept in millionths of those (`picos`): nothing is rounded before it is told to others.

How replicas share a budget. Each tells, in numbers that only grow, what it has spent in a period (`total`) and up to
which total it may go (`cap`). The store answers with a cap that is higher by a slice, as long as the caps of all
together stay within the amount. So a call that is repeated, late or lost does no harm, and while the store keeps what
it is told, nobody can go beyond the amount by more than his estimates were wrong. Every replica also keeps what the
others have told and says it again: a store that has lost its data learns it anew, by the larger number of each
(a grow-only counter: Shapiro et al., *A comprehensive study of convergent and commutative replicated data types*,
2011).

Rules
- `total + reserved <= cap` when something is admitted, or `<= alone` while the store is away.
- A cap is lowered here before it is told, and never below what is spent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from math import ceil
from typing import Literal

from gateway.core.nouns import Price

Per = Literal["hour", "day", "month"]

MICRO = 10**6
"""Micros in one unit of the currency, and picos in a micro."""

AGAIN = 1.0
"""Seconds: spending is told as often as that, and what was not to be had is asked for again after it."""

IDLE = 5.0
"""Seconds without a request after which what is not used is given back; and the longest silence of who holds any."""

RECENT = 60.0
LOOK = 30.0
"""Seconds between two looks at a budget that nobody asked for here for `RECENT`; until then it is `IDLE`."""

_LIFE = 86400.0
"""Seconds for which a period is kept after its end: the longest answer has ended by then."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent in a period: `amount` in micros. `east`: minutes from UTC of the clock that periods go by.

    warn    the share of the amount from which on clients are warned
    slice   the share of the amount that a replica holds at a time, at most
    """

    amount: int
    per: Per = "month"
    warn: float = 0.8
    slice: float = 0.01
    east: int = 480


@dataclass(frozen=True, slots=True)
class Period:
    """One hour, day or month: from `start` up to, not including, `end` (Unix seconds)."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Ask:
    """What one replica says of one budget's period, and what it would like. See `Purse.ask`.

    seq      rises with every word of this member; a late older one is ignored
    total    what it has spent; `cap`: the total up to which it may go; both in micros
    need     more than `cap` that requests wait for; nothing is given if not even `least` of it can be
    want     more than `cap` that would be good to have
    members  what others have told, as far as known, in the numbering `gen`
    life     seconds for which this is to be kept
    """

    key: str
    member: str
    seq: int
    amount: int
    total: int
    cap: int
    need: int = 0
    least: int = 0
    want: int = 0
    gen: int = 0
    members: Mapping[str, int] = field(default_factory=dict)
    leaving: bool = False
    life: float = _LIFE


@dataclass(frozen=True, slots=True)
class Told:
    """The answer: the cap from now on, what nobody holds, how many hold anything, and what every member has told."""

    cap: int = 0
    free: int = 0
    live: int = 1
    gen: int = 0
    members: Mapping[str, int] = field(default_factory=dict)
    stale: bool = False


@dataclass(frozen=True, slots=True)
class BudgetView:
    """How a budget stands, as this replica knows it. Amounts in micros; `renews` in Unix seconds; `east` of `Budget`.

    `reserved`, `refused` and `uncounted` are this replica's own.
    `uncounted`: attempts with tokens and without a known price.
    """

    name: str
    per: Per
    amount: int
    spent: int
    reserved: int
    warn: float
    renews: float
    east: int
    refused: int
    uncounted: int

    @property
    def left(self) -> int:
        return max(0, self.amount - self.spent)

    @property
    def state(self) -> Literal["open", "warning", "spent"]:
        if self.spent >= self.amount:
            return "spent"
        return "warning" if self.spent >= self.warn * self.amount else "open"


def period(budget: Budget, unix: float) -> Period:
    """The period in which a moment lies, by the clock of the budget's zone."""
    zone = timedelta(minutes=budget.east)
    here = datetime.fromtimestamp(unix, UTC) + zone
    start = here.replace(minute=0, second=0, microsecond=0)
    if budget.per == "hour":
        name, end = start.strftime("%Y-%m-%dT%H"), start + timedelta(hours=1)
    elif budget.per == "day":
        start = start.replace(hour=0)
        name, end = start.strftime("%Y-%m-%d"), start + timedelta(days=1)
    else:
        start = start.replace(hour=0, day=1)
        name, end = start.strftime("%Y-%m"), (start + timedelta(days=32)).replace(day=1)
    return Period(name, (start - zone).timestamp(), (end - zone).timestamp())


def micros(amount: float) -> int:
    """An amount as a person wrote it."""
    return int(Decimal(repr(amount)) * MICRO)


def picos(cost: Decimal) -> int:
    """An exact cost; what is less than a pico is left out."""
    return int(cost.scaleb(12))


def shown(amount: int) -> str:
    """Micros in units of the currency, exact, without idle zeros."""
    text = f"{amount // MICRO}.{amount % MICRO:06d}"
    return text.rstrip("0").rstrip(".")


def dearest(prices: Iterable[tuple[Price, Decimal]]) -> tuple[int, int]:
    """Picos for a token of the prompt and of the answer where it costs most; prices with their rates of exchange."""
    found = [(_per_token(price.input, rate), _per_token(price.output, rate)) for price, rate in prices]
    return max((fresh for fresh, _ in found), default=0), max((output for _, output in found), default=0)


def _per_token(per_million: float, rate: Decimal) -> int:
    return int((Decimal(repr(per_million)) * rate * MICRO).to_integral_value(ROUND_CEILING))


class Purse:
    """One replica's part of one budget in one period. Times are seconds on the gateway's monotonic clock."""

    __slots__ = (
        "_asked", "_barred", "_barred_for", "_gen", "_least", "_left", "_members", "_need", "_picos", "_seq", "_sought",
        "_told", "_used", "alone", "budget", "cap", "free", "key", "member", "name", "others", "period", "refused",
        "reserved", "uncounted", "warned",
    )  # fmt: skip

    def __init__(
        self, name: str, key: str, member: str, budget: Budget, period: Period, now: float, live: int = 1
    ) -> None:
        self.name = name
        self.key = key
        self.member = member
        """a name that no other purse has, here or anywhere"""
        self.budget = budget
        self.period = period
        self.cap = 0
        self.free = budget.amount
        """what nobody held when the store last told"""
        self.alone = budget.amount // live
        """the total up to which it may go while the store is away: an even part of what nobody held"""
        self.others = 0
        """what others have spent, as last told"""
        self.reserved = 0
        self.refused = 0
        self.uncounted = 0
        self.warned = False
        self._picos = 0
        self._need = self._least = 0
        self._seq = 0
        self._told = 0
        self._left = False
        self._gen = 0
        self._members: Mapping[str, int] = {}
        self._used = self._sought = now - RECENT
        self._asked = now - LOOK
        self._barred = now
        self._barred_for = 0

    def __repr__(self) -> str:
        return f"<Purse {self.name} {self.period.name}: {shown(self.spent)} of {shown(self.budget.amount)}>"

    @property
    def total(self) -> int:
        """What was spent here, in whole micros."""
        return self._picos // MICRO

    @property
    def spent(self) -> int:
        """What was spent everywhere, as far as known."""
        return self.others + self.total

    @property
    def blank(self) -> bool:
        """There is nothing to tell of it, or all was told for the last time."""
        return self._left or not (self._picos or self.cap or self.reserved)

    @property
    def share(self) -> float:
        """The same, of the amount."""
        return self.spent / self.budget.amount if self.budget.amount else 1.0

    def room(self, away: bool) -> int:
        """What may be admitted now. `away`: the store is."""
        return (max(self.cap, self.alone) if away else self.cap) - self.total - self.reserved

    def reserve(self, cost: int, now: float) -> None:
        """A request that may cost so much begins."""
        self.reserved += cost
        self._used = now

    def settle(self, reserved: int, cost: int, uncounted: int = 0) -> None:
        """It has ended, and cost so many picos."""
        self.reserved -= reserved
        self._picos += cost
        self.uncounted += uncounted

    # --- asking -------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The most that is held without need."""
        return max(1, int(self.budget.amount * self.budget.slice))

    def low(self) -> bool:
        """What is in hand runs low, and there is more to be had."""
        return self.free > 0 and self.room(away=False) < self.step // 2

    def require(self, cost: int, now: float) -> None:
        """A request that may cost so much waits."""
        self._sought = now
        self._need += cost
        self._least = min(self._least or cost, cost)

    def barred(self, cost: int, now: float) -> bool:
        """So much was not to be had a moment ago."""
        return now < self._barred and cost >= self._barred_for

    def due(self, now: float) -> bool:
        """Whether there is something to say."""
        busy = self.reserved > 0 or now - self._used < IDLE
        if self._need or (busy and self.low()):
            return True
        silence = now - self._asked
        news = self.total != self._told or (not busy and self.cap > self.total)
        recent = busy or now - max(self._used, self._sought) < RECENT
        return silence >= (AGAIN if news else IDLE if recent else LOOK)

    def ask(self, now: float, unix: float, *, leaving: bool = False) -> Ask:
        """What to tell the store now. What is not needed is given back, at once."""
        held = self.total + self.reserved
        busy = not leaving and (self.reserved > 0 or now - self._used < IDLE)
        self.cap = max(self.total, min(self.cap, held + (self.step if busy else 0)))
        in_hand = self.cap - held
        need, least = max(0, self._need - in_hand), max(1, self._least - in_hand)
        want = max(0, self.step - in_hand) if busy and in_hand < self.step // 2 else 0
        self._need = self._least = 0
        self._seq += 1
        self._asked = now
        life = max(0.0, self.period.end - unix) + _LIFE
        return Ask(
            self.key, self.member, self._seq, self.budget.amount, self.total, self.cap, need, least, want, self._gen,
            self._members, leaving, life,
        )  # fmt: skip

    def told(self, asked: Ask, found: Told, now: float) -> None:
        """The store has answered."""
        if found.stale:
            return
        self._left = asked.leaving
        self.cap, self.free = found.cap, found.free
        self.alone = found.cap + found.free // max(1, found.live)
        self._gen, self._members = found.gen, found.members
        self._told = asked.total
        self.others = sum(found.members.values()) - found.members.get(self.member, 0)
        if found.cap - asked.cap < asked.need:
            self._barred = now + AGAIN
            self._barred_for = self.room(away=False) + 1

    def view(self) -> BudgetView:
        """How it stands."""
        budget = self.budget
        return BudgetView(
            self.name, budget.per, budget.amount, self.spent, self.reserved, budget.warn, self.period.end,
            budget.east, self.refused, self.uncounted,
        )  # fmt: skip


def estimate(prompt: int, answer: int, dear: tuple[int, int]) -> int:
    """What so many tokens cost at most, in micros, rounded up."""
    return ceil((prompt * dear[0] + answer * dear[1]) / MICRO)
