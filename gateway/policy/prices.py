"""What things cost: prices the document gives, by the hour, and, where it gives none, those of a public list."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date

from gateway.core.nouns import Price
from gateway.core.tariff import DAY, Hours, Tariff, Tariffs
from gateway.policy.budgets import EAST, spenders
from gateway.policy.compiled import PresetInfo, UsageRules
from gateway.policy.diagnose import Path, Problems
from gateway.policy.schema import TierWord
from gateway.policy.schema_money import HoursWord, PriceWord
from gateway.policy.walk import Read

PriceList = Callable[[str, str], Tariff | None]
"""Looks a price up by a preset's `price_prefix` and the cloud's model id."""

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(24:00|([01][0-9]|2[0-3]):([0-5][0-9]))")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def unlisted(prefix: str, model: str) -> Tariff | None:
    """The list in which nothing has a price."""
    del prefix, model
    return None


def usage(read: Read, problems: Problems) -> UsageRules | None:
    """Where records of usage go, if anywhere."""
    word = read.document.usage
    if word is None:
        return None
    if not word.file and not word.stream:
        hint = "expected usage: {file: /var/log/spillgate/usage.jsonl}, or a number for `stream`"
        problems.error(read.at("usage"), ("usage",), "names no place for the records", hint)
    return UsageRules(word.file, word.stream)


def declared(read: Read, problems: Problems) -> dict[str, dict[str, Tariff]]:
    """The tariffs that the document gives, the same for every model of a backend."""
    found = {}
    for name, word in read.document.backends.items():
        if word.price is not None:
            tariff = _tariff(read, ("backends", name, "price"), word.price, problems)
            found[name] = dict.fromkeys(word.serves.values(), tariff)
    return found


def _tariff(read: Read, path: Path, word: PriceWord, problems: Problems) -> Tariff:
    currency = word.currency or read.document.currency
    hours = tuple(
        _hours(read, (*path, "hours", index), other, currency, problems) for index, other in enumerate(word.hours)
    )
    return Tariff(Price(word.input, word.output, word.cached_input, currency), hours, EAST[word.zone])


def _hours(read: Read, path: Path, word: HoursWord, currency: str, problems: Problems) -> Hours:
    spans = [_span(read, (*path, "at", index), text, problems) for index, text in enumerate(word.at)]
    dates = [_date(read, (*path, "not_on", index), text, problems) for index, text in enumerate(word.not_on)]
    return Hours(
        Price(word.input, word.output, word.cached_input, currency),
        tuple(span for span in spans if span is not None),
        frozenset(_DAYS.index(day) for day in word.days if day in _DAYS) or frozenset(range(7)),
        frozenset(day for day in dates if day is not None),
    )


def _span(read: Read, path: Path, text: str, problems: Problems) -> tuple[int, int] | None:
    """Minutes of the day; a span that ends before it begins ends the next day."""
    found = _SPAN.fullmatch(text)
    start = int(found[1]) * 60 + int(found[2]) if found else 0
    end = (DAY if found[3] == "24:00" else int(found[4]) * 60 + int(found[5])) if found else 0
    if start == end:
        if text:
            shown = read.texts[path].written[:40]
            hint = "expected from-to in hours and minutes, such as 09:00-12:00; a whole day is 00:00-24:00"
            problems.error(read.value_at(*path), path, f"'{shown}' is not a span of hours", hint)
        return None
    return start, end if end > start else end + DAY


def _date(read: Read, path: Path, text: str, problems: Problems) -> int | None:
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        if text:
            shown = read.texts[path].written[:40]
            problems.error(read.value_at(*path), path, f"'{shown}' is not a date", "expected one such as 2026-10-01")
        return None


def completed(
    read: Read, presets: Mapping[str, PresetInfo], known: Tariffs, listed: PriceList, problems: Problems
) -> Tariffs:
    """The same, with list prices for backends that have none, where anybody asks what they cost."""
    found = {name: dict(models) for name, models in known.items()}
    tiers = _cheapest(read)
    compared = {name for _, tier in tiers for name in tier.backends}
    everything = read.document.usage is not None or bool(spenders(read))
    for name, word in read.document.backends.items():
        if word.price is not None or not (everything or name in compared):
            continue
        prefix = presets[word.preset].price_prefix
        lookups = {model: listed(prefix, model) if prefix else None for model in word.serves.values()}
        tariffs = {model: tariff for model, tariff in lookups.items() if tariff is not None}
        if tariffs:
            found[name] = tariffs
        for model, tariff in lookups.items():
            _note(read, name, model, tariff, problems)
    for path, tier in tiers:
        _check_tier(read, path, tier, found, problems)
    return found


def _cheapest(read: Read) -> list[tuple[Path, TierWord]]:
    """The tiers in which prices decide."""
    return [
        (("policies", name, "tiers", number, "choose"), tier)
        for name, policy in read.document.policies.items()
        for number, tier in enumerate(policy.tiers)
        if tier.choose == "cheapest"
    ]


def _check_tier(read: Read, path: Path, tier: TierWord, known: Tariffs, problems: Problems) -> None:
    """Every backend of it can be compared. Prices of the document are in one currency, those of a list perhaps not."""
    currencies = {name: {tariff.base.currency for tariff in known.get(name, {}).values()} for name in tier.backends}
    unknown = [name for name, found in currencies.items() if not found]
    if unknown:
        problems.warn(read.at(*path), path, f"backend '{unknown[0]}' has no price and counts as the dearest")
    several = sorted(set().union(*currencies.values()))
    if len(several) > 1:
        message = f"prices in {' and '.join(several)} cannot be compared; the rarer count as the dearest"
        problems.warn(read.at(*path), path, message, "give every backend a `price` in one currency")


def _note(read: Read, backend: str, model: str, tariff: Tariff | None, problems: Problems) -> None:
    path = ("backends", backend)
    if tariff is None:
        message = f"no price is known for '{model}': its cost stays empty"
        problems.note(read.at(*path), path, message, "give it a `price`")
        return
    price = tariff.base
    otherwise = ", at some hours less" if tariff.hours else ""
    shown = f"{price.input:g} in, {price.output:g} out, {price.currency}{otherwise}"
    problems.note(read.at(*path), path, f"'{model}' goes by its list price: {shown}", "give it a `price` of your own")
