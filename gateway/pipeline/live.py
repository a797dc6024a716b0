"""What a configuration document turns into at run time, replaced as a whole when the document changes.

A `Line` is one backend ready to be called: its client, its dialect, its model ids as JSON. Lines that did not change
survive a reload with their connections; a line that went away closes when its last attempt has ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from gateway.core.nouns import Backend, Plan, Policy
from gateway.policy import roster
from gateway.policy.compiled import CacheRules, Compiled, Connection
from gateway.upstream.base import Upstream
from gateway.wire.dialect import Dialect
from gateway.wire.prefix import pattern

Dial = Callable[[Connection, float], tuple[Upstream, Dialect]]
"""Makes the client and the dialect of a connection; the second argument is the connect time-out in seconds."""


class Line:
    """One backend, ready to be called. `busy` counts attempts under way."""

    __slots__ = ("backend", "busy", "connection", "dialect", "model_json", "rated", "retired", "traced", "upstream")

    def __init__(self, backend: Backend, connection: Connection, upstream: Upstream, dialect: Dialect) -> None:
        self.backend = backend
        self.connection = connection
        self.upstream = upstream
        self.dialect = dialect
        self.traced = connection.traced
        self.rated = frozenset(name.encode() for name in dialect.rate_names)
        self.model_json: dict[str, bytes] = {}
        self.busy = 0
        self.retired = False
        self.serve(backend)

    def serve(self, backend: Backend) -> None:
        self.backend = backend
        self.model_json = {id_: msgspec.json.encode(id_) for id_ in backend.serves.values()}


class Live:
    """The running configuration. Everything that reads it does so through these attributes, at each call.

    `open`: nobody is named who may ask, so everybody may. Never so when the gateway was made with `closed`.
    """

    def __init__(self, dial: Dial, *, closed: bool = False) -> None:
        self._dial = dial
        self._closed = closed
        self._closing: set[asyncio.Task[None]] = set()
        self.compiled: Compiled | None = None
        self.lines: dict[str, Line] = {}
        self.names: Mapping[str, str] = MappingProxyType({})
        self.policies: Mapping[str, Policy] = MappingProxyType({})
        self.policy_of: Mapping[str, str] = MappingProxyType({})
        self.accounts_of: Mapping[str, frozenset[str]] = MappingProxyType({})
        self.laddered: frozenset[str] = frozenset()
        """policies by which requests may have to give something up"""
        self.roster = roster.EMPTY
        self.index = roster.Index()
        self.open = not closed
        self.hedging: frozenset[str] = frozenset()
        """the policies that hedge"""
        self.affine: Mapping[str, re.Pattern[bytes] | None] = MappingProxyType({})
        """the policies with affinity, and what they ignore"""
        self.caching: Mapping[str, CacheRules] = MappingProxyType({})
        self.stands_for: Mapping[str, str] = MappingProxyType({})
        """what a model is, with all the clouds' ids for it: other ids, other answers"""
        self.max_body = 16 * 1024 * 1024

    @property
    def plan(self) -> Plan:
        assert self.compiled is not None
        return self.compiled.plan

    def install(self, compiled: Compiled) -> None:
        """Make `compiled` the running configuration. Running attempts keep the lines they have."""
        plan = compiled.plan
        lines: dict[str, Line] = {}
        for name, backend in plan.backends.items():
            connection = compiled.connections[name]
            timeout = _connect_timeout(plan, name)
            old = self.lines.get(name)
            if old is not None and old.connection == connection:
                old.serve(backend)
                lines[name] = old
            else:
                upstream, dialect = self._dial(connection, timeout)
                lines[name] = Line(backend, connection, upstream, dialect)
        gone = [line for name, line in self.lines.items() if lines.get(name) is not line]
        self.lines = lines
        self.names = {alias: model.name for model in plan.models.values() for alias in (model.name, *model.aliases)}
        self.policies = plan.policies
        self.policy_of = {model.name: model.policy for model in plan.models.values()}
        self.affine = {p.name: pattern(p.affinity.ignore) for p in plan.policies.values() if p.affinity is not None}
        self.hedging = frozenset(policy.name for policy in plan.policies.values() if policy.hedge is not None)
        self.caching = compiled.caches
        self.stands_for = {model: _ids(plan, model, policy) for model, policy in self.policy_of.items()}
        self.accounts_of = {model: _accounts(plan, policy) for model, policy in self.policy_of.items()}
        self.laddered = frozenset(name for name, policy in plan.policies.items() if policy.ladder)
        self.max_body = compiled.max_body
        self.compiled = compiled
        self.enrol(self.roster)
        for line in gone:
            line.retired = True
            self.release(line)

    def enrol(self, found: roster.Roster) -> None:
        """Take these tenants and keys beside the document's, all at once. Calls under way are not disturbed."""
        assert self.compiled is not None
        self.roster = found
        self.index = roster.index(self.compiled.tenants, found, self.names)
        self.open = not (self._closed or self.compiled.tenants or found.fields)

    def release(self, line: Line) -> None:
        """Close a retired line once nothing runs on it."""
        if line.retired and line.busy == 0:
            task = asyncio.get_running_loop().create_task(line.upstream.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        for line in self.lines.values():
            await line.upstream.aclose()
        if self._closing:
            await asyncio.gather(*self._closing)


def _accounts(plan: Plan, policy: str) -> frozenset[str]:
    """The accounts that a policy may send to."""
    return frozenset(plan.backends[name].account for tier in plan.policies[policy].tiers for name in tier.backends)


def _ids(plan: Plan, model: str, policy: str) -> str:
    """A model's name and, sorted, the ids that it has at the backends of its policy."""
    backends = [plan.backends[name] for tier in plan.policies[policy].tiers for name in tier.backends]
    return "\n".join([model, *sorted({found.serves[model] for found in backends if model in found.serves})])


def _connect_timeout(plan: Plan, backend: str) -> float:
    """The shortest connect time-out of the policies that use a backend."""
    found = [
        policy.timeouts.connect
        for policy in plan.policies.values()
        if any(backend in tier.backends for tier in policy.tiers)
    ]
    return min(found, default=5.0)
