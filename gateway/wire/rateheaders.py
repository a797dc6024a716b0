"""Rate-limit headers, where a cloud sends them, as facts for the dispatcher.

Which header means what is data (`Dialect.rate_headers`). Pages about them are few and some are old, so everything
here is optional: what is missing or odd is passed over. A day's counters only count when they have reached
zero, since the dispatcher thinks in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from gateway.core.nouns import Advertised
from gateway.wire.dialect import Dialect
from gateway.wire.hints import DAY, duration, number

MEANINGS: Final = frozenset(
    {
        "limit-requests", "remaining-requests", "reset-requests", "limit-tokens", "remaining-tokens", "reset-tokens",
        "reset", "day-remaining-requests", "day-remaining-model-requests",
    }
)  # fmt: skip
_KINDS: Final[tuple[tuple[Literal["rpm", "tpm"], str], ...]] = (("rpm", "requests"), ("tpm", "tokens"))
_DAYS: Final = ("day-remaining-requests", "day-remaining-model-requests")


def read(dialect: Dialect, headers: Mapping[str, str], account: str) -> tuple[Advertised, ...]:
    """What this answer's headers say of `account`; empty when the cloud sends none. Never raises."""
    names = dialect.rate_headers
    if not names:
        return ()
    lowered = {name.lower(): text for name, text in headers.items()}
    if dialect.rate_names.isdisjoint(lowered):
        return ()
    given = {meaning: lowered.get(name.lower()) for meaning, name in names.items()}
    found: list[Advertised] = []
    for kind, what in _KINDS:
        limit, remaining = number(given.get(f"limit-{what}")), number(given.get(f"remaining-{what}"))
        if limit is not None or remaining is not None:
            found.append(Advertised(account, kind, limit, remaining, _reset(given, what)))
    if any(number(given.get(meaning)) == 0 for meaning in _DAYS):
        found.append(Advertised(account, "rpm", remaining=0.0))
    return tuple(found)


def _reset(given: Mapping[str, str | None], what: str) -> float | None:
    """Seconds until the counter is fresh. More than a day is a date or a mistake: not told."""
    seconds = duration(given.get(f"reset-{what}") or given.get("reset"))
    return seconds if seconds is not None and seconds <= DAY else None
