"""From the tree to the structs of `schema`, reporting every error on the way and stopping at none.

What is wrong keeps its default, so that the checks that come after can look at the rest of the document too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.policy import scalars, tree
from gateway.policy.diagnose import Path, Place, Problems, listed, nearest
from gateway.policy.references import Text, resolve
from gateway.policy.schema import MOST_NAMED, Document
from gateway.policy.shapes import Field, Leaf, ListOf, MapOf, Part, Shape, document

_MISSING = object()
_LONGEST_TEXT = 4096
_SHOWN = 60
_CONVERT: Mapping[str, Callable[[str], float | None]] = {
    "duration": scalars.duration,
    "size": scalars.size,
    "count": scalars.count,
    "float": scalars.number,
    "moment": scalars.moment,
}


class Read(Struct, frozen=True):
    """A document as structs, and where each part of it was written."""

    document: Document
    keys: Mapping[Path, Place]
    values: Mapping[Path, Place]
    texts: Mapping[Path, Text]

    def at(self, *path: str | int) -> Place:
        """Where the key of `path` stands; for items of a list, the item; the nearest thing above if it is not there."""
        while path not in self.keys:
            path = path[:-1]
        return self.keys[path]

    def value_at(self, *path: str | int) -> Place:
        """Where the value of `path` stands, or the nearest thing above it."""
        return self.values.get(path) or self.at(*path)


def read(root: tree.Mapping, env: Mapping[str, str], problems: Problems) -> Read:
    """Walk a whole document. Errors go to `problems`; the result is complete in any case."""
    walker = _Walker(env, problems)
    walker.keys[()] = walker.values[()] = root.place
    found = walker.part(root, document(), ())
    assert isinstance(found, Document)
    return Read(found, walker.keys, walker.values, walker.texts)


def part(node: tree.Node, shape: Part, problems: Problems) -> object:
    """Walk one part that came by another way than a document. It has no environment: references are not resolved."""
    walker = _Walker({}, problems)
    walker.keys[()] = node.place
    return walker.value(node, shape, ())


class _Walker:
    def __init__(self, env: Mapping[str, str], problems: Problems) -> None:
        self._env = env
        self._problems = problems
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.texts: dict[Path, Text] = {}

    def value(self, node: tree.Node, shape: Shape, path: Path) -> object:
        """The value, or `_MISSING` after it was reported."""
        self.values[path] = node.place
        if isinstance(shape, Leaf):
            return self.leaf(node, shape, path)
        if isinstance(shape, ListOf):
            return self.list_of(node, shape, path)
        if isinstance(shape, Part) and shape.short and isinstance(node, tree.Scalar):
            return self.short(node, shape, path)
        if isinstance(node, tree.Scalar) and node.empty:
            node = tree.Mapping(node.place, {}, 1)
        if not isinstance(node, tree.Mapping):
            expected = "a mapping of names" if isinstance(shape, MapOf) else "a mapping with " + _keys(shape)
            self._problems.error(node.place, path, f"this is {_kind(node)}", f"expected {expected}")
            return _MISSING
        return self.map_of(node, shape, path) if isinstance(shape, MapOf) else self.part(node, shape, path)

    def short(self, node: tree.Scalar, part: Part, path: Path) -> object:
        """A single value where a part could stand; its text is noted under the part's own path."""
        field = part.fields[part.short]
        assert isinstance(field.shape, Leaf)
        found = self.leaf(node, field.shape, path)
        return found if found is _MISSING else part.cls(**{field.attribute: found})

    def part(self, node: tree.Mapping, part: Part, path: Path) -> object:
        given: dict[str, object] = {}
        for key, entry in node.entries.items():
            field = part.fields.get(key)
            if field is None:
                hint = nearest(key, part.fields)
                self._problems.error(entry.place, path, f"unknown key '{_short(key)}'", hint)
                continue
            self.keys[*path, key] = entry.place
            found = self.value(entry.value, field.shape, (*path, key))
            if found is not _MISSING:
                given[field.attribute] = found
        for key, field in part.fields.items():
            if field.required and key not in node.entries and not (field.unless and field.unless in node.entries):
                self._problems.error(self._header(path, node), path, f"'{key}' is missing", _say(field))
        return part.cls(**given)

    def _header(self, path: Path, node: tree.Mapping) -> Place:
        return self.keys.get(path, node.place)

    def map_of(self, node: tree.Mapping, shape: MapOf, path: Path) -> object:
        found: dict[str, object] = {}
        if len(node.entries) > MOST_NAMED:
            self._problems.error(node.place, path, f"{len(node.entries)} entries", f"at most {MOST_NAMED} are allowed")
            return _MISSING
        if shape.filled and not node.entries:
            self._problems.error(self._header(path, node), path, "is empty", "expected at least one")
        for key, entry in node.entries.items():
            if not re.fullmatch(shape.key.pattern, key):
                hint = "expected letters, digits and . _ : / @ + -, at most 128"
                self._problems.error(entry.place, path, f"'{_short(key)}' cannot be a name", hint)
                continue
            self.keys[*path, key] = entry.place
            value = self.value(entry.value, shape.value, (*path, key))
            if value is not _MISSING:
                found[key] = value
            elif isinstance(shape.value, Part):
                found[key] = shape.value.cls()  # it is known by name, whatever is wrong inside
        return found

    def list_of(self, node: tree.Node, shape: ListOf, path: Path) -> object:
        if isinstance(node, tree.Scalar) and node.empty:
            node = tree.Sequence(node.place, (), 1)
        if not isinstance(node, tree.Sequence):
            self._problems.error(node.place, path, f"this is {_kind(node)}", "expected a list: [a, b]")
            return _MISSING
        if len(node.items) > MOST_NAMED:
            self._problems.error(node.place, path, f"{len(node.items)} entries", f"at most {MOST_NAMED} are allowed")
            return _MISSING
        if shape.filled and not node.items:
            self._problems.error(self.keys.get(path, node.place), path, "is empty", "expected at least one")
        found: list[object] = []
        for index, item in enumerate(node.items):
            self.keys[*path, index] = item.place
            value = self.value(item, shape.item, (*path, index))
            if value is not _MISSING:
                found.append(value)
            elif isinstance(shape.item, Part):
                found.append(shape.item.cls())  # so that those after it keep their numbers
            else:
                found.append("")
        return found

    def leaf(self, node: tree.Node, leaf: Leaf, path: Path) -> object:
        if not isinstance(node, tree.Scalar):
            self._problems.error(node.place, path, f"this is {_kind(node)}", _expected(leaf))
            return _MISSING
        if node.empty:
            self._problems.error(node.place, path, "has no value", _expected(leaf))
            return _MISSING
        text = resolve(node.text, self._env)
        self.texts[path] = text
        self._problems.secrets.update(text.used)
        if text.malformed:
            hint = "expected ${NAME} or ${NAME:-default}; write $${ for a literal ${"
            self._problems.error(node.place, path, "a reference is not well formed", hint)
            return _MISSING
        for name in text.missing:
            close = nearest(name, self._env)
            otherwise = "export it" if leaf.secret else f"export it, or give a default: ${{{name}:-value}}"
            hint = close if close.startswith("did") else otherwise
            self._problems.error(node.place, path, f"the environment variable {name} is not set", hint)
        return _MISSING if text.missing else self._convert(node, text, leaf, path)

    def _convert(self, node: tree.Scalar, text: Text, leaf: Leaf, path: Path) -> object:
        if leaf.kind in _CONVERT:
            return self._amount(node, text, leaf, path)
        problem = ""
        hint = ""
        if leaf.kind == "word":
            if text.value not in leaf.words:
                problem, hint = f"'{_short(text.written)}' is not known here", nearest(text.written, leaf.words)
        elif not text.value.strip():
            problem = "is empty"
        elif len(text.value) > _LONGEST_TEXT:
            problem, hint = "is too long", f"at most {_LONGEST_TEXT} characters"
        elif leaf.pattern and not re.fullmatch(leaf.pattern, text.value):
            problem, hint = f"'{_short(text.written)}' cannot be a name", _expected(leaf)
        elif not text.value.isprintable() and path[-1:] != ("when",):
            problem, hint = "has a line break or a control character in it", _expected(leaf)
        if problem:
            self._problems.error(node.place, path, problem, hint)
            return _MISSING
        return text.value

    def _amount(self, node: tree.Scalar, text: Text, leaf: Leaf, path: Path) -> object:
        expected = scalars.EXPECTED[leaf.kind]
        if not node.plain and not text.referenced and leaf.kind in {"count", "float"}:
            self._problems.error(node.place, path, f"'{_short(text.written)}' is text", f"{expected}, without quotes")
            return _MISSING
        value = _CONVERT[leaf.kind](text.value)
        if value is None:
            self._problems.error(node.place, path, f"'{_short(text.written)}' is not understood", expected)
            return _MISSING
        wrong = _out_of_bounds(value, leaf)
        if wrong:
            self._problems.error(node.place, path, f"'{_short(text.written)}' is {wrong}", _bounds(leaf))
            return _MISSING
        return value


