"""Who may ask: the document's tenants, and the same words said at run time, as the values the gateway runs on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from gateway.core.caps import Allowance, Caps
from gateway.policy import keys
from gateway.policy.allowing import AllowanceWord, CapsWord
from gateway.policy.budgets import budget
from gateway.policy.compiled import Key, Tenant
from gateway.policy.diagnose import Path, Problems, nearest
from gateway.policy.schema import KeyWord, TenantWord
from gateway.policy.walk import Read

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_SHORTEST_KEY = 8


def tenants(read: Read, problems: Problems) -> tuple[Tenant, ...]:
    """All tenants of a document, their keys as digests. No key may belong to two."""
    models = read.document.models
    names = {alias: model for model in models for alias in (*models[model].aliases, model)}
    owners: dict[bytes, Path] = {}
    found = []
    for name, word in read.document.tenants.items():
        mine = [
            key
            for index, said in enumerate(word.keys)
            if (key := _key(read, ("tenants", name, "keys", index), said, owners, problems, names)) is not None
        ]
        _check_per_model(read, ("tenants", name), word.limits, names, problems)
        for index, model in enumerate(word.models):
            if model and model not in names:
                path = ("tenants", name, "models", index)
                problems.error(read.at(*path), path, f"unknown model '{model}'", nearest(model, names))
        found.append(tenant(name, word, tuple(mine), names))
    return tuple(found)


def tenant(name: str, word: TenantWord, keys_: tuple[Key, ...], names: Mapping[str, str]) -> Tenant:
    """One tenant. `names` leads from every name a model has to its own; models that are not there are passed over."""
    models = frozenset(names[model] for model in word.models if model in names) if word.models else None
    return Tenant(
        name=name,
        class_=word.class_,
        weight=word.weight,
        limits=allowance(word.limits, names),
        keys=keys_,
        models=models,
        user_id=word.user_id or user_id(name),
        active=word.status == "active",
        budget=budget(word.budget),
    )


def user_id(name: str) -> str:
    """What clouds are told of a tenant whose document says nothing: the same everywhere and always, not his name.

    Names are few, so a cloud that guesses one can check its guess; `user_id` in the document leaves nothing to guess.
    """
    return "sg-" + hashlib.sha256(b"spillgate user_id\0" + name.encode()).hexdigest()[:32]


def allowance(word: AllowanceWord | None, names: Mapping[str, str]) -> Allowance:
    """Limits as the gateway runs on them; models that are not there are passed over."""
    if word is None:
        return Allowance()
    per_model = {names[model]: _caps(caps) for model, caps in word.per_model.items() if model in names}
    return Allowance(_caps(word), per_model)


def _caps(word: CapsWord) -> Caps:
    return Caps(word.streams, word.rps, word.rpm, word.tpm, word.tpm_in, word.tpm_out)


def _check_per_model(
    read: Read, path: Path, word: AllowanceWord | None, names: Mapping[str, str], problems: Problems
) -> None:
    seen: dict[str, str] = {}
    for model in word.per_model if word is not None else ():
        where = (*path, "limits", "per_model", model)
        if model not in names:
            problems.error(read.at(*where), where, f"unknown model '{model}'", nearest(model, names))
        elif names[model] in seen:
            message = f"'{model}' and '{seen[names[model]]}' are the same model"
            problems.error(read.at(*where), where, message, "name it once")
        else:
            seen[names[model]] = model


def _key(
    read: Read, path: Path, word: KeyWord, owners: dict[bytes, Path], problems: Problems, names: Mapping[str, str]
) -> Key | None:
    _check_per_model(read, path, word.limits, names, problems)
    where = path if path in read.texts else (*path, "key")
    digest = _digest(read, where, word.key, problems)
    if digest is None:
        return None
    if digest in owners:
        first = owners[digest]
        whose = "this tenant" if first[1] == path[1] else f"tenant '{first[1]}'"
        hint = f"see line {read.at(*first).line}; a key tells who asks"
        problems.error(read.at(*where), where, f"{whose} has the same key", hint)
        return None
    owners[digest] = where
    return Key(keys.key_id(digest), digest, word.name, word.expires, budget(word.budget), allowance(word.limits, names))


def _digest(read: Read, path: Path, key: str, problems: Problems) -> bytes | None:
    text = read.texts.get(path)
    if text is None or not key:
        return None
    if key.startswith("sha256:"):
        found = _DIGEST.fullmatch(key)
        if found is None:
            problems.error(read.at(*path), path, "not a SHA-256 digest", "expected sha256: and 64 hexadecimal digits")
            return None
        return bytes.fromhex(found[1])
    if not text.referenced or text.defaulted:
        hint = "write sha256:DIGEST, from: printf %s KEY | sha256sum; or a reference: ${NAME}"
        problems.error(read.at(*path), path, "a key may not stand in the document", hint)
        return None
    if len(key) < _SHORTEST_KEY or not key.isascii() or any(sign.isspace() for sign in key):
        hint = f"expected at least {_SHORTEST_KEY} ASCII characters without spaces"
        problems.error(read.at(*path), path, f"{text.written} does not hold a usable key", hint)
        return None
    return keys.digest(key)
