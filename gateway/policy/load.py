"""The way in: a file, a folder of files, or a text becomes a `Compiled`, or one `DocumentError` with every problem.

A folder's files are read in the order of their names and merged: each may add to `models`, `backends` and so on, none
may say again what another has said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from gateway.errors import DocumentError
from gateway.policy import tree
from gateway.policy.compile import compiled
from gateway.policy.compiled import Compiled, PresetInfo
from gateway.policy.diagnose import Place, Problems, fail
from gateway.policy.prices import PriceList, unlisted
from gateway.policy.walk import read

__all__ = ["DocumentError", "PresetInfo", "PriceList", "load", "load_text", "sources"]

MOST_BYTES = 2**20
MOST_FILES = 200
_SUFFIXES = frozenset({".yaml", ".yml"})


def load(
    source: Path, env: Mapping[str, str], presets: Mapping[str, PresetInfo], listed: PriceList = unlisted
) -> Compiled:
    """Read and compile a file or a folder. Raises `DocumentError`, also when there is nothing to read.

    `listed` is asked for the price of what the document needs a price of and gives none.
    """
    place = Place(str(source), 1, 1)
    try:
        if not source.exists():
            raise fail(place, (), "there is no such file or folder")
        files = sources(source)
        if not files:
            raise fail(place, (), "the folder holds no document", "expected files named *.yaml or *.yml")
        if len(files) > MOST_FILES:
            raise fail(place, (), f"{len(files)} files", f"at most {MOST_FILES} are allowed")
        texts = [(str(file), _text(file)) for file in files]
    except OSError as error:
        raise fail(place, (), f"cannot be read: {error.strerror}") from None
    return _compile(texts, env, presets, listed)


def load_text(
    text: str,
    env: Mapping[str, str],
    presets: Mapping[str, PresetInfo],
    name: str = "<inline>",
    listed: PriceList = unlisted,
) -> Compiled:
    """Compile a document that is at hand as text; `name` stands for the file in messages."""
    if len(text) > MOST_BYTES:
        raise _too_large(name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[: error.start]
        line, column = before.count("\n") + 1, error.start - before.rfind("\n")
        raise fail(Place(name, line, column), (), "not UTF-8") from None
    return _compile([(name, text)], env, presets, listed)


def sources(source: Path) -> tuple[Path, ...]:
    """The files that `load` would read now, in their order; a watcher looks at these. Empty when there are none."""
    if not source.is_dir():
        return (source,)
    found = [path for path in source.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")]
    return tuple(sorted(path for path in found if not path.is_dir()))


def _text(file: Path) -> str:
    name = str(file)
    if not file.is_file():
        raise fail(Place(name, 1, 1), (), "is not a file")
    with file.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise _too_large(name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise fail(Place(name, line, column), (), "not UTF-8", "save the file with UTF-8 encoding") from None


def _too_large(name: str) -> DocumentError:
    return fail(Place(name, 1, 1), (), "the document is too large", "at most 1 MiB for each file")


def _compile(
    texts: Iterable[tuple[str, str]], env: Mapping[str, str], presets: Mapping[str, PresetInfo], listed: PriceList
) -> Compiled:
    problems = Problems()
    roots = []
    first = ""
    for name, text in texts:
        first = first or name
        root = tree.compose(text, name, problems)
        if root is None or (isinstance(root, tree.Scalar) and root.empty):
            continue
        if not isinstance(root, tree.Mapping):
            problems.error(root.place, (), "the document is not a mapping", "expected models:, backends:, policies:")
            continue
        roots.append(root)
    if not roots:
        problems.stop_if_any()
        raise fail(Place(first, 1, 1), (), "the document is empty", "expected models:, backends:, policies:")
    whole = roots[0] if len(roots) == 1 else _merged(roots, problems)
    return compiled(read(whole, env, problems), presets, problems, _version(whole), listed)


def _merged(roots: list[tree.Mapping], problems: Problems) -> tree.Mapping:
    """One root from several files. Sections are joined; a name given twice is an error that names both files."""
    entries: dict[str, tree.Entry] = {}
    for root in roots:
        for section, entry in root.entries.items():
            known = entries.get(section)
            if known is None or (isinstance(known.value, tree.Scalar) and known.value.empty):
                entries[section] = entry
            elif isinstance(known.value, tree.Mapping) and isinstance(entry.value, tree.Mapping):
                joined = _join(section, known.value, entry.value, problems)
                entries[section] = tree.Entry(known.place, joined)
            elif not (isinstance(entry.value, tree.Scalar) and entry.value.empty):
                _twice(problems, (section,), entry.place, known.place)
    return tree.Mapping(roots[0].place, entries, sum(root.size for root in roots))


def _join(section: str, first: tree.Mapping, second: tree.Mapping, problems: Problems) -> tree.Mapping:
    entries = dict(first.entries)
    for name, entry in second.entries.items():
        if name in entries:
            _twice(problems, (section, name), entry.place, entries[name].place)
        else:
            entries[name] = entry
    return tree.Mapping(first.place, entries, first.size + second.size)


def _twice(problems: Problems, path: tuple[str, ...], place: Place, first: Place) -> None:
    problems.error(place, path, f"'{path[-1]}' is given twice", f"the first is in {first.file}:{first.line}")


def _version(root: tree.Mapping) -> str:
    """A short name for the meaning of a document: comments and the order of files do not change it."""
    return hashlib.sha256(msgspec.json.encode(tree.canonical(root), order="sorted")).hexdigest()[:12]
