"""Which limits apply to a call: those of its tenant, of the key that was shown, and of either for the model.

A `Scope` is one set of them on this replica, with a stock for every limit. It is made when somebody first needs it and
let go when its owner is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.caps import Allowance, CapKind, Caps, Needs
from gateway.core.stock import Stock
from gateway.pipeline.live import Live
from gateway.policy.compiled import Tenant
from gateway.service import Call

_SPARE = 100
_MOST_CACHED = 10_000
_NOTHING: tuple[Scope, ...] = ()


@dataclass(slots=True, eq=False)
class Scope:
    """`name` is its name in the pool; `who` "tenant" or "key"; `model` empty: all models."""

    name: str
    owner: str
    who: str
    model: str
    caps: Caps
    stocks: dict[CapKind, Stock]

    def short(self, needs: Needs, now: float) -> list[Stock]:
        """The limits that have no room for this."""
        return [stock for stock in self.stocks.values() if not stock.has(needs[stock.weighs], now)]


class Scopes:
    """All scopes of this replica. `pooled` and `shared` as in `Stock`; `join` changes the latter for all."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._index: object = None
        self._found: dict[tuple[str, str, str], tuple[Scope, ...]] = {}
        self.all: dict[str, Scope] = {}
        self.pooled = False
        self.shared = False

    def of(self, call: Call) -> tuple[Scope, ...]:
        """The scopes of a call; none for callers without limits."""
        tenant = call.caller
        if not isinstance(tenant, Tenant):
            return _NOTHING
        index = self._live.index
        if self._index is not index or len(self._found) > _MOST_CACHED:
            self._index = index
            self._found = {}
            self._forget()
        where = (tenant.name, call.key, call.model)
        found = self._found.get(where)
        if found is None:
            found = self._found[where] = self._make(tenant, call.key, call.model)
        return found

    def join(self, shared: bool) -> None:
        """The pool decides from now on, or no longer."""
        self.shared = shared
        for scope in self.all.values():
            for stock in scope.stocks.values():
                stock.join(shared)

    def _make(self, tenant: Tenant, key: str, model: str) -> tuple[Scope, ...]:
        owners: list[tuple[str, str, Allowance]] = [("tenant", tenant.name, tenant.limits)]
        if (limits := self._live.index.limits.get(key)) is not None:
            owners.append(("key", key, limits))
        found = []
        for who, name, allowance in owners:
            for of, caps in (("", allowance.caps), (model, allowance.per_model.get(model, Caps()))):
                if caps != Caps():
                    # No name has a space in it.
                    label = f"{who} {name} {of}".strip()
                    found.append(self._scope(label, tenant.name, who, of, caps))
        return tuple(found)

    def _scope(self, name: str, owner: str, who: str, model: str, caps: Caps) -> Scope:
        scope = self.all.get(name)
        if scope is None:
            scope = self.all[name] = Scope(name, owner, who, model, Caps(), {})
        if scope.caps != caps:
            scope.caps = caps
            given = caps.given()
            for kind, limit in given.items():
                stock = scope.stocks.get(kind)
                if stock is None:
                    scope.stocks[kind] = Stock(kind, limit, pooled=self.pooled, shared=self.shared)
                else:
                    stock.limit = limit
            for kind in [kind for kind in scope.stocks if kind not in given]:
                del scope.stocks[kind]
        return scope

    def _forget(self) -> None:
        """Tenants come and go at run time: when many have gone, let go of what nobody has any more."""
        known = self._live.index.tenants
        if len(self.all) > 2 * len(known) + _SPARE:
            self.all = {name: scope for name, scope in self.all.items() if scope.owner in known}
