"""What may be done to the roster, as plain functions: each answers with the records to write, or raises why not.

Nothing here stores anything. A shell reads the roster, calls one of these, and writes what it was given if the roster
is still the same; if not, it asks again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.errors import BadRequest, Conflict, DocumentError, NotFound
from gateway.policy.allowing import AllowanceWord
from gateway.policy.compiled import Tenant
from gateway.policy.diagnose import nearest
from gateway.policy.kinds import NAME
from gateway.policy.roster import (
    Enrolled,
    Issued,
    KeyRecord,
    Roster,
    TenantRecord,
    key_field,
    key_word,
    tenant_field,
    tenant_word,
)
from gateway.policy.scalars import written

MOST_TENANTS = 1000
MOST_KEYS = 5000
"""All keys that are kept, those that have ended included."""

REMEMBERED = 30 * 86400.0
"""Seconds for which a key that has ended is told from one that never was."""

Changes = dict[str, bytes | None]
"""Records to write, by name; None: to remove."""

Terms = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """What the document says: its tenants, and from every name a model has to its own. And how much may be kept."""

    tenants: Mapping[str, Tenant]
    models: Mapping[str, str]
    most_tenants: int = MOST_TENANTS
    most_keys: int = MOST_KEYS


def create(roster: Roster, given: Given, name: str, terms: Terms, now: float) -> Changes:
    """A new tenant. Raises `Conflict` when there is one of this name, `BadRequest` for wrong terms."""
    if name in roster.tenants:
        raise Conflict(f"There is a tenant '{name}' already.", code="tenant_exists", param="name")
    return replace(roster, given, name, terms, now)


def replace(roster: Roster, given: Given, name: str, terms: Terms, now: float) -> Changes:
    """A tenant with these terms and no others, new or not. Raises like `create`, for the document's tenants only."""
    if not re.fullmatch(NAME, name):
        hint = "expected letters, digits and . _ : / @ + -, at most 128"
        raise BadRequest(f"This cannot be a name ({hint}).", code="invalid_value", param="name")
    if name in given.tenants:
        raise _documents(name)
    old = roster.tenants.get(name)
    if old is None and len(roster.tenants) >= given.most_tenants:
        raise Conflict(f"There are {given.most_tenants} tenants already; no more fit.", code="too_many_tenants")
    try:
        word = tenant_word(terms)
    except DocumentError as error:
        raise _misunderstood(error) from None
    _known(word.models, given.models)
    _known_per_model(word.limits, given.models)
    record = TenantRecord(old.record.created if old else now, dict(terms))
    return {**_forgotten(roster, given, now), **dict([tenant_field(name, record)])}


def amend(roster: Roster, given: Given, name: str, patch: Terms, now: float) -> Changes:
    """Change some of a tenant's terms; None takes one away. Raises `NotFound`, and like `replace`."""
    return replace(roster, given, name, _patched(_tenant(roster, given, name).record.terms, patch), now)


def dismiss(roster: Roster, given: Given, name: str, now: float) -> Changes:
    """No such tenant any more; its keys are revoked. Raises `NotFound`, `Conflict` for the document's."""
    gone = tenant_field(name, _tenant(roster, given, name).record)[0]
    keys = (issued for issued in roster.keys.values() if issued.record.tenant == name)
    return {**_forgotten(roster, given, now), gone: None, **_revoked(keys, now)}


def issue(
    roster: Roster,
    given: Given,
    tenant: str,
    terms: Terms,
    digest: bytes,
    now: float,
    replaces: str = "",
    overlap: float = 0.0,
) -> Changes:
    """A new key for a tenant, of the document or not; the one it `replaces` expires `overlap` seconds from now.

    Raises `NotFound` for an unknown tenant or key, `BadRequest` for wrong terms, `Conflict` when there are too many.
    """
    if tenant not in roster.tenants and tenant not in given.tenants:
        close = nearest(tenant, [*roster.tenants, *given.tenants])
        raise NotFound(f"There is no tenant '{tenant[:128]}': {close}.", code="tenant_not_found", param="tenant")
    changes = _forgotten(roster, given, now)
    if len(roster.keys) - len(changes) >= given.most_keys:
        raise Conflict(f"There are {given.most_keys} keys already; revoke some.", code="too_many_keys")
    name, record = key_field(digest, _record(tenant, terms, now, given.models))
    if digest.hex() in roster.keys:
        raise Conflict("There is this key already.", code="key_exists")
    if replaces:
        old = find(roster, given, replaces)
        if old.record.tenant != tenant:
            raise BadRequest(f"Key {old.id} belongs to another tenant.", code="invalid_value", param="replaces")
        ends = now + overlap if old.word.expires is None else min(old.word.expires, now + overlap)
        changes |= amend_key(roster, given, replaces, {"expires": written(ends)}, now)
    return {**changes, name: record}


