"""What a document says of budgets, and whether everything they pay for has a price that they can count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.core.money import Budget, micros
from gateway.core.tariff import Tariffs
from gateway.policy.compiled import PresetInfo
from gateway.policy.diagnose import Path, Problems
from gateway.policy.schema import BackendWord, TenantWord
from gateway.policy.schema_money import BudgetWord
from gateway.policy.walk import Read

EAST = {"Asia/Shanghai": 480, "UTC": 0}
"""Neither has summer time (China's last was in 1991)."""


def budget(word: BudgetWord | None) -> Budget | None:
    """A budget as the gateway keeps it."""
    if word is None:
        return None
    return Budget(micros(word.amount), word.per, word.warn, word.slice, EAST[word.zone])


def spenders(read: Read) -> list[tuple[str, TenantWord]]:
    """The tenants with a budget, their own or of one of their keys."""
    return [
        (name, word)
        for name, word in read.document.tenants.items()
        if word.budget is not None or any(key.budget is not None for key in word.keys)
    ]


def check(read: Read, presets: Mapping[str, PresetInfo], tariffs: Tariffs, problems: Problems) -> None:
    """Every backend that a tenant with a budget may use has a price, in a currency that has a rate.

    An engine of one's own may do without: it costs nothing. Only for documents without other errors.
    """
    document = read.document
    if document.currency in document.rates:
        path = ("rates", document.currency)
        problems.error(read.at(*path), path, f"'{document.currency}' is the document's own currency", "leave it out")
    told: set[str] = set()
    for tenant, word in spenders(read):
        for name, backend in document.backends.items():
            if name in told or not _may_use(read, word, backend):
                continue
            known = tariffs.get(name, {})
            currencies = {tariff.base.currency for tariff in known.values()} - {document.currency, *document.rates}
            if currencies:
                told.add(name)
                _no_rate(read, tenant, name, min(currencies), problems)
            elif not _is_own(backend, presets) and any(id_ not in known for id_ in backend.serves.values()):
                told.add(name)
                message = (
                    f"tenant '{tenant}' has a budget, and this backend has no price: what it serves counts as free"
                )
                problems.warn(read.at("backends", name), ("backends", name), message, "give it a `price`")


def _may_use(read: Read, tenant: TenantWord, backend: BackendWord) -> bool:
    models = read.document.models
    if not tenant.models:
        return True
    allowed: Iterable[str] = (m for m in models if m in tenant.models or set(models[m].aliases) & set(tenant.models))
    return any(model in backend.serves for model in allowed)


def _is_own(backend: BackendWord, presets: Mapping[str, PresetInfo]) -> bool:
    """No cloud: an engine whose address the document must give."""
    preset = presets.get(backend.preset)
    return backend.driver == "http" and preset is not None and not preset.base_url


def _no_rate(read: Read, tenant: str, backend: str, currency: str, problems: Problems) -> None:
    path: Path = ("backends", backend)
    if read.document.backends[backend].price is not None:
        path = (*path, "price")
    own = read.document.currency
    message = f"its price is in {currency}, and the budget of tenant '{tenant}' in {own}"
    problems.error(read.at(*path), path, message, f"say what one {currency} is worth: rates: {{{currency}: 7.1}}")
