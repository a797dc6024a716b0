"""What Terraform itself would say of a module, said without Terraform: the tier of the tests that runs everywhere.

It knows the providers' schemas, and reads references, types as far as they show without evaluating, and validations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.terraform import hcl
from tests.terraform.hcl import Body, Module
from tests.terraform.ranges import outside
from tests.terraform.schema import Attribute, Block, all_providers

_META = frozenset({"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "connection", "timeouts"})
_CALL = frozenset({"source", "version", "count", "for_each", "providers", "depends_on"})
_LITERALS: Mapping[type, str] = {
    bool: "bool", int: "number", float: "number", str: "string", list: "list", dict: "map",
}  # fmt: skip
_STRING = re.compile(r"^(tostring|jsonencode|yamlencode|join|replace|substr|lower|urlencode)\(")
_PATH = r"((?:\[[^\]]*\]|\.[A-Za-z_][A-Za-z0-9_]*)*)"
_RESOURCE = re.compile(rf"(?<![\w.\"/-])((?:alicloud|tencentcloud|kubernetes)_\w+)\.(\w+){_PATH}")


@cache
def resources() -> Mapping[str, Block]:
    return {name: block for provider in all_providers() for name, block in provider.resources.items()}


@cache
def limits() -> Mapping[str, Mapping[str, Any]]:
    """What variables may be, as the clouds document it: module, variable, range."""
    return yaml.safe_load((Path(__file__).parent / "limits.yaml").read_text())  # type: ignore[no-any-return]


def problems(module: Module) -> list[str]:
    """Everything that is wrong with a module; empty when nothing is."""
    found = [*_resources(module), *_references(module), *_calls(module), *_limits(module)]
    return [f"{module.name}: {text}" for text in found]


def _resources(module: Module) -> Iterator[str]:
    for address, body in module.resources.items():
        kind = address.split(".")[0]
        if kind not in resources():
            yield f"{address}: no such resource"
            continue
        given = {name: value for name, value in hcl.members(body).items() if name not in _META}
        yield from _body(module, f"{address}.", resources()[kind], given)


def _body(module: Module, at: str, block: Block, given: Body) -> Iterator[str]:
    """What is wrong with the arguments and blocks of one body."""
    for name, value in given.items():
        if name in block.attributes:
            attribute = block.attributes[name]
            if attribute.exported or hcl.is_block(value):
                yield f"{at}{name}: cannot be set like this"
                continue
            yield from (f"{at}{name}: {text}" for text in _value(module, attribute, value))
        elif name in block.blocks:
            if not hcl.is_block(value):
                yield f"{at}{name}: is a block"
            elif len(value) > 1 and block.blocks[name].single:
                yield f"{at}{name}: at most one"
            for inner in value if hcl.is_block(value) else []:
                yield from _body(module, f"{at}{name}.", block.blocks[name].block, hcl.members(inner))
        else:
            yield f"{at}{name}: no such argument"
    required = [name for name, a in block.attributes.items() if a.required]
    required += [name for name, b in block.blocks.items() if b.required]
    yield from (f"{at}{name}: is missing" for name in required if name not in given)


def _value(module: Module, attribute: Attribute, value: Any) -> Iterator[str]:
    wanted = attribute.type if isinstance(attribute.type, str) else attribute.type[0]
    if not _fits(wanted, value, _type(module, value)):
        yield f"a {wanted} is wanted, not {value!r}"
    elif hcl.expression(value) is None and isinstance(value, str | int | float):
        literal = hcl.text(value) if isinstance(value, str) else value
        if "${" not in str(literal):
            yield from outside(Block({"value": attribute}, {}), {"value": literal})


def _type(module: Module, value: Any) -> str | None:
    """The type of a value as far as it shows; None when it does not."""
    code = hcl.expression(value)
    if code is None:
        return _LITERALS.get(type(value))
    if _STRING.match(code):
        return "string"
    if code.startswith("[") and code.endswith("]"):
        return "list"
    if (code.startswith("{") and code.endswith("}")) or code.startswith("merge("):
        return "map"
    if found := re.fullmatch(r"var\.(\w+)", code):
        declared = module.variables.get(found[1], {}).get("type", "any")
        return re.sub(r"\$\{|\(.*", "", str(declared), flags=re.DOTALL)
    if found := re.fullmatch(r"([a-z]+_[a-z0-9_]+)\.\w+(?:\[\w+\])?\.(\w+)", code):
        block = resources().get(found[1])
        kind = block.attributes[found[2]].type if block and found[2] in block.attributes else None
        return kind if isinstance(kind, str) or kind is None else str(kind[0])
    return None


def _fits(wanted: str, value: Any, kind: str | None) -> bool:
    if kind is None or kind == "any":
        return True
    if isinstance(value, str) and kind == "string" and hcl.expression(value) is None:
        literal = hcl.text(value)
        if wanted == "number":
            return re.fullmatch(r"-?\d+(\.\d+)?", literal) is not None
        if wanted == "bool":
            return literal in {"true", "false"}
    scalar = {"string": {"string", "number", "bool"}, "number": {"number"}, "bool": {"bool"}}
    return kind in scalar.get(wanted, {"list", "set", "tuple"} if wanted in {"list", "set"} else {"map", "object"})


def _references(module: Module) -> Iterator[str]:
    everything = [module.resources, module.outputs, module.locals, module.modules, module.variables]
    for piece in (piece for part in everything for piece in hcl.strings(part)):
        code = piece if "${" in piece else ""
        for name in re.findall(r"(?<![\w.])var\.(\w+)", code):
            if name not in module.variables:
                yield f"var.{name}: no such variable"
        for name in re.findall(r"(?<![\w.])local\.(\w+)", code):
            if name not in module.locals:
                yield f"local.{name}: no such local"
        for name, path in re.findall(rf"(?<![\w.])module\.(\w+){_PATH}", code):
            outputs = module.child(name).outputs if name in module.modules else {}
            if not set(_names(path)[:1]) <= set(outputs):
                yield f"module.{name}{path}: no such output"
        for kind, name, path in _RESOURCE.findall(code):
            if f"{kind}.{name}" not in module.resources:
                yield f"{kind}.{name}: no such resource"
            elif kind in resources() and not _leads(resources()[kind], _names(path)):
                yield f"{kind}.{name}{path}: no such attribute"


def _names(path: str) -> list[str]:
    """The names in `[count.index].metadata[0].name`."""
    return re.findall(r"\.(\w+)", re.sub(r"\[[^\]]*\]", "", path))


def _leads(block: Block, path: list[str]) -> bool:
    """Whether `path` names something in `block`; what is inside an attribute is not looked at."""
    if not path or path[0] in block.attributes:
        return True
    return path[0] in block.blocks and _leads(block.blocks[path[0]].block, path[1:])


def _calls(module: Module) -> Iterator[str]:
    for name, body in module.modules.items():
        child = module.child(name)
        given = {key: value for key, value in hcl.members(body).items() if key not in _CALL}
        for key, value in given.items():
            if key not in child.variables:
                yield f"module.{name}.{key}: no such variable"
                continue
            wanted = re.sub(r"\$\{|\(.*", "", str(child.variables[key]["type"]), flags=re.DOTALL)
            if not _fits(wanted, value, _type(module, value)):
                yield f"module.{name}.{key}: a {wanted} is wanted, not {value!r}"
        needed = {key for key, variable in child.variables.items() if "default" not in variable}
        yield from (f"module.{name}.{key}: is missing" for key in sorted(needed - set(given)))


def _limits(module: Module) -> Iterator[str]:
    """Whether every variable with a documented range is held to it, and begins inside it."""
    for name, allowed in limits().get(module.name, {}).items():
        variable = module.variables.get(name, {})
        conditions = " && ".join(hcl.expression(v["condition"]) or "" for v in variable.get("validation", []))
        for wanted in _conditions(name, allowed):
            if not re.search(rf"(?<![\w.]){wanted}(?![\w.])", conditions):
                yield f"var.{name}: the range {allowed} is not what its validation says"
        default = variable.get("default")
        if isinstance(default, int | float) and not isinstance(default, bool):
            number = Attribute("number", range={k: v for k, v in allowed.items() if k != "matches"})
            yield from (f"var.{name}: default {text}" for text in outside(Block({name: number}, {}), {name: default}))


def _conditions(name: str, allowed: Mapping[str, Any]) -> Iterator[str]:
    variable = re.escape(f"var.{name}")
    if "one_of" in allowed:
        values = ", ".join(f'"{v}"' if isinstance(v, str) else f"{v:g}" for v in allowed["one_of"])
        yield re.escape(f"contains([{values}], ") + variable
    elif "is" in allowed:
        yield f"{variable} == {allowed['is']}"
    else:
        yield f"{variable} >= {allowed['min']:g}" if allowed["min"] < 1e6 else f"{variable} >= {allowed['min']}"
        yield f"{variable} <= {allowed['max']}"
        if "step" in allowed and allowed["step"] >= 1:
            yield f"{variable} % {allowed['step']} == 0"
