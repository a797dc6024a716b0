"""How much may be tried again, and tried twice: what is paid for by successes cannot feed on itself in an outage.

The form is Finagle's retry budget: every success deposits a fraction of a retry, a small constant income keeps a
quiet gateway able to retry, and nothing is saved for longer than about `HORIZON`. A cold gateway starts with
`FLOOR` retries, and may always hold that many.

Rule: balance ≤ max(FLOOR, what came in during the last horizon), enforced when a retry is asked for.

Hedges have an allowance of the same form, in tokens, that begins with nothing and has no other income.
"""

from __future__ import annotations

from math import inf

from gateway.core.nouns import RetryRules

HORIZON = 10.0
FLOOR = 10.0
MINUTE = 60.0
TOKENS_KEPT = 8192.0
"""An allowance keeps what came in during the last minute, or this many tokens if that is more."""


class Budget:
    """One policy's retries. `none` is true when the rules allow no retry at all."""

    __slots__ = ("_balance", "_half", "_last_half", "_refilled", "_this_half", "none", "rules")

    def __init__(self, rules: RetryRules, now: float = 0.0) -> None:
        self._balance = FLOOR
        self._this_half = self._last_half = 0.0
        self._half = now
        self._refilled = now
        self.set_rules(rules)

    def __repr__(self) -> str:
        return f"<Budget {self._balance:.1f} retries>"

    def set_rules(self, rules: RetryRules) -> None:
        """New rules; what was saved is kept."""
        self.rules = rules
        self.none = rules.attempts <= 1 or (rules.budget <= 0 and rules.per_second <= 0)

    def deposit(self, now: float) -> None:
        """A request succeeded."""
        if now - self._half >= HORIZON / 2:
            self._turn(now)
        share = self.rules.budget
        self._this_half += share
        self._balance += share

    def balance(self, now: float) -> float:
        """Retries that may be made now."""
        if now - self._half >= HORIZON / 2:
            self._turn(now)
        self._balance += (now - self._refilled) * self.rules.per_second
        self._refilled = now
        income = self._this_half + self._last_half + HORIZON * self.rules.per_second
        self._balance = min(self._balance, max(FLOOR, income))
        return self._balance

    def withdraw(self, now: float) -> bool:
        """Pay for one retry; False (and nothing paid) when there is less than one."""
        if self.balance(now) < 1.0:
            return False
        self._balance -= 1.0
        return True

    def when(self, now: float) -> float:
        """The time at which one retry will be affordable if nothing else succeeds; `inf` if never."""
        missing = 1.0 - self.balance(now)
        if missing <= 0:
            return now
        rate = self.rules.per_second
        return now + missing / rate + 1e-6 if rate > 0 else inf

    def _turn(self, now: float) -> None:
        halves = int((now - self._half) / (HORIZON / 2))
        self._last_half = self._this_half if halves == 1 else 0.0
        self._this_half = 0.0
        self._half += halves * (HORIZON / 2)


class Budgets:
    """One policy's budgets, one per tenant: the retries of one must not be paid by the successes of another."""

    __slots__ = ("_by_tenant", "none", "rules")

    def __init__(self, rules: RetryRules) -> None:
        self._by_tenant: dict[str, Budget] = {}
        self.set_rules(rules)

    def __repr__(self) -> str:
        return f"<Budgets of {len(self._by_tenant)} tenants>"

    def set_rules(self, rules: RetryRules) -> None:
        """New rules; what was saved is kept."""
        self.rules = rules
        for budget in self._by_tenant.values():
            budget.set_rules(rules)
        self.none = Budget(rules).none

    def of(self, tenant: str, now: float) -> Budget:
        """A tenant's budget, which begins with his first request."""
        budget = self._by_tenant.get(tenant)
        if budget is None:
            budget = self._by_tenant[tenant] = Budget(self.rules, now)
        return budget


class Allowance:
    """Tokens that one policy's hedges may still take.

    Rule: what was spent is never more than `share` of what was deposited; it begins with nothing.
    """

    __slots__ = ("_balance", "_half", "_last_half", "_this_half", "share")

    def __init__(self, share: float = 0.0) -> None:
        self.share = share
        self._balance = self._this_half = self._last_half = 0.0
        self._half = 0.0

    def __repr__(self) -> str:
        return f"<Allowance of {self._balance:.0f} tokens>"

    def deposit(self, tokens: int, now: float) -> None:
        """So many tokens were sent."""
        if now - self._half >= MINUTE / 2:
            self._turn(now)
        income = self.share * tokens
        self._this_half += income
        self._balance += income

    def withdraw(self, tokens: int, now: float) -> bool:
        """Pay for a hedge; False (and nothing paid) when there is not enough."""
        if now - self._half >= MINUTE / 2:
            self._turn(now)
        self._balance = min(self._balance, max(TOKENS_KEPT, self._this_half + self._last_half))
        if self._balance < tokens:
            return False
        self._balance -= tokens
        return True

    def _turn(self, now: float) -> None:
        halves = int((now - self._half) / (MINUTE / 2))
        self._last_half = self._this_half if halves == 1 else 0.0
        self._this_half = 0.0
        self._half += halves * (MINUTE / 2)
