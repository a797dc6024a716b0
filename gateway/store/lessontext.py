"""Lessons as `lessons.lua` keeps them: a line of words for a mark, a line of numbers for what a replica uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from urllib.parse import quote, unquote

from gateway.core.latency import SIZES
from gateway.core.lesson import LearntKind, Mark, Use
from gateway.store.base import Report, Telling, Terms, Told

NUMBERS = len(fields(Use)) - 1
"""Numbers of a row, before the floors."""
KINDS: tuple[LearntKind, ...] = ("streams", "tokens", "rpm", "tpm")


def words(report: Report, telling: Telling, terms: Terms, clock: str) -> tuple[str, ...]:
    """The arguments of the script."""
    flags = "".join(
        flag
        for flag, on in (("l", report.leaving), ("w", telling.willing), ("p", telling.probing))
        if on
    )  # fmt: skip
    found = [clock, report.replica, str(report.seq), str(round(terms.ttl * 1000)), flags, _row(telling.use)]
    for kind, mark in telling.marks.items():
        found += [kind, _line(mark)]
    return tuple(found)


def told(answer: Sequence[bytes | str]) -> Told:
    """What the script answered. Raises ValueError for what it cannot have said."""
    prober, *found = (word.decode() if isinstance(word, bytes) else word for word in answer)
    marks: dict[LearntKind, Mark] = {}
    rows: dict[str, Use] = {}
    for name, value in zip(found[::2], found[1::2], strict=True):
        what, _, rest = name.partition(":")
        if what == "stale":
            return Told(stale=True)
        if what == "r":
            rows[rest] = _use(value)
        elif rest in KINDS:
            marks[rest] = _mark(value)
    return Told(marks, prober, rows)


def _row(use: Use) -> str:
    *numbers, _ = astuple(use)
    floors = (f"{quote(backend)}:{size}:{floor}" for backend, size, floor in use.floors)
    return " ".join([*map(str, numbers), *floors])


def _use(row: str) -> Use:
    words = row.split()
    floors = (word.split(":") for word in words[NUMBERS:])
    known = tuple((unquote(backend), int(size), int(floor)) for backend, size, floor in floors if int(size) < SIZES)
    return Use(*map(int, words[:NUMBERS]), floors=known)


def _line(mark: Mark) -> str:
    return (
        f"{mark.cuts} {mark.raises} {mark.limit!r} {_maybe(mark.ceiling)} {_maybe(mark.knee)} {_flags(mark)} {mark.why}"
    )


def _mark(line: str) -> Mark:
    cuts, raises, limit, ceiling, knee, flags, why = line.split(" ", 6)
    said = ("h" in flags, "g" in flags, "m" in flags)
    return Mark(float(limit), int(cuts), int(raises), _number(ceiling), _number(knee), *said, why)


def _flags(mark: Mark) -> str:
    return "".join(flag for flag, on in zip("hgm", (mark.hard, mark.guessed, mark.measured), strict=True) if on) or "-"


def _maybe(number: float | None) -> str:
    return "-" if number is None else repr(number)


def _number(word: str) -> float | None:
    return None if word == "-" else float(word)
