"""What a document is compiled to. Frozen values; keys are kept out of every `repr`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.caps import UNLIMITED, Allowance
from gateway.core.money import Budget
from gateway.core.nouns import Plan, ServiceClass
from gateway.core.tariff import Tariffs
from gateway.policy.diagnose import Problem

Driver = Literal["http", "litellm"]
"""How a backend is talked to."""


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """What a document needs to know of a preset. `base_url` None: the document must give one, and needs no key.

    `models` are ids this kind of cloud is known for; `key_env` is the usual name of the variable with its key;
    `price_prefix` is what its models are listed under in the public price list. One with another `driver` than http
    stands for that driver: `providers` are the clouds it knows, `lacks` says how to install it where that was not done.
    """

    name: str
    base_url: str | None
    models: Mapping[str, str] = field(default_factory=dict)
    key_env: str = ""
    driver: Driver = "http"
    providers: frozenset[str] = frozenset()
    lacks: str = ""
    price_prefix: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach one backend. `key` is empty when it needs none. The address may hold a secret too.

    Of a `driver` other than http, `preset` is that driver's own, and an empty address means the cloud's usual one.
    `traced`: it is told which trace a request belongs to.
    """

    preset: str
    base_url: str = field(repr=False)
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    driver: Driver = "http"
    traced: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a tenant, known by its SHA-256 alone. `id` is what people, logs and records call it.

    `expires` is in Unix seconds: from then on the key opens nothing. None: it does not cease by itself.
    """

    id: str
    digest: bytes = field(repr=False)
    name: str = ""
    expires: float | None = None
    budget: Budget | None = None
    limits: Allowance = UNLIMITED


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody who may ask. `keys` are those of the document.

    models    the models that exist for him, by their own names; None: all
    user_id   who he is for clouds that tell users apart; empty: they are told nothing
    """

    name: str
    class_: ServiceClass
    weight: float
    limits: Allowance = UNLIMITED
    keys: tuple[Key, ...] = ()
    models: frozenset[str] | None = None
    user_id: str = ""
    active: bool = True
    budget: Budget | None = None


@dataclass(frozen=True, slots=True)
class UsageRules:
    """Where usage records go: a file (none if empty), and a Redis stream that keeps about `stream` (none if 0)."""

    file: str = ""
    stream: int = 0


@dataclass(frozen=True, slots=True)
class TelemetryRules:
    """What is told of requests. `endpoint` empty and `sample` None: as the environment says (`OTEL_…`).

    endpoint    the base address of an OpenTelemetry collector
    sample      the share of requests that are traced whatever happens to them
    slow        seconds until the first token from which on a request is traced
    most        traces per second, at most, for what happened to the request
    recent      how many of the traces are kept in Redis, if there is one
    requests    whether every request gets a line in the log
    """

    endpoint: str = ""
    sample: float | None = None
    slow: float = 20.0
    most: int = 100
    recent: int = 5000
    requests: bool = False


@dataclass(frozen=True, slots=True)
class CacheRules:
    """Which answers of a policy are given again: `ttl` in seconds, sizes in bytes. See `schema.CacheWord`."""

    ttl: float = 600.0
    when: Literal["deterministic", "opt_in", "always"] = "deterministic"
    share: Literal["tenant", "all"] = "tenant"
    join: Literal["never", "replica", "fleet"] = "fleet"
    account: Literal["leader", "each"] = "leader"
    max_entry: int = 2**20
    max_entries: int = 10_000
    max_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Compiled:
    """One whole document, ready to run. `version` changes when the document's meaning does; it holds no secret.

    `tariffs` has every price that is known, by backend and that cloud's model id; the plan's prices are those at no
    special hour. `notes` are good to know, and nothing to mend. `rates`: what one unit of another currency is worth.
    `caches` are by policy, of those that keep answers.
    """

    plan: Plan
    connections: Mapping[str, Connection]
    tenants: tuple[Tenant, ...]
    warnings: tuple[Problem, ...]
    max_body: int
    currency: str
    version: str
    tariffs: Tariffs = field(default_factory=dict)
    usage: UsageRules | None = None
    telemetry: TelemetryRules = TelemetryRules()
    notes: tuple[Problem, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    caches: Mapping[str, CacheRules] = field(default_factory=dict)
