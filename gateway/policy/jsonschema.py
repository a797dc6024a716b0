"""The document's JSON Schema (draft 2020-12), for editors: completion, hover texts, red lines while typing.

Generated from the same structs the reader walks by, so it cannot say anything else. It is a little more lenient than
the reader where text may hold a `${REFERENCE}`, which only the reader can resolve.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gateway.policy import scalars
from gateway.policy.schema import MOST_NAMED
from gateway.policy.shapes import Field, Leaf, ListOf, MapOf, Part, Shape, document

Schema = dict[str, Any]

_REFERENCE = scalars.PATTERN["reference"]


def json_schema() -> Schema:
    """The schema of the whole document as plain data."""
    parts: dict[str, Schema] = {}
    root = _part(document(), parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spillgate configuration document",
        **root,
        "$defs": {name: parts[name] for name in sorted(parts)},
    }


def _part(part: Part, parts: dict[str, Schema]) -> Schema:
    found: Schema = {"type": "object", "description": part.about, "additionalProperties": False}
    required = [name for name, field in part.fields.items() if field.required and not field.unless]
    if required:
        found["required"] = required
    for name, field in part.fields.items():
        if field.unless:
            found["anyOf"] = [{"required": [name]}, {"required": [field.unless]}]
    found["properties"] = {name: _field(field, parts) for name, field in part.fields.items()}
    return found


def _field(field: Field, parts: dict[str, Schema]) -> Schema:
    found = {"description": field.about, **_shape(field.shape, parts)}
    default = field.default
    if isinstance(default, str | int | float) and default != "" and not field.required:
        found["default"] = _shown(default, field.shape)
    return found


def _shown(default: float | str, shape: Shape) -> float | str:
    """A default as one would write it."""
    kind = shape.kind if isinstance(shape, Leaf) else ""
    if isinstance(default, str) or kind not in {"duration", "size"}:
        return default
    unit, factor = ("s", 1) if kind == "duration" else ("MiB", 2**20)
    return f"{default / factor:g}{unit}"


def _shape(shape: Shape, parts: dict[str, Schema]) -> Schema:
    if isinstance(shape, Leaf):
        return _leaf(shape)
    if isinstance(shape, ListOf):
        found: Schema = {"type": "array", "items": _shape(shape.item, parts), "maxItems": MOST_NAMED}
        return {**found, "minItems": 1} if shape.filled else found
    if isinstance(shape, MapOf):
        found = {
            "type": "object",
            "propertyNames": {"pattern": shape.key.pattern},
            "additionalProperties": _shape(shape.value, parts),
            "maxProperties": MOST_NAMED,
        }
        return {**found, "minProperties": 1} if shape.filled else found
    name = _name(shape.cls)
    if name not in parts:
        parts[name] = {}
        parts[name] = _part(shape, parts)
    whole = {"$ref": f"#/$defs/{name}"}
    return {"anyOf": [_shape(shape.fields[shape.short].shape, parts), whole]} if shape.short else whole


def _name(cls: type[Struct]) -> str:
    return cls.__name__.removesuffix("Word")


def _leaf(leaf: Leaf) -> Schema:
    if leaf.kind == "word":
        return {"anyOf": [{"enum": list(leaf.words)}, {"type": "string", "pattern": _REFERENCE}]}
    if leaf.kind == "text":
        if leaf.pattern:
            return {"type": "string", "pattern": f"{leaf.pattern}|{_REFERENCE}"}
        return {"type": ["string", "number", "boolean"], "minLength": 1}
    written: Schema = {"type": "string", "pattern": f"{scalars.PATTERN[leaf.kind]}|{_REFERENCE}"}
    if leaf.kind == "moment":
        return written
    if leaf.kind == "duration":
        return written if leaf.above is not None else {"anyOf": [{"const": 0}, written]}
    bounds: Schema = {"type": "number" if leaf.kind == "float" else "integer"}
    for word, bound in (("minimum", leaf.least), ("exclusiveMinimum", leaf.above), ("maximum", leaf.most)):
        if bound is not None:
            bounds[word] = bound
    return {"anyOf": [bounds, written]}
