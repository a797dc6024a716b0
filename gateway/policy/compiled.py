"""What a document is compiled to. Frozen values; keys are kept out of every `repr`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.core.nouns import Limits, Plan, ServiceClass
from gateway.policy.diagnose import Problem


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """What a document needs to know of a preset. `base_url` None: the document must give one, and needs no key.

    `models` are ids this kind of cloud is known for; `key_env` is the usual name of the variable with its key.
    """

    name: str
    base_url: str | None
    models: Mapping[str, str] = field(default_factory=dict)
    key_env: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one backend. `key` is empty when it needs none. The address may hold a secret too."""

    preset: str
    base_url: str = field(repr=False)
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who may ask; known by the SHA-256 digests of his keys."""

    name: str
    class_: ServiceClass
    weight: float
    limits: Limits
    key_hashes: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Compiled:
    """One whole document, ready to run. `version` changes when the document's meaning does; it holds no secret."""

    plan: Plan
    connections: Mapping[str, Connection]
    tenants: tuple[Tenant, ...]
    warnings: tuple[Problem, ...]
    max_body: int
    currency: str
    version: str
