"""Numbers that a refusal carries: how long to stay away, and what the limit is.

Waits are seconds between 0 and a day, whatever the cloud claims (one was seen to ask for three weeks). Wall-clock
ends need `wall`, the time of day in unix seconds, as an argument; without it the answer's own Date header serves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

DAY: Final = 86400.0
_NO_CLOCK = {"minute": 60.0, "beijing-midnight": 3600.0}

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY, "秒": 1.0, "分": 60.0, "小": 3600.0}
_PART = r"[0-9]{1,9}(?:\.[0-9]{1,6})?\s*(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)\b"
_PIECE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|mill|[smhd秒分小])?[a-z]*", re.IGNORECASE)
_COMPOUND = re.compile(r"\s*(?:[0-9]{1,9}(?:\.[0-9]{1,6})?\s*(?:ms|[smhd])\s*){1,5}", re.IGNORECASE)
_AGAIN = re.compile(
    rf"(?:again|retry|wait)\s+(?:(?:after|in|for)\s+)?((?:[0-9]+[hm])*{_PART})|([0-9]{{1,9}}\s*(?:秒|分钟|小时))\s*(?:后|之后)",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]+([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.[0-9]+)?"
    r"\s*(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
)
_RESETS = re.compile(r"(?i)reset|refresh|重置|恢复|刷新")
_NUMBER = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)")

_COUNT = r"[:=]?\s*([0-9][0-9,]{0,14})"
_LIMITS = {
    "concurrency": re.compile(rf"(?i)concurrency(?:\s+limit)?(?:\s+(?:of|is))?\s*{_COUNT}"),
    "rpm": re.compile(
        rf"(?i)([0-9][0-9,]{{0,14}})\s+times\s+per\s+minute|max\s+rpm{_COUNT}|\(?rpm\)?:?\s+limit:?\s*{_COUNT}"
    ),
    "tpm": re.compile(rf"(?i)max\s+tpm{_COUNT}|\(?tpm\)?:?\s+limit:?\s*{_COUNT}"),
}
_LAST = {"concurrency"}
"""Kinds whose text may name the present use before the limit: there the last number is the limit."""


def number(text: str | None) -> float | None:
    """The number a header value starts with (not negative), or None."""
    match = _NUMBER.match(text) if text else None
    return float(match[1]) if match else None


def duration(text: str | None) -> float | None:
    """Seconds in a header such as `1s`, `6m0s`, `20ms` or a bare number of seconds; None for anything else."""
    if text and _COMPOUND.fullmatch(text):
        return _seconds(text)
    return number(text)


def _seconds(text: str) -> float:
    total = 0.0
    for amount, unit in _PIECE.findall(text):
        name = unit.lower()
        total += float(amount) * _UNITS["ms" if name == "mill" else name or "s"]
    return total


def wait(headers: Mapping[str, str], message: str, wall: float | None) -> float | None:
    """How long the cloud asks us to stay away: by header, then by text. `headers` has lower-case names."""
    found = number(headers.get("retry-after-ms"))
    if found is not None:
        return clamp(found / 1000.0)
    now = wall if wall is not None else _moment(headers.get("date"))
    found = _retry_after(headers.get("retry-after"), now)
    if found is None:
        found = _in_words(message, now)
    return None if found is None else clamp(found)


def clamp(seconds: float) -> float:
    return min(max(seconds, 0.0), DAY)


def _retry_after(value: str | None, now: float | None) -> float | None:
    seconds = number(value)
    if seconds is not None:
        return seconds
    moment = _moment(value)
    return None if moment is None or now is None else moment - now


def _moment(value: str | None) -> float | None:
    """An HTTP date in unix seconds."""
    if not value or len(value) > 64:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _in_words(message: str, now: float | None) -> float | None:
    if match := _AGAIN.search(message):
        return _seconds(match[1] or match[2])
    if now is None or not _RESETS.search(message):
        return None
    match = _MOMENT.search(message)
    if match is None:
        return None
    day, clock, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{_zone(zone)}")
    except ValueError:
        return None
    return moment.timestamp() - now


def _zone(text: str | None) -> str:
    """The offset of a written time; Chinese clouds that name none mean Beijing."""
    if text is None:
        return "+08:00"
    return text if text[0] in "+-" else "+00:00"


def limit(kind: str, message: str) -> float | None:
    """The limit that the text names, in the unit of its kind; None when it names none of that kind."""
    pattern = _LIMITS.get(kind)
    if pattern is None:
        return None
    found = ["".join(match.groups(default="")) for match in pattern.finditer(message)]
    if not found:
        return None
    return float(found[-1 if kind in _LAST else 0].replace(",", ""))


def until(end: str, wall: float | None) -> float:
    """Seconds to the end of the minute or to midnight in Beijing; a minute or an hour when no clock was given."""
    if wall is None:
        return _NO_CLOCK[end]
    if end == "minute":
        return 60.0 - wall % 60.0
    return DAY - (wall + 8 * 3600.0) % DAY