def _out_of_bounds(value: float, leaf: Leaf) -> str:
    if leaf.least is not None and value < leaf.least:
        return "too small"
    if leaf.above is not None and value <= leaf.above:
        return "too small"
    if leaf.most is not None and value > leaf.most:
        return "too large"
    return ""


def _bounds(leaf: Leaf) -> str:
    if leaf.limit:
        return "expected at least 1; leave it out if there is none"
    shown = "more than 0" if leaf.above is not None else f"at least {_plainly(leaf.least or 0)}"
    unit = {"duration": " seconds", "size": " bytes"}.get(leaf.kind, "")
    return f"expected {shown}, at most {_plainly(leaf.most or 0)}{unit}"


def _plainly(value: float) -> str:
    return f"{value:,.0f}".replace(",", "_") if value == round(value) else f"{value:g}"


def _expected(leaf: Leaf) -> str:
    if leaf.kind == "word":
        return "expected " + listed(leaf.words)
    if leaf.kind == "text":
        return "expected a name: letters, digits and . _ : / @ + -" if leaf.pattern else "expected text"
    return scalars.EXPECTED[leaf.kind]


def _keys(part: Part) -> str:
    return listed(list(part.fields))


def _say(field: Field) -> str:
    return field.about[:1].lower() + field.about[1:].rstrip(".")


def _kind(node: tree.Node) -> str:
    if isinstance(node, tree.Mapping):
        return "a mapping"
    return "a list" if isinstance(node, tree.Sequence) else "a single value"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
