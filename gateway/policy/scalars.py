"""Words for amounts: durations, sizes, counts. Each function takes text and returns the value or None.

`EXPECTED` says what each kind looks like, for messages; `PATTERN` says the same to editors, for the JSON Schema.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
COUNT_UNITS = {"": 1, "k": 10**3, "M": 10**6}

_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_DECIMAL = rf"{_DIGITS}(?:\.[0-9]+)?"
_DURATION = re.compile(rf"({_DECIMAL})(ms|s|m|h|d)")
_SIZE = re.compile(rf"({_DECIMAL})(B|kB|MB|GB|KiB|MiB|GiB)")
_COUNT = re.compile(rf"({_DECIMAL})([kM]?)")
_NUMBER = re.compile(rf"[-+]?{_DECIMAL}(?:[eE][-+]?[0-9]{{1,2}})?")
_INTEGER = re.compile(rf"[-+]?{_DIGITS}")
_MOMENT = re.compile(
    r"2[01][0-9]{2}-[01][0-9]-[0-3][0-9]"
    r"(?:[Tt ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:[Zz]|[-+][0-2][0-9]:[0-5][0-9]))?"
)
_LONGEST = 40

EXPECTED = {
    "duration": "expected a duration such as 500ms, 20s, 10m or 1h",
    "size": "expected a size such as 16MiB or 1MB",
    "count": "expected a whole number such as 600, 15k or 1.2M",
    "float": "expected a number",
    "moment": "expected a date such as 2027-01-31, or a time such as 2027-01-31T08:00:00+08:00",
}

PATTERN = {
    "duration": rf"^{_DURATION.pattern}$",
    "size": rf"^{_SIZE.pattern}$",
    "count": rf"^{_COUNT.pattern}$",
    "float": rf"^{_NUMBER.pattern}$",
    "moment": rf"^{_MOMENT.pattern}$",
    "reference": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
}


def duration(text: str) -> float | None:
    """Seconds. A bare number is not a duration: nobody knows its unit. Only 0 needs none."""
    if text == "0":
        return 0.0
    found = _DURATION.fullmatch(text) if len(text) <= _LONGEST else None
    return float(found[1]) * DURATION_UNITS[found[2]] if found else None


def size(text: str) -> int | None:
    """Bytes. A bare whole number is bytes too."""
    if (plain := integer(text)) is not None:
        return plain
    found = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    return round(float(found[1]) * SIZE_UNITS[found[2]]) if found else None


def count(text: str) -> int | None:
    """A whole number, perhaps with `_`, `k` (thousand) or `M` (million)."""
    if (plain := integer(text)) is not None:
        return plain
    found = _COUNT.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    value = float(found[1]) * COUNT_UNITS[found[2]]
    return round(value) if abs(value - round(value)) < 1e-6 else None


def integer(text: str) -> int | None:
    return int(text) if len(text) <= _LONGEST and _INTEGER.fullmatch(text) else None


def number(text: str) -> float | None:
    return float(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else None


def moment(text: str) -> float | None:
    """Unix seconds of a time in RFC 3339. A date alone is its first moment in UTC; a time needs its offset."""
    if len(text) > _LONGEST or not _MOMENT.fullmatch(text):
        return None
    try:
        when = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def written(moment: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
