"""The kinds of values that a word of the document may have: what an editor shows, its bounds, how its text is read."""

from __future__ import annotations

from msgspec import Meta

NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"
"""Names end up in headers, in metric labels and in URLs."""

_YEAR = 366 * 86400.0
_HUGE = 10**12


def text(about: str, *, required: bool = False, secret: bool = False) -> Meta:
    return Meta(description=about, extra={"scalar": "text", "required": required, "secret": secret})


def name(about: str, *, required: bool = False, unless: str = "") -> Meta:
    """`unless` names a word beside it that makes a required one unnecessary."""
    return Meta(description=about, pattern=NAME, extra={"scalar": "text", "required": required, "unless": unless})


def duration(about: str, *, above: float | None = None) -> Meta:
    """`above` None: zero is allowed."""
    extra = {"scalar": "duration"}
    if above is None:
        return Meta(description=about, ge=0, le=_YEAR, extra=extra)
    return Meta(description=about, gt=above, le=_YEAR, extra=extra)


def moment(about: str) -> Meta:
    return Meta(description=about, extra={"scalar": "moment"})


def limit(about: str) -> Meta:
    return Meta(description=about, ge=1, le=_HUGE, extra={"scalar": "count", "limit": True})


def count(about: str, *, least: int, most: int = 1_000_000) -> Meta:
    return Meta(description=about, ge=least, le=most, extra={"scalar": "count"})


def share(about: str) -> Meta:
    return Meta(description=about, ge=0, le=1, extra={"scalar": "float"})


def amount(about: str, *, required: bool = False) -> Meta:
    return Meta(description=about, ge=0, le=_HUGE, extra={"scalar": "float", "required": required})


def positive(about: str, *, required: bool = False) -> Meta:
    return Meta(description=about, gt=0, le=1_000_000, extra={"scalar": "float", "required": required})


def about(words: str, *, required: bool = False) -> Meta:
    """For lists, mappings and parts. One that is required may not be empty either."""
    return Meta(description=words, extra={"required": required})
