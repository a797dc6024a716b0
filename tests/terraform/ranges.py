"""The ranges that the clouds document, held against values. `schemas/*.json` keep them beside the types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.terraform.schema import Block


def outside(block: Block, config: Mapping[str, Any] | None, at: str = "") -> list[str]:
    """What in `config` is outside its range, one sentence each. None is a value that nobody knows yet."""
    wrong: list[str] = []
    for name, value in (config or {}).items():
        path = f"{at}{name}"
        if name in block.attributes:
            wrong += [f"{path}: {text}" for text in _outside(block.attributes[name].range, value)]
        elif name in block.blocks and value is not None:
            for inner in value if isinstance(value, list) else [value]:
                wrong += outside(block.blocks[name].block, inner, f"{path}.")
    return wrong


def _outside(allowed: Mapping[str, Any], value: Any) -> list[str]:
    if not allowed or value is None:
        return []
    if "one_of" in allowed:
        return [] if str(value) in map(str, allowed["one_of"]) else [f"{value!r} is none of {allowed['one_of']}"]
    if "is" in allowed:
        return [] if value == allowed["is"] else [f"{value!r} is not {allowed['is']}"]
    if "matches" in allowed:
        return (
            [] if re.fullmatch(allowed["matches"], str(value)) else [f"{value!r} does not match {allowed['matches']}"]
        )
    number = float(value)
    if not allowed["min"] <= number <= allowed["max"]:
        return [f"{value} is not from {allowed['min']} to {allowed['max']}"]
    step = allowed.get("step")
    if step and abs(number / step - round(number / step)) > 1e-9:
        return [f"{value} is no multiple of {step}"]
    return []