def amend_key(roster: Roster, given: Given, key: str, patch: Terms, now: float) -> Changes:
    """Change the name or the end of a key. Raises `NotFound`, `BadRequest`, `Conflict` for one that was revoked."""
    old = find(roster, given, key)
    if old.record.revoked is not None:
        raise Conflict(f"Key {old.id} was revoked; that is for good.", code="revoked_api_key")
    record = _record(old.record.tenant, _patched(old.record.terms, patch), old.record.created, given.models)
    return {**_forgotten(roster, given, now), **dict([key_field(old.digest, record)])}


def revoke(roster: Roster, given: Given, key: str, now: float) -> Changes:
    """This key opens nothing any more. Doing it twice changes nothing. Raises `NotFound`, `Conflict`."""
    return {**_forgotten(roster, given, now), **_revoked([find(roster, given, key)], now)}


def find(roster: Roster, given: Given, key: str) -> Issued:
    """The key of this id, or of this name if only one that still opens something has it.

    Raises `NotFound`, and `Conflict` for a key of the document or a name that several have.
    """
    by_id = [issued for issued in roster.keys.values() if issued.id == key]
    found = by_id or [
        issued for issued in roster.keys.values() if issued.word.name == key and issued.record.revoked is None
    ]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(sorted(issued.id for issued in found))
        raise Conflict(f"Several keys are called '{key[:128]}': {ids}.", code="ambiguous_key")
    for tenant in given.tenants.values():
        if any(key in {known.id, known.name} for known in tenant.keys):
            message = f"This key of tenant '{tenant.name}' is in the configuration document: change it there."
            raise Conflict(message, code="key_in_document")
    raise NotFound(f"There is no key '{key[:128]}'.", code="key_not_found")


def _tenant(roster: Roster, given: Given, name: str) -> Enrolled:
    if name in given.tenants:
        raise _documents(name)
    if name not in roster.tenants:
        close = nearest(name, roster.tenants)
        raise NotFound(f"There is no tenant '{name[:128]}': {close}.", code="tenant_not_found")
    return roster.tenants[name]


def _documents(name: str) -> Conflict:
    message = f"Tenant '{name}' is in the configuration document: change it there."
    return Conflict(message, code="tenant_in_document", param="name")


def _record(tenant: str, terms: Terms, created: float, models: Mapping[str, str]) -> KeyRecord:
    try:
        word = key_word(terms)
    except DocumentError as error:
        raise _misunderstood(error) from None
    _known_per_model(word.limits, models)
    return KeyRecord(tenant, created, dict(terms))


def _revoked(keys: Iterable[Issued], now: float) -> Changes:
    live = [issued for issued in keys if issued.record.revoked is None]
    return dict(key_field(issued.digest, msgspec.structs.replace(issued.record, revoked=now)) for issued in live)


def _forgotten(roster: Roster, given: Given, now: float) -> Changes:
    """Keys that ended long ago are not remembered for ever; when there are too many, not even so long."""
    ended = sorted(
        (end, key_field(issued.digest, issued.record)[0])
        for issued in roster.keys.values()
        if (end := issued.ended(now)) is not None
    )
    surplus = len(roster.keys) - given.most_keys + 1
    return {name: None for index, (end, name) in enumerate(ended) if end < now - REMEMBERED or index < surplus}


def _patched(terms: Terms, patch: Terms) -> dict[str, Any]:
    return {name: value for name, value in {**terms, **patch}.items() if value is not None}


def _known(models: Iterable[str], names: Mapping[str, str], param: str = "models") -> None:
    for model in models:
        if model not in names:
            message = f"{param}: unknown model '{model}' ({nearest(model, names)})"
            raise BadRequest(message, code="invalid_value", param=param)


def _known_per_model(word: AllowanceWord | None, names: Mapping[str, str]) -> None:
    if word is not None:
        _known(word.per_model, names, "limits.per_model")


def _misunderstood(error: DocumentError) -> BadRequest:
    """All that is wrong with the terms, in the words of the document's errors, without places in a file."""
    told = [
        {"param": problem.path, "message": problem.message + (f" ({problem.hint})" if problem.hint else "")}
        for problem in error.problems
    ]
    first = told[0]
    message = f"{first['param']}: {first['message']}" if first["param"] else first["message"]
    return BadRequest(message, code="invalid_value", param=first["param"] or None, details={"problems": told})
