"""How the gateway shows itself to clouds: addresses, keys, headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.policy.compiled import Connection, PresetInfo
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
        preset = presets.get(word.preset)
        if word.preset and preset is None:
            place = read.value_at(*path, "preset")
            written = read.texts[*path, "preset"].written
            problems.error(place, (*path, "preset"), f"unknown preset '{written}'", nearest(word.preset, presets))
        base_url = _base_url(read, path, word, preset, problems)
        _check_key(read, path, word, preset, problems)
        _check_headers(read, path, word, problems)
        found[name] = Connection(word.preset, base_url, word.key, dict(word.headers))
    return found


def _base_url(read: Read, path: Path, word: BackendWord, preset: PresetInfo | None, problems: Problems) -> str:
    if not word.base_url:
        if preset is not None and not preset.base_url and (*path, "base_url") not in read.keys:
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
