"""What is known of each cloud: where it is, how to knock, how it refuses. Data beside this file, not code.

A preset is a YAML file of two documents: the cloud's facts, and its refusal rows (`wire.refusals` says how they are
used). `common.yaml` holds the rows that every cloud shares. The vocabulary is closed: an unknown key or value
raises `PresetError`, which the tests make sure no shipped file does. Everything here is as public documentation says;
nothing was tried against a live cloud. `checked` tells when a file was last compared with the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from gateway.core.ladder import EFFORTS
from gateway.errors import SpillgateError
from gateway.policy.compiled import PresetInfo
from gateway.wire.dialect import Dialect, Rule, SignalKind
from gateway.wire.rateheaders import MEANINGS

_HERE: Final = Path(__file__).parent
_COMMON: Final = "common"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_HEAD_KEYS: Final = frozenset(
    {
        "title", "base_url", "docs", "key_env", "auth", "provider", "models",
        "chat_path", "rate_headers", "ask_usage", "failed_finishes", "like", "user_field", "driver", "providers",
        "price_prefix", "thinking_off", "efforts",
    }
)  # fmt: skip
_ROW_KEYS: Final = frozenset({"kind", "status", "codes", "text", "cool", "until", "report_as"})
_KINDS: Final = frozenset(get_args(SignalKind))
_USER_FIELDS: Final = frozenset({"", "user_id"})
_PACKAGES: Final = {"litellm": "install it: make litellm, or pip install 'spillgate[litellm]'"}
"""drivers that need a package of their own, and how to come by it"""
_EFFORTS: Final = frozenset(EFFORTS)
_UNTIL: Final = frozenset({"", "minute", "beijing-midnight"})


class PresetError(SpillgateError):
    """A preset file says something that this gateway does not understand."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One cloud, ready to be called. `provider` is its name in telemetry; `models` are ids seen there, for humans."""

    name: str
    title: str
    base_url: str | None
    key_env: str
    auth_header: str
    auth_scheme: str
    provider: str
    dialect: Dialect
    models: tuple[str, ...]
    note: str
    checked: str
    chat_path: str = "/chat/completions"


@cache
def names() -> tuple[str, ...]:
    """Every preset, in alphabetical order."""
    return tuple(sorted(path.stem for path in _HERE.glob("*.yaml") if path.stem != _COMMON))


@cache
def infos() -> Mapping[str, PresetInfo]:
    """What checking a document needs of every preset. Reads the first document of each file only."""
    return {name: _info(name, _head(name)) for name in names()}


@cache
def usable() -> Mapping[str, PresetInfo]:
    """The same, knowing which drivers are installed here. Looks for their packages without importing them."""
    return {
        name: replace(info, lacks=_PACKAGES[info.driver])
        if info.driver in _PACKAGES and not _found(info.driver)
        else info
        for name, info in infos().items()
    }


def _found(package: str) -> bool:
    return find_spec(package) is not None


@cache
def load(name: str) -> Preset:
    """Read one preset and the shared rows. Raises `LookupError` when there is no such preset."""
    head, rules = _file(name)
    closed(head, _HEAD_KEYS, name)
    like = head.get("like")
    auth, docs = head["auth"], head["docs"]
    dialect = Dialect(
        name=name,
        rules=_file(like)[1] + rules if like else rules,
        rate_headers={word(meaning, MEANINGS, name): text for meaning, text in head.get("rate_headers", {}).items()},
        failed_finishes=frozenset(head["failed_finishes"])
        if "failed_finishes" in head
        else Dialect(name).failed_finishes,
        ask_usage=bool(head.get("ask_usage", True)),
        tell_user=word(head.get("user_field", ""), _USER_FIELDS, name) == "user_id",
        thinking_off=head.get("thinking_off", {}),
        efforts=frozenset(word(effort, _EFFORTS, name) for effort in head.get("efforts", ())),
        fallback=_common(),
    )
    return Preset(
        name=name,
        title=head["title"],
        base_url=head["base_url"],
        key_env=head["key_env"],
        auth_header=auth["header"],
        auth_scheme=auth["scheme"],
        provider=head["provider"],
        dialect=dialect,
        models=tuple(head["models"]),
        note=docs["note"],
        checked=docs["checked"],
        chat_path=head.get("chat_path", "/chat/completions"),
    )


def _text(name: str) -> str:
    if name not in names():
        raise LookupError(f"there is no preset {name!r}")
    return (_HERE / f"{name}.yaml").read_text(encoding="utf-8")


def _head(name: str) -> dict[str, Any]:
    """The first document alone: the parser stops before the rows."""
    head: dict[str, Any] = next(iter(yaml.load_all(_text(name), _LOADER)))
    return head


def _info(name: str, head: Mapping[str, Any]) -> PresetInfo:
    return PresetInfo(
        name,
        head["base_url"],
        {model: model for model in head["models"]},
        head["key_env"],
        head.get("driver", "http"),
        frozenset(head.get("providers", ())),
        price_prefix=head.get("price_prefix", ""),
    )


@cache
def _file(name: str) -> tuple[dict[str, Any], tuple[Rule, ...]]:
    head, rows = yaml.load_all(_text(name), _LOADER)
    return head, tuple(rule(row, name) for row in rows)


@cache
def _common() -> tuple[Rule, ...]:
    (rows,) = yaml.load_all((_HERE / f"{_COMMON}.yaml").read_text(encoding="utf-8"), _LOADER)
    return tuple(rule(row, _COMMON) for row in rows)


def rule(row: Mapping[str, Any], where: str) -> Rule:
    """One row. Raises `PresetError` on an unknown key, kind or end."""
    closed(row, _ROW_KEYS, where)
    status = row.get("status", ())
    cool = row.get("cool")
    return Rule(
        kind=word(row.get("kind"), _KINDS, where),
        status=(status,) if isinstance(status, int) else tuple(status),
        codes=tuple(str(code).lower() for code in row.get("codes", ())),
        text=tuple(str(text).lower() for text in row.get("text", ())),
        cool=None if cool is None else float(cool),
        until=word(row.get("until", ""), _UNTIL, where),
        report_as=row.get("report_as", ""),
    )


def closed(given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Raise `PresetError` when a mapping has a key that is not in the vocabulary."""
    if unknown := sorted(set(given) - known):
        raise PresetError(
            f"{where}.yaml: unknown {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}"
        )


def word(value: Any, known: frozenset[str], where: str) -> Any:
    """The same for a value."""
    if value not in known:
        raise PresetError(f"{where}.yaml: {value!r} is not one of {', '.join(sorted(known))}")
    return value
