"""The schema's types, reduced to the four shapes a document is made of.

msgspec describes the structs of `schema`; this is the little of it that the reader and the JSON Schema need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from msgspec import NODEFAULT, Struct, inspect

from gateway.policy.schema import Document


class Leaf(Struct, frozen=True):
    """One value. `kind` is a word of `scalars`, or "text" or "word" (one of `words`)."""

    kind: str
    pattern: str = ""
    words: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    secret: bool = False
    limit: bool = False


class ListOf(Struct, frozen=True):
    item: Shape
    filled: bool


class MapOf(Struct, frozen=True):
    key: Leaf
    value: Shape
    filled: bool


class Part(Struct, frozen=True):
    """A mapping with known keys. A single value in its place stands for the key named `short`, if there is one."""

    cls: type[Struct]
    about: str
    fields: Mapping[str, Field]
    short: str = ""


class Field(Struct, frozen=True):
    """`attribute` is its name in Python, which differs when the key is a reserved word.

    A required one may be left out where the key `unless` is given.
    """

    attribute: str
    shape: Shape
    about: str
    required: bool
    unless: str
    default: object
    factory: Callable[[], object] | None


Shape = Leaf | ListOf | MapOf | Part


@cache
def document() -> Part:
    """The shape of the whole document."""
    found = _shape(inspect.type_info(Document))
    assert isinstance(found, Part)
    return found


@cache
def part(cls: type[Struct], without: str) -> Part:
    """The shape of one part without one of its keys: what may be said of it outside a document."""
    found = _shape(inspect.type_info(cls))
    assert isinstance(found, Part)
    return Part(cls, found.about, {key: field for key, field in found.fields.items() if key != without})


def _shape(type_: inspect.Type, about: str = "", extra: Mapping[str, object] | None = None) -> Shape:
    extra = extra or {}
    if isinstance(type_, inspect.Metadata):
        return _shape(type_.type, _about(type_), type_.extra or {})
    if isinstance(type_, inspect.UnionType):
        (only,) = (member for member in type_.types if not isinstance(member, inspect.NoneType))
        return _shape(only)
    if isinstance(type_, inspect.StructType):
        fields = {f.encode_name: _field(f) for f in type_.fields}
        return Part(type_.cls, (type_.cls.__doc__ or "").strip(), fields, getattr(type_.cls, "SHORT", ""))
    if isinstance(type_, inspect.ListType):
        return ListOf(_shape(type_.item_type), bool(extra.get("required")))
    if isinstance(type_, inspect.DictType):
        key = _shape(type_.key_type)
        assert isinstance(key, Leaf)
        return MapOf(key, _shape(type_.value_type), bool(extra.get("required")))
    return _leaf(type_, extra)


def _leaf(type_: inspect.Type, extra: Mapping[str, object]) -> Leaf:
    if isinstance(type_, inspect.LiteralType):
        return Leaf("word", words=tuple(str(word) for word in type_.values))
    kind = str(extra["scalar"])
    if isinstance(type_, inspect.StrType):
        return Leaf(kind, pattern=type_.pattern or "", secret=bool(extra.get("secret")))
    assert isinstance(type_, inspect.IntType | inspect.FloatType)
    return Leaf(kind, least=type_.ge, above=type_.gt, most=type_.le, limit=bool(extra.get("limit")))


def _field(field: inspect.Field) -> Field:
    found = field.type
    if isinstance(found, inspect.UnionType):
        found = next(member for member in found.types if not isinstance(member, inspect.NoneType))
    assert isinstance(found, inspect.Metadata), f"{field.name} is not described"
    factory = None if field.default_factory is NODEFAULT else field.default_factory
    extra = found.extra or {}
    required, unless = bool(extra.get("required")), str(extra.get("unless", ""))
    return Field(field.name, _shape(field.type), _about(found), required, unless, field.default, factory)


def _about(type_: inspect.Metadata) -> str:
    return str((type_.extra_json_schema or {}).get("description", ""))
