"""The roll of tenants and keys as plain data, for the admin API: the document's and those made at run time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.pipeline.live import Live
from gateway.policy.compiled import Tenant
from gateway.policy.scalars import written

Spending = Mapping[str, Mapping[str, Any]]
"""How budgets stand, by "tenant:NAME" and "key:ID"."""


def tenants(live: Live, now: float, spending: Spending) -> list[dict[str, Any]]:
    """All tenants, by name."""
    active = Counter(key["tenant"] for key in keys(live, "", now, {}) if key["status"] == "active")
    documents = _documents(live)
    return [_tenant(live, name, name in documents, active[name], spending) for name in sorted(live.index.tenants)]


def tenant(live: Live, name: str, now: float, spending: Spending) -> dict[str, Any]:
    """One tenant of the index. `keys` counts those that have neither expired nor been revoked."""
    active = [key for key in keys(live, name, now, {}) if key["status"] == "active"]
    return _tenant(live, name, name in _documents(live), len(active), spending)


def _tenant(live: Live, name: str, in_document: bool, active: int, spending: Spending) -> dict[str, Any]:
    found = live.index.tenants[name]
    enrolled = live.roster.tenants.get(name)
    return {
        "object": "tenant",
        "name": name,
        "source": "document" if in_document else "runtime",
        "status": "active" if found.active else "disabled",
        "class": found.class_,
        "weight": found.weight,
        "limits": found.limits.words(),
        "budget": spending.get(f"tenant:{name}"),
        "models": None if found.models is None else sorted(found.models),
        "user_id": found.user_id,
        "keys": active,
        "created": written(enrolled.record.created) if enrolled and not in_document else None,
        "terms": enrolled.record.terms if enrolled and not in_document else None,
    }


def keys(live: Live, tenant: str, now: float, spending: Spending) -> list[dict[str, Any]]:
    """All keys, or those of one tenant; by tenant, and then in the order in which they were made."""
    found = [
        _key(key.id, owner.name, key.name, "document", key.expires, None, None, now)
        for owner in _documents(live).values()
        for key in owner.keys
    ]
    for issued in live.roster.keys.values():
        record = issued.record
        expires, revoked = issued.word.expires, record.revoked
        found.append(_key(issued.id, record.tenant, issued.word.name, "runtime", expires, record.created, revoked, now))
    mine = [
        {**key, "budget": spending.get(f"key:{key['id']}")} for key in found if not tenant or key["tenant"] == tenant
    ]
    for key in mine:
        limits = live.index.limits.get(key["id"])
        key["limits"] = limits.words() if limits is not None else {}
    return sorted(mine, key=lambda key: (key["tenant"], key["created"] or "", key["id"]))


def _documents(live: Live) -> dict[str, Tenant]:
    assert live.compiled is not None
    return {tenant.name: tenant for tenant in live.compiled.tenants}


def _key(
    id_: str,
    tenant: str,
    name: str,
    source: str,
    expires: float | None,
    created: float | None,
    revoked: float | None,
    now: float,
) -> dict[str, Any]:
    status = "revoked" if revoked is not None else "expired" if expires is not None and expires <= now else "active"
    return {
        "object": "key",
        "id": id_,
        "tenant": tenant,
        "name": name,
        "source": source,
        "status": status,
        "created": _when(created),
        "expires": _when(expires),
        "revoked": _when(revoked),
    }


def _when(moment: float | None) -> str | None:
    return None if moment is None else written(moment)
