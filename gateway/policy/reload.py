"""What a reload changes, in words: an operator should see at once whether it is what he meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.policy.compiled import Compiled


def changes(old: Compiled, new: Compiled) -> tuple[str, ...]:
    """One line for each part that came, went or changed; empty when the two mean the same. Shows no values."""
    found: list[str] = []
    for what, before, after in _parts(old, new):
        found += [f"{what} '{name}' added" for name in after if name not in before]
        found += [f"{what} '{name}' removed" for name in before if name not in after]
        found += [f"{what} '{name}' changed" for name in after if name in before and before[name] != after[name]]
    if old.max_body != new.max_body:
        found.append("server changed")
    if old.usage != new.usage:
        found.append("usage changed")
    if old.telemetry != new.telemetry:
        found.append("telemetry changed")
    if old.rates != new.rates:
        found.append("rates changed")
    return tuple(found)


def _parts(old: Compiled, new: Compiled) -> Iterator[tuple[str, Mapping[str, object], Mapping[str, object]]]:
    yield "model", old.plan.models, new.plan.models
    yield "backend", _backends(old), _backends(new)
    yield "account", old.plan.accounts, new.plan.accounts
    yield "policy", old.plan.policies, new.plan.policies
    yield "tenant", _tenants(old), _tenants(new)


def _backends(compiled: Compiled) -> dict[str, object]:
    """A backend with its connection and prices: a new key is a change too."""
    links, tariffs = compiled.connections, compiled.tariffs
    return {name: (backend, links[name], tariffs.get(name)) for name, backend in compiled.plan.backends.items()}


def _tenants(compiled: Compiled) -> dict[str, object]:
    return {tenant.name: tenant for tenant in compiled.tenants}
