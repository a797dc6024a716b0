"""What is wrong with a document, and where: one line per problem, all of them at once.

A good message names the place, says what is wrong, what was expected, and the nearest thing that would be right.
It never shows a value that came out of the environment: those may be secrets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.errors import DocumentError, near_miss

MOST = 100
"""So many problems are told; a document with more is not a near miss."""

_SHORTEST_SECRET = 8
_NAMES_SHOWN = 12


class Place(NamedTuple):
    """A position in a source. Lines and columns count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or doubtful, if it is a warning). `path` is dotted, empty for the document as a whole."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}{hint}"

    def as_dict(self) -> dict[str, str | int]:
        """The same as plain data, for `--json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """`("policies", "surge", "tiers", 0)` as `policies.surge.tiers[0]`."""
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else step
    return shown


def nearest(word: str, names: Iterable[str]) -> str:
    """A hint: the nearest valid name, or all of them when none is near and they are few."""
    known = list(names)
    if near := near_miss(word, known):
        return f"did you mean '{near}'?"
    if not known:
        return "there is none"
    if len(known) <= _NAMES_SHOWN:
        return "expected " + listed(known)
    return ""


def listed(names: Sequence[str]) -> str:
    """`one of a, b or c`."""
    if len(names) == 1:
        return f"'{names[0]}'"
    return "one of " + ", ".join(names[:-1]) + " or " + names[-1]


class Problems:
    """Collects errors and warnings while a document is read. `secrets` maps resolved values to how they are written."""

    __slots__ = ("errors", "notes", "secrets", "warnings")

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []
        self.notes: list[Problem] = []
        self.secrets: dict[str, str] = {}

    def error(self, place: Place, path: Path, message: str, hint: str = "") -> None:
        self.errors.append(Problem(*place, dotted(path), message, hint))

    def warn(self, place: Place, path: Path, message: str, hint: str = "") -> None:
        self.warnings.append(Problem(*place, dotted(path), message, hint))

    def note(self, place: Place, path: Path, message: str, hint: str = "") -> None:
        """Good to know, and nothing to mend."""
        self.notes.append(Problem(*place, dotted(path), message, hint))

    def stop_if_any(self) -> None:
        """Raise `DocumentError` with all errors found so far, sorted by position, if there are any."""
        if not self.errors:
            return
        found = self.told(self.errors)
        if len(found) > MOST:
            last = found[MOST - 1]
            more = f"and {len(found) - MOST} more problems"
            found = (*found[:MOST], replace(last, path="", message=more, hint="mend the first ones and look again"))
        raise DocumentError(found)

    def told(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Sorted, without repetition, and with every secret replaced by its reference."""
        clean = {
            replace(
                problem,
                message=redact(problem.message, self.secrets),
                hint=redact(problem.hint, self.secrets),
            )
            for problem in problems
        }
        return tuple(sorted(clean, key=lambda p: (p.file, p.line, p.column, p.path, p.message)))


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """Belt and braces: messages are written from the source text, this catches a resolved value that slipped in."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, secrets[secret])
    return text


def fail(place: Place, path: Path, message: str, hint: str = "") -> DocumentError:
    """An error that stands alone, because nothing after it can be understood."""
    return DocumentError((Problem(*place, dotted(path), message, hint),))
