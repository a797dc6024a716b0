"""Small worlds for the dispatcher: a plan in one call, requests with running numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import pytest

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Account,
    Backend,
    Go,
    HedgeRules,
    Lease,
    Limits,
    Model,
    Plan,
    Policy,
    Request,
    Tier,
    Verdict,
)

FREE = HedgeRules(1.0, 2.0)


class World:
    """One model `m` under policy `p`. Accounts are given by keyword; every account has one backend of its name."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def plan(
        self, tiers: tuple[Tier, ...] | None = None, policy: Mapping[str, Any] | None = None, **limits: Limits
    ) -> Plan:
        backends = {name: Backend(name, name, {"m": f"{name}-id"}) for name in limits}
        rules = Policy("p", tiers or (Tier(tuple(limits)),), **(policy or {}))
        accounts = {name: Account(name, given) for name, given in limits.items()}
        return Plan({"m": Model("m", "p", ("alias",))}, backends, accounts, {"p": rules}, "v1")

    def dispatcher(
        self, tiers: tuple[Tier, ...] | None = None, policy: Mapping[str, Any] | None = None, **limits: Limits
    ) -> Dispatcher:
        return Dispatcher(self.plan(tiers, policy, **limits), Random(7))

    def hedging(self, *tiers: Tier, rules: HedgeRules | None = FREE, **more: Any) -> Dispatcher:
        """Two tiers of one backend each unless told otherwise; every hedge is paid for, and due after 2 s."""
        tiers = tiers or (Tier(("a",)), Tier(("b",)))
        names = sorted({name for tier in tiers for name in tier.backends})
        limits = {name: more.pop(name, Limits(streams=10)) for name in names}
        return self.dispatcher(tiers, {"hedge": rules, **more}, **limits)

    def request(self, arrived: float = 0.0, **more: Any) -> Request:
        base = Request(f"q{next(self._numbers)}", "t", "m", "standard", 350, 100, True, arrived)
        return replace(base, **more)

    def lease(self, verdict: Verdict | None) -> Lease:
        assert isinstance(verdict, Go), verdict
        return verdict.lease

    def go(self, dispatcher: Dispatcher, now: float = 0.0, **more: Any) -> Lease:
        return self.lease(dispatcher.offer(self.request(now, **more), now))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def priced() -> Callable[..., Plan]:
    """A plan whose backends get prices: name → (input, output)."""

    def build(plan: Plan, **prices: Any) -> Plan:
        backends = {n: replace(b, price=prices.get(n)) for n, b in plan.backends.items()}
        return replace(plan, backends=backends)

    return build
