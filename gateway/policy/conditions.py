"""`when:` conditions: CEL, checked as far as possible when the document is read, evaluated per request.

The language library costs most of a second to import whole (it brings a terminal front end), its compiled core
twenty milliseconds: only the core is loaded, and only for documents that have a condition. It tells which names an
expression uses but not which fields, so fields are found in the text, with strings and comments blanked out.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from gateway.core.nouns import Condition, Request
from gateway.policy.diagnose import listed, nearest

LONGEST = 1000
BYTES_PER_TOKEN = 3.5

FIELDS: dict[str, Callable[[Request], object]] = {
    "model": lambda request: request.model,
    "class": lambda request: request.class_,
    "tenant": lambda request: request.tenant,
    "stream": lambda request: request.stream,
    "prompt_tokens": lambda request: int(request.prompt_bytes / BYTES_PER_TOKEN),
    "max_tokens": lambda request: request.max_tokens,
}
"""What a condition may look at. `prompt_tokens` is an estimate, `max_tokens` is null when the client gave none."""

_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes", "type", "dyn"}
)
_STRINGS = re.compile(
    r"//[^\n]*|[bBrR]{0,2}(?:'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\")", re.DOTALL
)
_REQUEST = re.compile(r"(?<![\w.])request\b(?:\s*\.\s*([A-Za-z_]\w*))?")
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_SYNTAX = re.compile(r"ERROR: <input>:(\d+):(\d+): ([^\n]*)")


class ConditionError(Exception):
    """`message` says what is wrong with an expression, `hint` what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def compile_condition(text: str) -> Condition:
    """The expression as a function that never raises. Raises `ConditionError`."""
    if len(text) > LONGEST:
        raise ConditionError("the condition is too long", f"at most {LONGEST} characters")
    try:
        program = _library().compile(text)
    except Exception as error:  # noqa: BLE001 - a foreign parser; whatever it raises means: not an expression
        raise ConditionError(f"not a CEL expression: {_first_line(str(error))}") from None
    fields = _check_names(text, program)
    condition = _Condition(program, fields)
    _try_out(condition)
    return condition


class _Condition:
    __slots__ = ("_fields", "_program", "_source")

    def __init__(self, program: Any, fields: tuple[str, ...]) -> None:
        self._program = program
        self._source: str = program.source
        self._fields = tuple((name, FIELDS[name]) for name in fields)

    def __eq__(self, other: object) -> bool:
        """Conditions with one text are the same, so that a reload can tell what changed."""
        return isinstance(other, _Condition) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self._source)

    def __call__(self, request: Request) -> bool:
        try:
            return self.evaluate(request) is True
        except Exception:  # noqa: BLE001 - a condition that fails is false; that is its contract
            return False

    def evaluate(self, request: Request) -> object:
        return self._program.execute({"request": {name: read(request) for name, read in self._fields}})


def _check_names(text: str, program: Any) -> tuple[str, ...]:
    """The fields of the request that an expression looks at."""
    bare = _STRINGS.sub(" '' ", text)
    fields = set()
    for found in _REQUEST.finditer(bare):
        field = found[1]
        if not field:
            raise ConditionError("`request` can only be used with a field", f"such as request.class; {_fields()}")
        if field not in FIELDS:
            raise ConditionError(f"a request has no field '{field[:40]}'", nearest(field, FIELDS))
        fields.add(field)
    unknown = sorted(set(program.variables()) - {"request"} - set(_BOUND.findall(bare)))
    if unknown:
        name = unknown[0][:40]
        hint = f"did you mean 'request.{name}'?" if name in FIELDS else _fields()
        raise ConditionError(f"unknown name '{name}'", hint)
    for name in program.functions():
        if name[0].isalpha() and name not in _FUNCTIONS:
            raise ConditionError(f"unknown function '{name[:40]}'", nearest(name, sorted(_FUNCTIONS)))
    return tuple(sorted(fields))


def _try_out(condition: _Condition) -> None:
    """Evaluate it for a few requests: it must be able to answer true or false, and must not always fail."""
    failure: Exception | None = None
    answered = False
    for sample in _SAMPLES:
        try:
            answer = condition.evaluate(sample)
        except Exception as error:  # noqa: BLE001 - foreign code, see above
            failure = error
            continue
        answered = True
        if not isinstance(answer, bool):
            shown = "null" if answer is None else type(answer).__name__
            raise ConditionError(f"the condition gives {shown}", "expected true or false, such as from ==, < or in")
    if failure is not None and not answered:
        raise ConditionError(f"the condition always fails: {_first_line(str(failure))}")


def _sample(class_: Any, prompt_bytes: int, max_tokens: int | None, stream: bool) -> Request:
    return Request("sample", "sample", "sample", class_, prompt_bytes, max_tokens, stream, arrived=0.0)


_SAMPLES = (
    _sample("interactive", 1000, 1000, stream=True),
    _sample("batch", 1_000_000, None, stream=False),
    _sample("standard", 0, 1, stream=False),
)


def _fields() -> str:
    return "expected " + listed([f"request.{name}" for name in FIELDS])


def _first_line(text: str) -> str:
    found = _SYNTAX.search(text)
    if found is None:
        return text.partition("\n")[0].partition(". ")[0][:200]
    said = found[3].removeprefix("Syntax error: ").partition(" expecting ")[0]
    return f"{said[:120]} at character {int(found[2])}"


@cache
def _library() -> ModuleType:
    name = "cel.cel"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("cel")
    spec = package and importlib.machinery.PathFinder.find_spec(name, package.submodule_search_locations)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
