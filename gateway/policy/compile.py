"""From the structs of `schema` to the values the gateway runs on, with everything checked that can be checked."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.nouns import (
    Account,
    Backend,
    BreakerRules,
    Condition,
    HedgeRules,
    Limits,
    Model,
    Plan,
    Policy,
    QueueRules,
    RetryRules,
    Tier,
    Timeouts,
)
from gateway.core.tariff import Tariffs
from gateway.policy import affinity, budgets, checks, doors, ladder, prices, tenants
from gateway.policy.cacheword import CacheWord
from gateway.policy.compiled import CacheRules, Compiled, Connection, PresetInfo, Tenant
from gateway.policy.conditions import ConditionError, compile_condition
from gateway.policy.diagnose import Path, Problems
from gateway.policy.schema import BackendWord, PolicyWord, TierWord
from gateway.policy.walk import Read

__all__ = ["Compiled", "Connection", "PresetInfo", "Tenant", "compiled"]


def compiled(
    read: Read,
    presets: Mapping[str, PresetInfo],
    problems: Problems,
    version: str,
    listed: prices.PriceList = prices.unlisted,
) -> Compiled:
    """The whole document, compiled. Raises `DocumentError` with all errors, those of the reading included."""
    checks.check_models(read, problems)
    checks.check_serves(read, problems)
    checks.check_tiers(read, problems)
    checks.check_hedges(read, problems)
    affinity.check(read, problems)
    ladder.check_ladders(read, problems)
    checks.check_caches(read, problems)
    limits = checks.accounts(read, problems)
    connections = doors.connections(read, presets, problems)
    named = tenants.tenants(read, problems)
    usage = prices.usage(read, problems)
    telemetry = doors.telemetry(read, problems)
    tariffs: Tariffs = prices.declared(read, problems)
    policies = {name: _policy(read, name, word, problems) for name, word in read.document.policies.items()}
    if not problems.errors:
        checks.check_coverage(read, problems)
        tariffs = prices.completed(read, presets, tariffs, listed, problems)
        budgets.check(read, presets, tariffs, problems)
    problems.stop_if_any()
    document = read.document
    return Compiled(
        plan=_plan(read, policies, limits, tariffs, version),
        connections=connections,
        tenants=named,
        warnings=problems.told(problems.warnings),
        max_body=document.server.max_body,
        currency=document.currency,
        version=version,
        tariffs=tariffs,
        usage=usage,
        telemetry=telemetry,
        notes=problems.told(problems.notes),
        rates=dict(document.rates),
        caches={name: _cache(word.cache) for name, word in document.policies.items() if word.cache is not None},
    )


def _cache(word: CacheWord) -> CacheRules:
    return CacheRules(**{name: getattr(word, name) for name in word.__struct_fields__})


def _plan(read: Read, policies: dict[str, Policy], limits: dict[str, Limits], tariffs: Tariffs, version: str) -> Plan:
    document = read.document
    return Plan(
        models={
            name: Model(name, checks.policy_of(read, name), tuple(word.aliases))
            for name, word in document.models.items()
        },
        backends={name: _backend(name, word, tariffs) for name, word in document.backends.items()},
        accounts={name: Account(name, found, checks.learn_of(read, name)) for name, found in limits.items()},
        policies=policies,
        version=version,
    )


def _backend(name: str, word: BackendWord, tariffs: Tariffs) -> Backend:
    own = tariffs[name] if word.price is not None else {}
    price = next((tariff.base for tariff in own.values()), None)
    return Backend(name, word.account or name, dict(word.serves), price, dict(word.labels))


def _policy(read: Read, name: str, word: PolicyWord, problems: Problems) -> Policy:
    retry, breaker = word.retry, word.breaker
    tiers = []
    for number, tier in enumerate(word.tiers):
        tiers.append(_tier(read, ("policies", name, "tiers", number, "when"), tier, problems))
    return Policy(
        name=name,
        tiers=tuple(tiers),
        queue=QueueRules(word.queue.max_wait, word.queue.max_length, word.queue.max_bytes, word.queue.comment_after),
        timeouts=Timeouts(word.connect_timeout, word.first_token_timeout, word.token_gap_timeout, word.total_timeout),
        retry=RetryRules(retry.budget, retry.per_second, retry.attempts),
        breaker=BreakerRules(
            breaker.consecutive, breaker.share, breaker.samples, breaker.window, breaker.open_for, breaker.longest
        ),
        hedge=None if word.hedge is None else HedgeRules(word.hedge.budget, word.hedge.after),
        affinity=affinity.rules(word.affinity),
        ladder=ladder.ladder(word),
    )


def _tier(read: Read, path: Path, word: TierWord, problems: Problems) -> Tier:
    when: Condition | None = None
    written = ""
    if word.when:
        text = read.texts[path]
        written = text.written
        try:
            when = compile_condition(word.when)
        except ConditionError as bad:
            hidden = ("the condition is not valid", "details are not shown: it comes from the environment")
            problems.error(read.value_at(*path), path, *(hidden if text.referenced else (bad.message, bad.hint)))
    return Tier(tuple(word.backends), word.choose, dict(word.weights), when, written)
