"""Writes `schemas/*.json` (make terraform-schema), or with --check tells whether they are what the sources say.

The providers cannot be had here, but packages generated from them can: Pulumi's for Alibaba Cloud and Tencent Cloud,
CDKTF's for Kubernetes. Their argument classes name every argument, its type and whether it must be given. Two things
are lost in the first two and put back from `sources.yaml`, read off the providers' documentation: Pulumi writes
lists in the plural, and makes names optional that it fills in itself. That file adds ranges and what is newer.

    python -m tests.terraform.extract FOLDER [--check]      # FOLDER: where the packages were unpacked
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
_SCALARS = {"str": "string", "int": "number", "float": "number", "bool": "bool"}
Json = dict[str, Any]


@cache
def _classes(path: Path) -> Mapping[str, ast.ClassDef]:
    return {n.name: n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)}


def _arguments(cls: ast.ClassDef) -> Iterator[tuple[str, str, bool]]:
    """Name, type and whether it must be given, of every argument of a generated class."""
    inits = [n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    for arg, default in zip(inits[0].args.kwonlyargs, inits[0].args.kw_defaults, strict=True):
        assert arg.annotation is not None
        text = ast.unparse(arg.annotation).replace("pulumi.Input", "").replace("_builtins.", "")
        text = text.replace("Optional", "").replace("'", "")
        while (plain := re.sub(r"(^|[\[ ])\[([^\[\]]*(?:\[[^\[\]]*\])*)\]", r"\1\2", text)) != text:
            text = plain
        yield arg.arg.rstrip("_"), text.strip(), default is None


class Pulumi:
    """Resources as one of Pulumi's packages describes them. Its own plurals stay; `amend` puts the names right."""

    def __init__(self, package: Path) -> None:
        self._package = package

    def resource(self, where: str) -> Json:
        """`where` is module/file:Class."""
        file, name = where.split(":")
        path = self._package / f"{file}.py"
        inputs = path.parent / "_inputs.py"
        found = self._block(_classes(path)[f"{name}Args"], inputs)
        given = {*found["attributes"], *found.get("blocks", {})}
        for arg, text, _ in _arguments(_classes(path)[f"_{name}State"]):
            if arg not in given:
                found["attributes"][arg] = {"type": self._type(text, inputs), "exported": True}
        found["attributes"]["id"] = {"type": "string", "exported": True}
        return found

    def _block(self, cls: ast.ClassDef, inputs: Path) -> Json:
        attributes: Json = {}
        blocks: Json = {}
        for arg, text, required in _arguments(cls):
            nested = re.search(r"(\w+)Args\b", text)
            if nested is None:
                attributes[arg] = {"type": self._type(text, inputs)} | ({"required": True} if required else {})
                continue
            block = self._block(_classes(inputs)[f"{nested[1]}Args"], inputs)
            head: Json = {} if text.startswith("Sequence") else {"single": True}
            blocks[arg] = head | ({"required": True} if required else {}) | block
        return {"attributes": attributes} | ({"blocks": blocks} if blocks else {})

    def _type(self, text: str, inputs: Path) -> Any:
        if text in _SCALARS:
            return _SCALARS[text]
        if inner := re.fullmatch(r"Sequence\[(.*)\]", text):
            return ["list", self._type(inner[1], inputs)]
        if inner := re.fullmatch(r"Mapping\[str, (.*)\]", text):
            return ["map", self._type(inner[1], inputs)]
        fields = _arguments(_classes(inputs)[text])
        return ["object", {name: self._type(kind, inputs) for name, kind, _ in fields}]


_MEMBER = re.compile(
    r"docs/resources/\w+#(\w+) [^}]*\}(?:(?!\*/).)*\*/\s*readonly \w+(\??): (.*?);(?=\s*(?:/\*\*|\Z))", re.DOTALL
)


class Cdktf:
    """Resources as CDKTF's package describes them: generated from the provider's own schema, with its own names."""

    def __init__(self, package: Path) -> None:
        self._package = package

    def resource(self, where: str) -> Json:
        folder, name = where.split(":")
        text = "\n".join(p.read_text() for p in sorted((self._package / "lib" / folder).rglob("*.d.ts")))
        bodies = {m[1]: m[2] for m in re.finditer(r"export interface (\w+)[^{]*\{(.*?)\n\}", text, re.DOTALL)}
        found = self._block(f"{name}Config", bodies)
        found["attributes"]["id"] = {"type": "string", "computed": True}
        return found

    def _block(self, name: str, bodies: Mapping[str, str]) -> Json:
        attributes: Json = {}
        blocks: Json = {}
        for member in _MEMBER.finditer(bodies[name]):
            own, required, text = member[1], not member[2], re.sub(r"\s+", " ", member[3])
            head: Json = {"required": True} if required else {}
            struct = re.match(r"(\w+?)(\[\])?(?: \| cdktf\.IResolvable)?$", text)
            if own == "timeouts":
                continue
            if struct and struct[1] in bodies:
                blocks[own] = ({} if struct[2] else {"single": True}) | head | self._block(struct[1], bodies)
            else:
                attributes[own] = {"type": self._type(text)} | head
        return {"attributes": attributes} | ({"blocks": blocks} if blocks else {})

    def _type(self, text: str) -> Any:
        text = text.removesuffix(" | cdktf.IResolvable").strip("() ")
        if inner := re.fullmatch(r"\{ ?\[key: string\]: (.*?);? ?\}", text):
            return ["map", self._type(inner[1])]
        if text.endswith("[]"):
            return ["list", self._type(text[:-2])]
        return {"string": "string", "number": "number", "boolean": "bool"}[text]


def amend(block: Json, changes: Mapping[str, Any]) -> None:
    """Put right what a package cannot tell. A path names an argument: `block.block.argument`."""
    for path, change in changes.items():
        *through, last = path.split(".")
        inside = block
        for step in through:
            inside = inside["blocks"][step]
        for kind in ("attributes", "blocks"):
            if isinstance(change, str) and last in inside.get(kind, {}):
                inside[kind][change] = inside[kind].pop(last)
                break
        else:
            assert not isinstance(change, str), f"{path}: nothing to rename"
            kind = "blocks" if "attributes" in change or last in inside.get("blocks", {}) else "attributes"
            inside.setdefault(kind, {}).setdefault(last, {}).update(change)


def describe(folder: Path, provider: Mapping[str, Any]) -> Json:
    """One provider's schema, from the package in `folder` and the corrections."""
    (package,) = folder.glob(provider["package"])
    source = Cdktf(package) if provider["kind"] == "cdktf" else Pulumi(package)
    resources = {}
    for name, resource in sorted(provider["resources"].items()):
        resources[name] = source.resource(resource["from"])
        for shared in resource.get("like", []):
            amend(resources[name], provider["shared"][shared])
        amend(resources[name], resource.get("amend", {}))
    head = {key: provider[key] for key in ("address", "version", "sources")}
    return head | {"configuration": provider.get("configuration", {}), "resources": resources}


def main(arguments: list[str]) -> int:
    """Write the schemas, or compare (--check); 1 when they differ."""
    folder = Path(arguments[0])
    wrong = 0
    for name, provider in yaml.safe_load((HERE / "sources.yaml").read_text()).items():
        text = json.dumps(describe(folder, provider), indent=1, sort_keys=True) + "\n"
        path = HERE / "schemas" / f"{name}.json"
        if "--check" not in arguments:
            path.write_text(text)
        elif path.read_text() != text:
            wrong += 1
            print(f"{path.name} differs from what its sources say")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
