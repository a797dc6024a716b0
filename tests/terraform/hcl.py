"""Terraform modules, read with python-hcl2: what a module declares, and every place where it says something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).parents[2] / "terraform"
_OURS = frozenset({"__is_block__", "__comments__", "__inline_comments__"})
_PIECE = re.compile(r".*?\n(?:\}\n|$)", re.DOTALL)
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Module:
    """One folder of *.tf files. Resources are named TYPE.NAME."""

    folder: Path
    variables: Mapping[str, Body]
    outputs: Mapping[str, Body]
    locals: Mapping[str, Any]
    resources: Mapping[str, Body]
    modules: Mapping[str, Body]
    terraform: Body

    @property
    def name(self) -> str:
        return str(self.folder.relative_to(ROOT))

    def child(self, call: str) -> Module:
        """The module that the call named `call` calls."""
        return load(self.folder / text(self.modules[call]["source"]))


def text(value: Any) -> str:
    """A literal string as it is meant, without its quotes."""
    assert isinstance(value, str), value
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def expression(value: Any) -> str | None:
    """The expression in `value`, None when it is a literal."""
    return value[2:-1] if isinstance(value, str) and value.startswith("${") and value.endswith("}") else None


def members(body: Body) -> dict[str, Any]:
    """Arguments and blocks of a body; a dynamic block counts as the block that it makes, beside others of its name."""
    found = {name: value for name, value in body.items() if name not in _OURS and name != "dynamic"}
    for dynamic in body.get("dynamic", []):
        ((block, inner),) = ((text(k), v) for k, v in dynamic.items() if k not in _OURS)
        found[block] = [*found.get(block, []), *inner["content"]]
    return found


def is_block(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) and "__is_block__" in v for v in value)


def strings(value: Any) -> Iterator[str]:
    """Every piece of text under `value`: expressions and literals."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _OURS:
                yield str(key)
                yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def load(folder: Path) -> Module:
    return parse(folder.resolve(), {path.name: path.read_text() for path in sorted(folder.glob("*.tf"))})


@lru_cache(maxsize=4096)
def _document(source: str) -> Mapping[str, Any]:
    """A piece of a file: what stands at its left edge, parsed by itself, so that a change costs one piece."""
    return hcl2.loads(source)


def parse(folder: Path, files: Mapping[str, str]) -> Module:
    """A module from the text of its files. Raises what python-hcl2 raises on text that is no HCL."""
    documents = [_document(part) for source in files.values() for part in _PIECE.findall(source)]

    def every(kind: str) -> list[Any]:
        return [entry for document in documents for entry in document.get(kind, [])]

    def named(kind: str) -> dict[str, Body]:
        return {text(name): body for entry in every(kind) for name, body in entry.items() if name not in _OURS}

    return Module(
        folder,
        variables=named("variable"),
        outputs=named("output"),
        locals={k: v for entry in every("locals") for k, v in entry.items() if k not in _OURS},
        resources={
            f"{text(kind)}.{text(name)}": body
            for entry in every("resource")
            for kind, inner in entry.items()
            if kind not in _OURS
            for name, body in inner.items()
        },
        modules=named("module"),
        terraform=every("terraform")[0] if every("terraform") else {},
    )


def modules() -> list[Module]:
    """Every module that is published."""
    return [load(path) for path in sorted(ROOT.iterdir()) if (path / "main.tf").exists()]
