"""What the providers' resources take and give: `schemas/*.json`, read.

The files are written by `extract.py` (make terraform-schema) from packages that were generated from the providers
themselves, with the differences that the documentation shows named one by one. Each names its sources and versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass(frozen=True, slots=True)
class Attribute:
    """`type` is Terraform's JSON type expression. Exported: only the cloud sets it."""

    type: Any
    required: bool = False
    computed: bool = False
    exported: bool = False
    sensitive: bool = False
    range: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    attributes: Mapping[str, Attribute]
    blocks: Mapping[str, Nested]


@dataclass(frozen=True, slots=True)
class Nested:
    nesting: str
    required: bool
    single: bool
    block: Block


@dataclass(frozen=True, slots=True)
class Provider:
    """`address` is namespace/name; `version` the one that was described."""

    address: str
    version: str
    sources: tuple[str, ...]
    resources: Mapping[str, Block]
    configuration: Block = field(default_factory=lambda: Block({}, {}))


def block(data: Mapping[str, Any]) -> Block:
    return Block(
        {name: Attribute(**a) for name, a in data.get("attributes", {}).items()},
        {
            name: Nested(b.get("nesting", "list"), b.get("required", False), b.get("single", False), block(b))
            for name, b in data.get("blocks", {}).items()
        },
    )


def read(path: Path) -> Provider:
    data = json.loads(path.read_text())
    resources = {name: block(b) for name, b in data["resources"].items()}
    return Provider(
        data["address"], data["version"], tuple(data["sources"]), resources, block(data.get("configuration", {}))
    )


def all_providers() -> list[Provider]:
    return [read(path) for path in sorted(SCHEMAS.glob("*.json"))]
