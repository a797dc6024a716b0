"""What must hold between the parts of a document: every name leads somewhere, and no two parts contradict."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.nouns import Learn, Limits
from gateway.policy.allowing import LimitsWord
from gateway.policy.diagnose import Problems, nearest
from gateway.policy.schema import PolicyWord
from gateway.policy.walk import Read


def policy_of(read: Read, model: str) -> str:
    """The policy of a model: the one it names, or the only one there is; empty when that is not clear."""
    document = read.document
    named = document.models[model].policy
    if named or len(document.policies) != 1:
        return named
    return next(iter(document.policies))


def check_models(read: Read, problems: Problems) -> None:
    """Policies exist, and no name is taken twice."""
    document = read.document
    owners: dict[str, str] = {}
    for model, word in document.models.items():
        if word.policy and word.policy not in document.policies:
            _unknown(read, problems, "policy", word.policy, document.policies, ("models", model, "policy"))
        elif not policy_of(read, model) and document.policies and ("models", model, "policy") not in read.keys:
            hint = nearest("", document.policies)
            problems.error(read.at("models", model), ("models", model), "names no policy, and there are several", hint)
        for index, alias in enumerate(word.aliases):
            path = ("models", model, "aliases", index)
            if not alias:
                continue
            if alias == model:
                problems.error(read.at(*path), path, "a model cannot be its own alias", "leave it out")
            elif alias in document.models:
                line = read.at("models", alias).line
                problems.error(read.at(*path), path, f"'{alias}' is itself a model", f"see line {line}")
            elif alias in owners:
                hint = f"each name leads to one model; '{owners[alias]}' has it already"
                problems.error(read.at(*path), path, f"the alias '{alias}' is taken", hint)
            else:
                owners[alias] = model


def check_serves(read: Read, problems: Problems) -> None:
    """Backends serve models that exist, under their proper names."""
    document = read.document
    models = document.models
    alias_of = {alias: model for model in models for alias in models[model].aliases if alias not in models}
    for backend, word in document.backends.items():
        for model in word.serves:
            path = ("backends", backend, "serves", model)
            if model in alias_of:
                problems.error(read.at(*path), path, f"'{model}' is an alias", f"expected '{alias_of[model]}'")
            elif model not in models:
                hint = nearest(model, models)
                problems.error(read.at(*path), path, f"unknown model '{model}'", hint)


def check_tiers(read: Read, problems: Problems) -> None:
    """Tiers name backends that exist, each once, and weights that fit."""
    document = read.document
    for policy, word in document.policies.items():
        for number, tier in enumerate(word.tiers):
            path = ("policies", policy, "tiers", number)
            for index, backend in enumerate(tier.backends):
                where = (*path, "backends", index)
                if backend and backend not in document.backends:
                    _unknown(read, problems, "backend", backend, document.backends, where)
                elif backend and backend in tier.backends[:index]:
                    problems.error(read.at(*where), where, f"'{backend}' is in this tier already", "name it once")
            _check_weights(read, problems, path)
            if tier.choose == "cheapest":
                _check_prices(read, problems, path)


def _check_weights(read: Read, problems: Problems, path: tuple[str | int, ...]) -> None:
    tier = read.document.policies[str(path[1])].tiers[int(path[3])]
    for name in tier.weights:
        if name not in tier.backends:
            where = (*path, "weights", name)
            problems.error(read.at(*where), where, f"'{name}' is not in this tier", nearest(name, tier.backends))
    if tier.choose == "weighted":
        lacking = [name for name in tier.backends if name and name not in tier.weights]
        if lacking and (*path, "weights") not in read.keys:
            hint = f"add weights: {{{lacking[0]}: 1, …}}"
            problems.error(read.at(*path, "choose"), path, "`choose: weighted` needs `weights`", hint)
        elif lacking:
            problems.error(read.at(*path, "weights"), (*path, "weights"), f"no weight for '{lacking[0]}'")
    elif tier.weights:
        problems.warn(read.at(*path, "weights"), (*path, "weights"), "has no effect without `choose: weighted`")


def _check_prices(read: Read, problems: Problems, path: tuple[str | int, ...]) -> None:
    document = read.document
    tier = document.policies[str(path[1])].tiers[int(path[3])]
    prices = [document.backends[name].price for name in tier.backends if name in document.backends]
    currencies = sorted({price.currency or document.currency for price in prices if price is not None})
    if len(currencies) > 1:
        message = f"prices in {' and '.join(currencies)} cannot be compared"
        problems.error(read.at(*path, "choose"), (*path, "choose"), message, "give them in one currency")


def check_coverage(read: Read, problems: Problems) -> None:
    """Each model can go somewhere, and nothing lies idle. Only for documents without other errors."""
    document = read.document
    used: set[str] = set()
    for model in document.models:
        policy = policy_of(read, model)
        used.add(policy)
        if not any(model in document.backends[name].serves for name in _named(document.policies[policy])):
            path = ("models", model)
            hint = "add it to `serves` of one, or give the model another policy"
            problems.error(read.at(*path), path, f"no backend of policy '{policy}' serves this model", hint)
    tiers = {name for policy in document.policies.values() for name in _named(policy)}
    for backend in document.backends:
        if backend not in tiers:
            problems.warn(
                read.at("backends", backend), ("backends", backend), "no tier of any policy uses this backend"
            )
    for policy in document.policies:
        if policy not in used:
            problems.warn(read.at("policies", policy), ("policies", policy), "no model uses this policy")


def _named(policy: PolicyWord) -> Iterable[str]:
    return (backend for tier in policy.tiers for backend in tier.backends)


def check_hedges(read: Read, problems: Problems) -> None:
    """A hedge needs somebody to ask, a second attempt, and time in which it may help."""
    for name, policy in read.document.policies.items():
        hedge = policy.hedge
        if hedge is None:
            continue
        path = ("policies", name, "hedge")
        if policy.retry.attempts < 2:
            problems.warn(read.at(*path), path, "has no effect: `retry.attempts` allows one attempt only")
        elif len(set(_named(policy))) < 2:
            problems.warn(read.at(*path), path, "has no effect: there is no second backend to ask")
        elif hedge.after is not None and hedge.after >= policy.first_token_timeout:
            problems.warn(read.at(*path), path, "has no effect: `first_token_timeout` ends the first attempt before")


def check_caches(read: Read, problems: Problems) -> None:
    """What may be kept must fit into what there is room for."""
    for name, policy in read.document.policies.items():
        if policy.cache is not None and policy.cache.max_entry > policy.cache.max_bytes:
            path = ("policies", name, "cache", "max_entry")
            problems.warn(read.at(*path), path, "has no effect: `max_bytes` is less")


def accounts(read: Read, problems: Problems) -> dict[str, Limits]:
    """Every account with its limits. Backends of one account may not declare different ones."""
    declared: dict[str, tuple[str, LimitsWord]] = {}
    found: dict[str, Limits] = {}
    for backend, word in read.document.backends.items():
        account = word.account or backend
        found.setdefault(account, Limits())
        if word.limits is None or word.limits == LimitsWord():
            continue
        if account not in declared:
            declared[account] = (backend, word.limits)
            found[account] = limits(word.limits)
        elif declared[account][1] != word.limits:
            first = read.at("backends", declared[account][0], "limits")
            path = ("backends", backend, "limits")
            message = f"account '{account}' has other limits in line {first.line} (backend '{declared[account][0]}')"
            problems.error(read.at(*path), path, message, "declare the limits of an account once")
    return found


def learn_of(read: Read, account: str) -> Learn:
    """What may be learnt of an account: of what its backends say the most careful word that is not the default."""
    said = {word.learn for name, word in read.document.backends.items() if (word.account or name) == account}
    return "off" if "off" in said else "beyond" if "beyond" in said else "within"


def limits(word: LimitsWord) -> Limits:
    return Limits(word.streams, word.rpm, word.tpm, word.rps, word.tps, word.ramp)


def _unknown(
    read: Read, problems: Problems, what: str, name: str, names: Iterable[str], path: tuple[str | int, ...]
) -> None:
    shown = read.texts[path].written if path in read.texts else name
    problems.error(read.value_at(*path), path, f"unknown {what} '{shown[:80]}'", nearest(name, names))
