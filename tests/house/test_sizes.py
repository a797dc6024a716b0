"""Small rooms. The limits live here and only tighten."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import quantiles

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION = 60
NINTH_DECILE = 30
LONGEST_FILE = 400
FILES = sorted([*ROOT.glob("gateway/**/*.py"), *ROOT.glob("tests/**/*.py")])


def lengths(path: Path) -> list[tuple[str, int]]:
    """Every function and its length without its docstring."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = (first.end_lineno or 0) - first.lineno + 1 if is_doc else 0
            found.append((node.name, (node.end_lineno or 0) - node.lineno + 1 - doc))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_and_no_function_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    assert [f"{name}: {n}" for name, n in lengths(path) if n > LONGEST_FUNCTION] == []


def test_nine_functions_of_ten_fit_a_screen() -> None:
    sizes = [n for path in FILES if "gateway" in path.parts for _, n in lengths(path)]
    assert quantiles(sizes, n=10)[-1] <= NINTH_DECILE
