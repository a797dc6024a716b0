"""How the gateway shows itself to clouds: addresses, keys, headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.policy.compiled import Connection, PresetInfo, TelemetryRules
from gateway.policy.diagnose import Path, Problems, nearest
from gateway.policy.schema import BackendWord
from gateway.policy.walk import Read

_TOKEN = re.compile(r"[A-Za-z0-9-]+")
_OURS = frozenset({"authorization", "content-type", "content-length", "host", "transfer-encoding", "connection"})


def connections(read: Read, presets: Mapping[str, PresetInfo], problems: Problems) -> dict[str, Connection]:
    """How to reach every backend."""
    found = {}
    for name, word in read.document.backends.items():
        path = ("backends", name)
        preset = _preset(read, path, word, presets, problems)
        if preset is not None and preset.driver != "http":
            _check_provider(read, path, word, preset, problems)
        base_url = _base_url(read, path, word, preset, problems)
        _check_key(read, path, word, preset, problems)
        _check_headers(read, path, word, problems)
        chosen = preset.name if preset else word.preset
        is_own = preset is not None and preset.driver == "http" and not preset.base_url
        traced = word.trace_context == "send" or (word.trace_context == "auto" and is_own)
        found[name] = Connection(chosen, base_url, word.key, dict(word.headers), word.driver, traced)
    return found


def _preset(
    read: Read, path: Path, word: BackendWord, presets: Mapping[str, PresetInfo], problems: Problems
) -> PresetInfo | None:
    """What is known of this kind of backend: its preset, or its driver where that is not http."""
    where = (*path, "preset")
    if word.driver != "http":
        if where in read.keys:
            hint = f"leave it out; driver '{word.driver}' finds the cloud by what `serves` says"
            problems.error(read.value_at(*where), where, "a preset is for driver 'http'", hint)
        return next((preset for preset in presets.values() if preset.driver == word.driver), None)
    known = {name: preset for name, preset in presets.items() if preset.driver == "http"}
    if word.preset and word.preset not in known:
        driver = presets[word.preset].driver if word.preset in presets else ""
        hint = f"expected driver: {driver}" if driver else nearest(word.preset, known)
        problems.error(read.value_at(*where), where, f"unknown preset '{read.texts[where].written}'", hint)
    elif where not in read.keys and (said := read.texts.get((*path, "driver"))) and said.value == "http":
        problems.error(
            read.at(*path), path, "'preset' is missing", "driver 'http' wants to know what kind of cloud it is"
        )
    return known.get(word.preset)


def telemetry(read: Read, problems: Problems) -> TelemetryRules:
    """What is told of requests, and to whom."""
    word = read.document.telemetry
    wrong = _wrong_with(word.endpoint) if word.endpoint else ""
    if wrong:
        where = ("telemetry", "endpoint")
        problems.error(read.value_at(*where), where, wrong, "expected an address such as http://127.0.0.1:4318")
    return TelemetryRules(
        word.endpoint.rstrip("/"), word.sample, word.slow, word.most, word.recent, word.requests == "all"
    )


def _check_provider(read: Read, path: Path, word: BackendWord, driver: PresetInfo, problems: Problems) -> None:
    """The driver is installed, and knows the clouds that the model ids begin with."""
    if driver.lacks:
        where = (*path, "driver")
        problems.error(read.value_at(*where), where, f"'{driver.name}' is not installed here", driver.lacks)
    for model, id_ in word.serves.items():
        where = (*path, "serves", model)
        provider, slash, rest = id_.partition("/")
        if not slash or not rest:
            problems.error(
                read.value_at(*where), where, "names no provider", "expected PROVIDER/ID, as litellm spells it"
            )
        elif provider not in driver.providers:
            written = read.texts[where].written.partition("/")[0]
            hint = nearest(provider, driver.providers)
            problems.error(read.value_at(*where), where, f"unknown provider '{written[:80]}'", hint)


def _base_url(read: Read, path: Path, word: BackendWord, preset: PresetInfo | None, problems: Problems) -> str:
    if not word.base_url:
        is_own = preset is not None and preset.driver == "http" and not preset.base_url
        if preset is not None and is_own and (*path, "base_url") not in read.keys:
            hint = "expected base_url: http://HOST:PORT/v1"
            problems.error(read.at(*path), path, f"'base_url' is missing; preset '{preset.name}' has none", hint)
        return (preset.base_url or "") if preset else ""
    wrong = _wrong_with(word.base_url)
    if wrong:
        where = (*path, "base_url")
        problems.error(read.value_at(*where), where, wrong, "expected an address such as http://10.0.0.5:8000/v1")
    return word.base_url.rstrip("/")


def _wrong_with(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_given = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in {"http", "https"}:
        return "is not an http or https URL"
    if not parts.hostname or not port_given or any(sign.isspace() for sign in url):
        return "is not a URL"
    if parts.username is not None or parts.password is not None:
        return "has a user or password in it; use `key` or `headers`"
    if parts.query or parts.fragment:
        return "has a query or fragment in it"
    return "is the address of one route; leave /chat/completions out" if url.endswith("/chat/completions") else ""


def _check_key(read: Read, path: Path, word: BackendWord, preset: PresetInfo | None, problems: Problems) -> None:
    where = (*path, "key")
    if where not in read.keys:
        if preset is not None and preset.base_url:
            variable = preset.key_env or preset.name.upper().replace("-", "_") + "_API_KEY"
            problems.error(
                read.at(*path), path, f"'key' is missing; '{preset.name}' wants one", f"key: ${{{variable}}}"
            )
    elif word.key and (not word.key.isascii() or any(sign.isspace() for sign in word.key)):
        problems.error(read.value_at(*where), where, "cannot be a key", "expected ASCII without spaces")
    elif word.key and not read.texts[where].referenced:
        problems.warn(read.value_at(*where), where, "the key is written in the document", "better: key: ${NAME}")


def _check_headers(read: Read, path: Path, word: BackendWord, problems: Problems) -> None:
    for header, value in word.headers.items():
        where = (*path, "headers", header)
        if not _TOKEN.fullmatch(header):
            problems.error(read.at(*where), where, f"'{header}' cannot be a header", "expected letters, digits and -")
        elif header.lower() in _OURS:
            hint = "for authentication use `key`" if header.lower() == "authorization" else "leave it out"
            problems.error(read.at(*where), where, f"the gateway sets '{header}' itself", hint)
        elif not value.isascii():
            problems.error(read.value_at(*where), where, "cannot be sent in a header", "expected ASCII text")
