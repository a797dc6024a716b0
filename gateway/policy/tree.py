"""YAML as a tree in which every node knows its place, and in which nothing can be hidden or unbounded.

Built from libyaml's events with a small composer of our own rather than from PyYAML's, because a document is checked
by its schema, not by YAML's guesses (`no`, `1:30` and `0123` stay the text they are until a field asks for a
number), duplicate keys and cyclic aliases are errors, and depth, size and the expansion of aliases are bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from msgspec import Struct

from gateway.errors import DocumentError
from gateway.policy.diagnose import Place, Problems, fail

MAX_DEPTH = 32
MAX_NODES = 50_000
"""Counted with every alias expanded, so that a few lines cannot stand for millions of nodes."""

_MERGE = "<<"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class Scalar(Struct, frozen=True, eq=False):
    """A leaf. `text` is what the document says, references unresolved; `plain` means: written without quotes."""

    place: Place
    text: str
    plain: bool
    size: int = 1

    @property
    def empty(self) -> bool:
        return self.plain and self.text in _NULLS


class Sequence(Struct, frozen=True, eq=False):
    place: Place
    items: tuple[Node, ...]
    size: int


class Entry(Struct, frozen=True, eq=False):
    """One `key: value` of a mapping; `place` is the key's."""

    place: Place
    value: Node


class Mapping(Struct, frozen=True, eq=False):
    place: Place
    entries: dict[str, Entry]
    size: int


Node = Scalar | Sequence | Mapping


def compose(text: str, file: str, problems: Problems) -> Node | None:
    """The tree of one source, or None when it is empty.

    Duplicate keys and foreign tags are reported to `problems`; anything after which the rest cannot be understood
    (syntax, a second document, a bound exceeded, a cyclic alias) raises `DocumentError`.
    """
    try:
        return _Composer(text, file, problems).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text, file) from None
    except yaml.reader.ReaderError as error:
        raise _unreadable(error, text, file) from None


class _Composer:
    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.CSafeLoader))
        self._file = file
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._open: dict[str, Place] = {}

    def document(self) -> Node | None:
        root: Node | None = None
        started = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if started:
                    raise fail(self._place(event), (), "a second document begins here", "expected one in each file")
                started = True
                root = self._node(next(self._events), 0)
        return root

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _node(self, event: Any, depth: int) -> Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        if depth > MAX_DEPTH:
            raise fail(place, (), f"nested deeper than {MAX_DEPTH} levels")
        self._refuse_tag(event, place)
        anchor = event.anchor
        if anchor:
            self._open[anchor] = place
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(place, event.value, plain=event.style in {None, ""})
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, depth)
        else:
            node = self._mapping(place, depth)
        if node.size > MAX_NODES:
            raise fail(place, (), f"more than {MAX_NODES} values", "aliases count as often as they are used")
        if anchor:
            del self._open[anchor]
            self._anchors[anchor] = node
        return node

    def _alias(self, event: Any, place: Place) -> Node:
        name = event.anchor
        if name in self._open:
            where = self._open[name]
            raise fail(place, (), f"alias *{name} stands inside its own anchor &{name} (line {where.line})")
        if name not in self._anchors:
            raise fail(place, (), f"alias *{name} has no anchor &{name} above it")
        return self._anchors[name]

    def _refuse_tag(self, event: Any, place: Place) -> None:
        if event.tag and event.tag != "!":
            self._problems.error(place, (), f"the tag {event.tag} means nothing here", "leave the tag out")

    def _sequence(self, place: Place, depth: int) -> Sequence:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            size += item.size
            items.append(item)
        return Sequence(place, tuple(items), size)

    def _mapping(self, place: Place, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            key_place = self._place(event)
            value = self._node(next(self._events), depth + 1)
            size += value.size
            if not isinstance(key, Scalar):
                self._problems.error(key_place, (), "a name was expected here, not a list or a mapping")
            elif key.text == _MERGE and key.plain:
                self._merge(value, merged)
            elif key.text in entries:
                first = entries[key.text].place
                self._problems.error(
                    key_place, (), f"'{key.text}' is here a second time", f"the first is in line {first.line}"
                )
            else:
                entries[key.text] = Entry(key_place, value)
        for name, entry in merged.items():
            entries.setdefault(name, entry)
        return Mapping(place, entries, size)

    def _merge(self, value: Node, into: dict[str, Entry]) -> None:
        """`<<: *defaults`: what is written beside it wins, and of several the first."""
        for node in value.items if isinstance(value, Sequence) else (value,):
            if isinstance(node, Mapping):
                for name, entry in node.entries.items():
                    into.setdefault(name, entry)
            else:
                self._problems.error(node.place, (), "'<<' takes a mapping, or a list of mappings")


def plain(value: object, depth: int = 0) -> Node:
    """The tree of plain data, such as JSON holds. Texts are taken as they are: nothing in them is a reference.

    A text may stand for an amount ("2M", "20s"): JSON has no other way to write it.

    Raises `DocumentError` for what is nested deeper than a document may be.
    """
    place = Place("", 1, 1)
    if depth > MAX_DEPTH:
        raise fail(place, (), f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        entries = {str(name): Entry(place, plain(item, depth + 1)) for name, item in value.items()}
        return Mapping(place, entries, 1)
    if isinstance(value, list):
        return Sequence(place, tuple(plain(item, depth + 1) for item in value), 1)
    if isinstance(value, str):
        return Scalar(place, value.replace("${", "$${"), plain=value not in _NULLS)
    return Scalar(place, "" if value is None else str(value).lower(), plain=True)


def canonical(node: Node) -> object:
    """The meaning of a tree as plain data, references unresolved: what the version of a document is made from."""
    if isinstance(node, Mapping):
        return {name: canonical(entry.value) for name, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [canonical(item) for item in node.items]
    return node.text


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    written = lines[line] if line < len(lines) else ""
    hint = ""
    if "\t" in written[: column + 1]:
        hint = "YAML indents with spaces, not with tabs"
    elif "${" in written:
        hint = 'inside { } and [ ], put a reference in quotes: "${NAME}"'
    elif written.lstrip().startswith(("%", "@", "`", "&", "*")) or ": " in written:
        hint = "expected YAML; text with ': ', '#' or a leading sign needs quotes"
    said = error.problem or "not YAML"
    if error.context:
        said = f"{said} ({error.context})"
    return fail(Place(file, line + 1, column + 1), (), f"not YAML: {said}", hint)


def _unreadable(error: yaml.reader.ReaderError, text: str, file: str) -> DocumentError:
    before = text[: error.position]
    line = before.count("\n") + 1
    column = error.position - (before.rfind("\n") + 1) + 1
    return fail(Place(file, line, column), (), "a control character stands here", "expected printable text")
