"""The import graph is a diagram without loops, and these tests say so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "gateway"

# Top may import below; rooms of one row may not import each other.
ROWS: list[set[str]] = [
    {"cli"},
    {"app"},
    {"edge"},
    {"pipeline"},
    {"upstream", "store", "telemetry", "clouds", "sim"},
    {"service", "background"},
    {"policy", "wire"},
    {"core"},
    {"errors"},
]
LEVEL = {room: len(ROWS) - row for row, rooms in enumerate(ROWS) for room in rooms}
PURE = {"core", "policy", "wire"}
IMPURE_MODULES = {"asyncio", "time", "os", "socket", "threading", "subprocess", "uvloop", "aiohttp", "httpx"}
# A rehearsal runs over the pretend clouds' pure model, and nothing else of them: "the same code, live and rehearsed".
REHEARSED = {f"gateway.clouds.{part}" for part in ("model", "laws", "counts", "tickets", "profiles", "fleet")}
FREE: dict[str, set[str]] = {"settings": {"app", "cli", "edge"}, "testing": set()}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_rooms_import_only_rooms_below(path: Path) -> None:
    room = room_of(name_of(path))
    for target in imports(path):
        if not target.startswith("gateway."):
            continue
        other = room_of(target)
        if room in {"", "__main__", "testing"} or other in {"", room, "__version__"}:
            continue
        if other in FREE:
            assert room in FREE[other], f"{other} is not for {room}"
            continue
        if room == "sim" and any(target == part or target.startswith(part + ".") for part in REHEARSED):
            continue
        if room == "sim" and target == "gateway.clouds":
            continue
        assert LEVEL[room] > LEVEL[other], f"{room} may not import {target}"


@pytest.mark.parametrize("path", [p for p in modules() if room_of(name_of(p)) in PURE], ids=name_of)
def test_the_pure_rooms_know_no_clock_no_loop_no_network(path: Path) -> None:
    reached = {target.split(".")[0] for target in imports(path)}
    assert not reached & IMPURE_MODULES
    if room_of(name_of(path)) == "core":
        top = {target.split(".")[0] for target in imports(path, top_level_only=True)}
        assert "random" not in top or "TYPE_CHECKING" in path.read_text() or _only_type(path)


def _only_type(path: Path) -> bool:
    """`from random import Random` names the type of a generator that is handed in; `random.x()` would be chance."""
    return "import random" not in path.read_text()


def test_there_is_no_import_cycle() -> None:
    graph = {name_of(path): set[str]() for path in modules()}
    for path in modules():
        graph[name_of(path)] = {t for t in imports(path, top_level_only=True) if t in graph and t != name_of(path)}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for target in graph[module]:
                # a package's __init__ that imports its own parts is how packages are made
                if not module.startswith(target + "."):
                    visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_litellm_is_imported_in_one_file_and_there_only_inside_a_function() -> None:
    (only,) = [path for path in modules() if "litellm" in {t.split(".")[0] for t in imports(path)}]
    assert name_of(only) == "gateway.upstream.litellm"
    assert "litellm" not in {t.split(".")[0] for t in imports(only, top_level_only=True)}
