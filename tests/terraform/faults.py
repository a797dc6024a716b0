"""Faults, planted one at a time into the text of a module: what the tests must catch, and whether they do.

Five kinds: an argument that does not exist, a required one that is missing, a value of the wrong type, a reference to
what does not exist, and a value outside the range that the cloud documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.terraform import check
from tests.terraform.hcl import Module
from tests.terraform.schema import Block

KINDS = ("unknown argument", "missing argument", "wrong type", "wrong reference", "out of range")
_ASSIGNMENT = re.compile(r"^(\s*)(\w+)(\s*)=\s*(.*[^{\[(])$")
_RESOURCE = re.compile(r'^resource "(\w+)" "\w+" \{$')
_REFERENCE = re.compile(
    r"(?:var|local)\.\w+|module\.\w+(?:\[\w+\])?\.\w+|(?:alicloud|tencentcloud|kubernetes)_\w+\.\w+(?:\[\w+\])?(?:\.metadata\[0\])?\.\w+"
)
_OPENS = re.compile(r'^\s*(?:dynamic )?"?(\w+)"? \{$')


@dataclass(frozen=True, slots=True)
class Fault:
    """`text` is the whole file `file` with the fault in it."""

    module: str
    kind: str
    where: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.module}, {self.where}: {self.kind}"


def planted(module: Module) -> Iterator[Fault]:
    """Every fault that this file knows to plant into a module."""
    source = (module.folder / "main.tf").read_text()
    lines = source.splitlines()
    for number, where, block in _places(lines):
        yield from _in_line(module.name, lines, number, where, block)
    yield from _elsewhere(module)
    yield from _in_variables(module)


def _places(lines: list[str]) -> Iterator[tuple[int, str, Block]]:
    """Each line inside a resource with the body it is in; a path of blocks names the place."""
    inside: list[tuple[str, Block | None]] = []
    for number, line in enumerate(lines):
        if found := _RESOURCE.match(line):
            inside = [(found[1], check.resources()[found[1]])]
            yield number, found[1], check.resources()[found[1]]
        elif inside and line.rstrip().endswith(("{", "[", "(")):
            opened, block = _OPENS.match(line), inside[-1][1]
            name = opened[1] if opened else "…"
            if name == "content":
                inside.append(inside[-1])
            else:
                nested = block.blocks.get(name) if block else None
                inside.append((f"{inside[-1][0]}.{name}", nested.block if nested else None))
            if inside[-1][1] is not None and "dynamic" not in line:
                yield number, inside[-1][0], inside[-1][1]
        elif inside and re.match(r"^\s*[}\])]", line):
            inside.pop()
        elif inside and inside[-1][1] is not None:
            yield number, inside[-1][0], inside[-1][1]


def _in_line(module: str, lines: list[str], number: int, where: str, block: Block) -> Iterator[Fault]:
    line = lines[number]

    def fault(kind: str, what: str, *instead: str) -> Fault:
        text = "\n".join([*lines[:number], *instead, *lines[number + 1 :]]) + "\n"
        return Fault(module, kind, f"{where}.{what}" if what else where, "main.tf", text)

    found = _ASSIGNMENT.match(line)
    if line.rstrip().endswith("{"):
        yield fault("unknown argument", "", line, "  no_such_argument = 1")
    if found is None or found[2] not in block.attributes:
        return
    indent, name, _, value = found.groups()
    attribute = block.attributes[name]
    scalar = isinstance(attribute.type, str)
    if attribute.required:
        yield fault("missing argument", name)
    wrong = '"many"' if attribute.type in ("number", "bool") else "[true]" if scalar else "true"
    yield fault("wrong type", name, f"{indent}{name} = {wrong}")
    for token in _REFERENCE.findall(value)[:1]:
        wrong = re.sub(r"\w+$", "no_such_thing", token)
        yield fault("wrong reference", f"{name}, {token}", line.replace(token, wrong))
    if attribute.range and re.match(r'^"?[\w./,-]+"?( #.*)?$', value) and not re.match(r"^(var|local|module)\.", value):
        yield fault("out of range", name, f"{indent}{name} = {_beyond(attribute.range)}")


def _beyond(allowed: Any) -> str:
    if "one_of" in allowed:
        return '"999"'
    return '"-"' if "matches" in allowed else str(allowed["max"] + 1)


def _elsewhere(module: Module) -> Iterator[Fault]:
    """Faults in locals, outputs and calls of other modules."""
    for file in ("main.tf", "outputs.tf"):
        lines = (module.folder / file).read_text().splitlines()
        top = ""
        for number, line in enumerate(lines):
            top = line.split(" {")[0] if re.match(r"\w", line) else top
            if top.startswith("resource") or "description" in line:
                continue
            for kind, what, *instead in _instead(module, top, line):
                text = "\n".join([*lines[:number], *instead, *lines[number + 1 :]]) + "\n"
                yield Fault(module.name, kind, f"{top}, {what}", file, text)


def _instead(module: Module, top: str, line: str) -> Iterator[tuple[str, ...]]:
    """Kind, place and what stands in the place of a line outside resources."""
    for token in _REFERENCE.findall(line)[:1]:
        yield "wrong reference", token, line.replace(token, re.sub(r"\w+$", "no_such_thing", token))
    if not top.startswith("module"):
        return
    if line.endswith("{"):
        yield "unknown argument", "", line, "  no_such_argument = 1"
    needed = module.child(top.split('"')[1]).variables
    found = _ASSIGNMENT.match(line)
    if found and found[2] in needed:
        if "default" not in needed[found[2]]:
            yield "missing argument", found[2]
        wrong = "[true]" if needed[found[2]]["type"] in ("string", "number", "bool") else "true"
        yield "wrong type", found[2], f"  {found[2]} = {wrong}"


def _in_variables(module: Module) -> Iterator[Fault]:
    """Validations that allow more than the cloud does, and defaults that the cloud refuses."""
    for name, old, new in loosenings(module):
        text = changed(module, [(name, old, new)])
        yield Fault(module.name, "out of range", f"var.{name}, {old.strip()}", "variables.tf", text)


def loosenings(module: Module, defaults: bool | None = None) -> Iterator[tuple[str, str, str]]:
    """Variable, what stands there, and what lets too much in; of defaults only, of validations only, or (None) both."""
    for name, allowed in check.limits().get(module.name, {}).items():
        if defaults is not True:
            yield from ((name, old, new) for old, new in _loosened(name, allowed))
        default = module.variables[name].get("default")
        if defaults is not False and "max" in allowed and default is not None:
            yield name, f"\n  default     = {default}\n", f"\n  default     = {allowed['max'] + 1}\n"


def changed(module: Module, changes: list[tuple[str, str, str]]) -> str:
    """The text of variables.tf with changes made to variables. Raises `AssertionError` when one fits nothing."""
    source = (module.folder / "variables.tf").read_text()
    for name, old, new in changes:
        start = source.index(f'variable "{name}"')
        end = source.index("\n}\n", start)
        assert old in source[start:end], f"{module.name}, {name}: {old}"
        source = source[:start] + source[start:end].replace(old, new) + source[end:]
    return source


def _loosened(name: str, allowed: Any) -> Iterator[tuple[str, str]]:
    if "one_of" in allowed:
        yield (
            f"], var.{name})",
            f', "999"], var.{name})' if isinstance(allowed["one_of"][0], str) else f", 999], var.{name})",
        )
    elif "is" in allowed:
        yield f"var.{name} == {allowed['is']}", f"var.{name} >= {allowed['is']}"
    else:
        yield f"var.{name} >= {allowed['min']:g}", f"var.{name} >= -1000"
        yield f"var.{name} <= {allowed['max']}", f"var.{name} <= 10000000"
        if allowed.get("step", 0) >= 1:
            yield f"var.{name} % {allowed['step']} == 0", f"var.{name} % 1 == 0"
