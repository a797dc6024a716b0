"""Tenants and keys that came at run time: how they are kept, and what they mean beside a document's.

They are kept as small JSON records under names (`t:NAME` and `k:DIGEST`), in the words of the document, so that a
record is checked by the same walk as a document is, and a release that knows more words can read what an older one
wrote. A record that cannot be read opens nothing, is told, and is left alone.

A key belongs to the *name* of a tenant. Where the document and the roster have a tenant of the same name, the
document's terms hold; keys of both open it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.core.caps import Allowance
from gateway.core.money import Budget
from gateway.errors import DocumentError
from gateway.policy import keys, tree
from gateway.policy.budgets import budget
from gateway.policy.compiled import Key, Tenant
from gateway.policy.diagnose import Problems
from gateway.policy.kinds import NAME
from gateway.policy.schema import KeyWord, TenantWord
from gateway.policy.shapes import part
from gateway.policy.tenants import allowance, tenant
from gateway.policy.walk import part as walk

Fields = Mapping[str, bytes]
"""Records by name, as they are kept."""

TENANT, KEY = "t:", "k:"
_HEX = re.compile(r"[0-9a-f]{64}")
_encode = msgspec.json.encode


class TenantRecord(msgspec.Struct, frozen=True):
    """As kept. `terms` are the words of the document's `tenants`, without `keys`; `created` is in Unix seconds."""

    created: float
    terms: dict[str, Any]


class KeyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """As kept; the digest is the record's name. `terms` are the words of one of the document's keys, without `key`."""

    tenant: str
    created: float
    terms: dict[str, Any]
    revoked: float | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A tenant of the roster: its record, and its terms understood."""

    record: TenantRecord
    word: TenantWord


@dataclass(frozen=True, slots=True)
class Issued:
    """A key of the roster."""

    digest: bytes = field(repr=False)
    record: KeyRecord
    word: KeyWord

    @property
    def id(self) -> str:
        return keys.key_id(self.digest)

    def ended(self, now: float) -> float | None:
        """When it ceased to open anything; None while it does."""
        expired = self.word.expires if self.word.expires is not None and self.word.expires <= now else None
        ends = [end for end in (self.record.revoked, expired) if end is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Roster:
    """All records, understood. `unread` names those that could not be."""

    fields: Fields = field(default_factory=dict, repr=False)
    tenants: Mapping[str, Enrolled] = field(default_factory=dict)
    keys: Mapping[str, Issued] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


EMPTY = Roster()


@dataclass(frozen=True, slots=True)
class Access:
    """Whom one key lets in. `guarded`: it must be looked at once more, since it may have expired or been disabled."""

    tenant: Tenant
    key: Key
    guarded: bool


@dataclass(frozen=True, slots=True)
class Index:
    """Everybody who may ask, by the digest of his keys; made anew as a whole when anything changes.

    `budgets` are those of tenants ("tenant:NAME") and of keys ("key:ID").
    """

    accesses: Mapping[bytes, Access] = field(default_factory=dict, repr=False)
    revoked: frozenset[bytes] = field(default=frozenset(), repr=False)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    limits: Mapping[str, Allowance] = field(default_factory=dict)
    """of keys that have some of their own, by the keys' ids"""


def read(fields: Fields, before: Roster = EMPTY) -> Roster:
    """Understand records; those that are as they were `before` are not looked at again. Never raises."""
    tenants: dict[str, Enrolled] = {}
    issued: dict[str, Issued] = {}
    unread = []
    for name, raw in fields.items():
        kind, rest = name[:2], name[2:]
        same = before.fields.get(name) == raw
        try:
            if kind == TENANT and re.fullmatch(NAME, rest):
                tenants[rest] = before.tenants[rest] if same and rest in before.tenants else _enrolled(raw)
            elif kind == KEY and _HEX.fullmatch(rest):
                issued[rest] = before.keys[rest] if same and rest in before.keys else _issued(rest, raw)
            else:
                unread.append(name)
        except (msgspec.DecodeError, DocumentError, RecursionError):
            unread.append(name)
    return Roster(dict(fields), tenants, issued, tuple(sorted(unread)))


def _enrolled(raw: bytes) -> Enrolled:
    record = msgspec.json.decode(raw, type=TenantRecord)
    return Enrolled(record, tenant_word(record.terms))


def _issued(digest: str, raw: bytes) -> Issued:
    record = msgspec.json.decode(raw, type=KeyRecord)
    return Issued(bytes.fromhex(digest), record, key_word(record.terms))


def tenant_word(terms: Mapping[str, Any]) -> TenantWord:
    """Terms of a tenant understood, by the walk that reads documents. Raises `DocumentError` with all that is wrong."""
    found = _word(terms, TenantWord, "keys")
    assert isinstance(found, TenantWord)
    return found


def key_word(terms: Mapping[str, Any]) -> KeyWord:
    """The same for a key."""
    found = _word(terms, KeyWord, "key")
    assert isinstance(found, KeyWord)
    return found


def _word(terms: Mapping[str, Any], cls: type[msgspec.Struct], without: str) -> object:
    problems = Problems()
    found = walk(tree.plain(dict(terms)), part(cls, without), problems)
    problems.stop_if_any()
    return found


def tenant_field(name: str, record: TenantRecord) -> tuple[str, bytes]:
    return TENANT + name, _encode(record)


def key_field(digest: bytes, record: KeyRecord) -> tuple[str, bytes]:
    return KEY + digest.hex(), _encode(record)


def index(document: Iterable[Tenant], roster: Roster, names: Mapping[str, str]) -> Index:
    """Who may ask, of the document and the roster together. `names` leads from a model's every name to its own."""
    tenants = {found.name: found for found in document}
    accesses = {
        key.digest: _access(found, key) for found in tenants.values() for key in found.keys
    }  # a key of the document is the document's, whatever the roster says
    for name, enrolled in roster.tenants.items():
        if name not in tenants:
            tenants[name] = tenant(name, enrolled.word, (), names)
    revoked = set()
    for issued in roster.keys.values():
        owner = tenants.get(issued.record.tenant)
        if issued.record.revoked is not None:
            revoked.add(issued.digest)
        elif owner is not None and issued.digest not in accesses:
            word = issued.word
            limits = allowance(word.limits, names)
            key = Key(issued.id, issued.digest, word.name, word.expires, budget(word.budget), limits)
            accesses[issued.digest] = _access(owner, key)
    limited = {access.key.id: access.key.limits for access in accesses.values() if access.key.limits}
    return Index(accesses, frozenset(revoked - accesses.keys()), tenants, _budgets(accesses, tenants), limited)


def _budgets(accesses: Mapping[bytes, Access], tenants: Mapping[str, Tenant]) -> dict[str, Budget]:
    found = {f"tenant:{name}": tenant.budget for name, tenant in tenants.items()}
    found |= {f"key:{access.key.id}": access.key.budget for access in accesses.values()}
    return {name: budget for name, budget in found.items() if budget is not None}


def _access(tenant: Tenant, key: Key) -> Access:
    return Access(tenant, key, guarded=key.expires is not None or not tenant.active)
