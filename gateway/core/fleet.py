"""The fleet: what stands, and the ways through it, prepared when a plan is loaded.

A *route* is what one model's policy says. Its conditions select tiers per request, so a route has one *path* per
combination of conditions that was met, and per set of backends a request must not use again. Paths are made once
and hold direct references: finding where a request may go looks up the model and, with conditions, one dictionary.

Rules
- A standing or meter whose name disappears from the plan is kept while leases live on it, and `MEMORY` longer: if
  the name comes back, what the cloud still counts must not have been forgotten.
- Paths belong to their route; routes are replaced as a whole by `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway.core.affinity import Homed, Homes
from gateway.core.budget import Allowance, Budgets
from gateway.core.choose import PICKS, Pick, Seat, Shy, in_one_currency
from gateway.core.crowd import Crowd
from gateway.core.estimate import Estimate
from gateway.core.fair import Pool
from gateway.core.meter import Meter
from gateway.core.nouns import Backend, Plan, Policy, Price, Request, RetryRules, Tier
from gateway.core.standing import Standing

MEMORY = 70.0

_UNPRICED: Mapping[str, Price] = MappingProxyType({})

LaneKey = tuple[frozenset[str], str]
"""The backends somebody may use, and, if he waits for a retry, whose budget pays."""


class Step:
    """One tier of a path: seats and the rule that picks among them."""

    __slots__ = ("pick", "seats")

    def __init__(self, pick: Pick, seats: tuple[Seat, ...]) -> None:
        self.pick = pick
        self.seats = seats


class Path:
    """The tiers that one kind of request may use, each backend once, and the lane in which it waits."""

    __slots__ = ("_names", "_policy", "key", "seats", "steps")

    def __init__(self, steps: tuple[Step, ...], policy: str) -> None:
        self.steps = steps
        self.seats = tuple(seat for step in steps for seat in step.seats)
        names = frozenset(seat.standing.name for seat in self.seats)
        self.key: LaneKey = (names, "")
        self._names = names
        self._policy = policy

    def retry_key(self, tenant: str) -> LaneKey:
        """The lane of those whose retries the same budget pays: it must not be blocked by another that is empty."""
        return (self._names, f"{self._policy}/{tenant}")

    def __repr__(self) -> str:
        return f"<Path {' > '.join('|'.join(s.standing.name for s in step.seats) for step in self.steps)}>"


class Route:
    """One model under its policy."""

    __slots__ = (
        "_paths", "_tiers", "allowance", "budgets", "conditional", "crowd", "estimate", "homes", "model", "path",
        "policy", "pool",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        policy: Policy,
        tiers: list[tuple[Tier, tuple[Seat, ...]]],
        budgets: Budgets,
        estimate: Estimate,
        allowance: Allowance | None,
        pool: Pool,
        homes: Homes | None,
    ) -> None:
        self.model = model
        self.policy = policy
        self.budgets = budgets
        self.estimate = estimate
        self.allowance = allowance
        self.pool = pool
        self.homes = homes
        self.crowd = Crowd()
        self._tiers = tiers
        self._paths: dict[tuple[int, Shy], Path] = {}
        self.conditional = any(tier.when is not None for tier in policy.tiers)
        self.path = self._path((1 << len(tiers)) - 1, ())

    def path_for(self, request: Request) -> Path:
        """Where this request may go, by the conditions it meets."""
        return self._path(self.mask(request), ()) if self.conditional else self.path

    def path_without(self, request: Request, barred: Shy) -> Path:
        """The same, without the backends that have failed it."""
        return self._path(self.mask(request), barred)

    def seats(self, tier: int) -> tuple[Seat, ...]:
        """All seats of a tier, whatever its condition says."""
        return self._tiers[tier][1]

    def charge(self, prices: Mapping[str, Mapping[str, Price]]) -> None:
        """Take over prices."""
        for _, seats in self._tiers:
            for seat in seats:
                seat.charge(prices.get(seat.standing.name, _UNPRICED).get(seat.model_id, seat.price))
            in_one_currency(seats)

    def mask(self, request: Request) -> int:
        """One bit per tier: may this request use it?"""
        mask = 0
        for place, (tier, _) in enumerate(self._tiers):
            if tier.when is None or tier.when(request):
                mask |= 1 << place
        return mask

    def _path(self, mask: int, barred: Shy) -> Path:
        path = self._paths.get((mask, barred))
        if path is None:
            path = self._paths[(mask, barred)] = self._make(mask, barred)
        return path

    def _make(self, mask: int, barred: Shy) -> Path:
        used = set(barred)
        steps = []
        for place, (tier, seats) in enumerate(self._tiers):
            if not mask >> place & 1:
                continue
            fresh = []
            for seat in seats:
                if seat.standing not in used:
                    used.add(seat.standing)
                    fresh.append(seat)
            if fresh:
                steps.append(Step(self._pick(tier), tuple(fresh)))
        return Path(tuple(steps), self.policy.name)

    def _pick(self, tier: Tier) -> Pick:
        base = PICKS[tier.choose]
        return Homed(base, self.homes, hashed=tier.choose == "least-loaded").pick if self.homes is not None else base


class Fleet:
    """Meters by account, standings by backend, routes by the name that apps ask for."""

    __slots__ = ("_allowances", "_budgets", "_estimates", "_homes", "meters", "plan", "pools", "routes", "standings")

    def __init__(self, plan: Plan) -> None:
        self.meters: dict[str, Meter] = {}
        self.standings: dict[str, Standing] = {}
        self.routes: dict[str, Route] = {}
        self._budgets: dict[str, Budgets] = {}
        self._allowances: dict[str, Allowance] = {}
        self._estimates: dict[str, Estimate] = {}
        self._homes: dict[str, Homes] = {}
        self.pools: dict[str, Pool] = {}
        self.load(plan, 0.0)

    def __repr__(self) -> str:
        live, all_ = len(self.plan.backends), len(self.standings)
        retired = f", {all_ - live} retired" if all_ > live else ""
        return f"<Fleet of {live} backends{retired}, {len(self.plan.models)} models>"

    def load(self, plan: Plan, now: float) -> None:
        """Take a plan over, keeping everything learnt about names that persist. Keys that were refused are tried."""
        self.plan = plan
        self._load_meters(plan, now)
        self._load_standings(plan, now)
        old_budgets, self._budgets = self._budgets, {}
        for policy in plan.policies.values():
            budgets = old_budgets.get(policy.name) or Budgets(policy.retry)
            budgets.set_rules(policy.retry)
            self._budgets[policy.name] = budgets
        self._allow_retries(plan)
        hedging = {policy.name: policy.hedge for policy in plan.policies.values() if policy.hedge is not None}
        self._allowances = {name: self._allowances.get(name) or Allowance() for name in hedging}
        for name, rules in hedging.items():
            self._allowances[name].share = rules.budget
        self._estimates = {name: self._estimates.get(name) or Estimate() for name in plan.models}
        self._load_pools(plan)
        self._load_homes(plan)
        self.routes = {name: self._route(name, plan) for name in plan.models}
        for name, model in plan.models.items():
            for alias in model.aliases:
                self.routes.setdefault(alias, self.routes[name])

    def charge(self, prices: Mapping[str, Mapping[str, Price]]) -> None:
        """Take over what backends charge from now on, by backend and that cloud's model id."""
        for route in self.routes.values():
            route.charge(prices)

    def prices(self) -> dict[str, dict[str, Price]]:
        """What is charged now, by backend and our name of the model; what has no price is left out."""
        found: dict[str, dict[str, Price]] = {}
        for route in self.routes.values():
            for seat in (seat for place in range(len(route.policy.tiers)) for seat in route.seats(place)):
                if seat.price is not None:
                    found.setdefault(seat.standing.name, {})[route.model] = seat.price
        return found

    def _allow_retries(self, plan: Plan) -> None:
        """Retries *into* a backend are bounded too, by the most generous policy that uses it."""
        for name in plan.backends:
            rules = [p.retry for p in plan.policies.values() if any(name in tier.backends for tier in p.tiers)]
            share = max((rule.budget for rule in rules), default=0.0)
            income = max((rule.per_second for rule in rules), default=0.0)
            self.standings[name].budget.set_rules(RetryRules(share, income))

    def _load_meters(self, plan: Plan, now: float) -> None:
        for name, account in plan.accounts.items():
            meter = self.meters.get(name)
            if meter is None:
                self.meters[name] = Meter(name, account.limits, account.learn)
                continue
            meter.retired = None
            meter.unlock()
            meter.declare(account.limits, account.learn)
        for name in [n for n in self.meters if n not in plan.accounts]:
            meter = self.meters[name]
            meter.retired = now if meter.retired is None else meter.retired
            if not meter.in_flight and now - meter.retired > MEMORY:
                del self.meters[name]

    def _load_standings(self, plan: Plan, now: float) -> None:
        for name, backend in plan.backends.items():
            standing = self.standings.get(name)
            if standing is None:
                self.standings[name] = Standing(backend, self.meters[backend.account])
                continue
            standing.retired = None
            standing.backend = backend
            standing.meter = self.meters[backend.account]
            standing.missing.clear()
        for name in [n for n in self.standings if n not in plan.backends]:
            standing = self.standings[name]
            standing.retired = now if standing.retired is None else standing.retired
            if not standing.in_flight and now - standing.retired > MEMORY:
                del self.standings[name]

    def _load_pools(self, plan: Plan) -> None:
        """Tie together the accounts that one model may use. A pool that persists in part keeps its counters."""
        group = {name: {name} for name in plan.accounts}
        for model in plan.models:
            tied = set().union(*(group[account] for account in _accounts(plan, model)))
            group.update(dict.fromkeys(tied, tied))
        old = dict(self.pools)
        self.pools.clear()
        for tied in group.values():
            if not tied <= self.pools.keys():
                kept = [old[name] for name in sorted(tied) if name in old and old[name] not in self.pools.values()]
                pool = kept[0] if kept else Pool()
                pool.name = ",".join(sorted(tied))
                self.pools.update(dict.fromkeys(tied, pool))

    def _load_homes(self, plan: Plan) -> None:
        rules = {name: plan.policies[model.policy].affinity for name, model in plan.models.items()}
        self._homes = {name: self._homes.get(name) or Homes(wanted) for name, wanted in rules.items() if wanted}
        for name, homes in self._homes.items():
            homes.rules = rules[name] or homes.rules

    def _route(self, name: str, plan: Plan) -> Route:
        policy = plan.policies[plan.models[name].policy]
        tiers = []
        for place, tier in enumerate(policy.tiers):
            seats = tuple(
                Seat(self.standings[backend], name, place, tier.weights.get(backend, 1.0))
                for backend in tier.backends
                if name in _serves(plan.backends[backend])
            )
            tiers.append((tier, seats))
        allowance = self._allowances.get(policy.name)
        pool = next((self.pools[account] for account in _accounts(plan, name)), None) or Pool()
        return Route(
            name, policy, tiers, self._budgets[policy.name], self._estimates[name], allowance, pool,
            self._homes.get(name),
        )  # fmt: skip


def _accounts(plan: Plan, model: str) -> list[str]:
    """The accounts that one model's requests may use."""
    tiers = plan.policies[plan.models[model].policy].tiers
    used = [plan.backends[name] for tier in tiers for name in tier.backends]
    return [backend.account for backend in used if model in backend.serves]


def _serves(backend: Backend) -> frozenset[str]:
    return frozenset(backend.serves)
