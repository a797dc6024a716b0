"""Every way to get a document wrong that we could think of: each is refused with its place, its path and a hint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled

Compile = Callable[[str], Compiled]


class Broken(NamedTuple):
    """In the valid document, `old` becomes `new`; this is found `at` line:column."""

    case: str
    old: str
    new: str
    at: str
    says: str
    path: str = ""
    hint: str = ""


TABLE = [Broken(**case) for case in yaml.safe_load((Path(__file__).parent / "broken.yaml").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", TABLE, ids=[broken.case for broken in TABLE])
def test_a_broken_document_is_refused_with_place_path_and_hint(case: Broken, valid: str, compile_text: Compile) -> None:
    assert valid.count(case.old) >= 1
    with pytest.raises(DocumentError) as caught:
        compile_text(valid.replace(case.old, case.new, 1))
    shown = str(caught.value)
    matching = [
        problem
        for problem in caught.value.problems
        if f"{problem.line}:{problem.column}" == case.at and case.says in problem.message
    ]
    assert len(matching) == 1, shown
    assert case.path in matching[0].path, shown
    assert case.hint in matching[0].hint, shown
    assert str(matching[0]).startswith(f"doc.yaml:{case.at}: "), shown
    assert "may-see" not in shown


@pytest.mark.parametrize("case", TABLE, ids=[broken.case for broken in TABLE])
def test_a_mistake_does_not_drown_in_its_consequences(case: Broken, valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text(valid.replace(case.old, case.new, 1))
    assert len(caught.value.problems) <= 2, str(caught.value)


def test_the_table_is_as_long_as_promised() -> None:
    assert len(TABLE) >= 40


def test_all_errors_are_told_at_once_in_the_order_of_the_document(valid: str, compile_text: Compile) -> None:
    text = valid.replace("polcy", "policy").replace("20s", "20").replace("request.class", "request.klass")
    text = (
        text.replace("preset: openai", "preset: opnai").replace("${ZETA_KEY}", "${NO_SUCH}").replace("[own]", "[owm]")
    )
    with pytest.raises(DocumentError) as caught:
        compile_text(text)
    problems = caught.value.problems
    assert [problem.line for problem in problems] == [8, 22, 23, 24, 34]
    assert str(caught.value).splitlines() == [str(problem) for problem in problems]


def test_a_hundred_problems_are_enough(compile_text: Compile) -> None:
    text = "models: {a: {}}\n" + "".join(f"wrong{number}: 1\n" for number in range(300))
    with pytest.raises(DocumentError) as caught:
        compile_text(text)
    assert len(caught.value.problems) == 101
    assert "and 202 more problems" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("---\n", "empty"),
        ("~\n", "empty"),
        ("[a, b]\n", "not a mapping"),
        ("hello\n", "not a mapping"),
    ],
)
def test_a_document_that_is_no_mapping_says_what_one_holds(text: str, says: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match=says) as caught:
        compile_text(text)
    assert "models:" in str(caught.value)


def test_emptied_sections_are_told_as_empty(compile_text: Compile) -> None:
    with pytest.raises(DocumentError) as caught:
        compile_text("models:\nbackends: {}\npolicies:\ntenants:\n")
    assert [problem.path for problem in caught.value.problems] == ["models", "backends", "policies"]


def test_an_alias_bomb_is_refused_before_it_goes_off(compile_text: Compile) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DocumentError, match="more than 50000 values") as caught:
        compile_text("\n".join(lines))
    assert caught.value.problems[0].line == 5


@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_bottomless_nesting_is_refused(opening: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="deeper than 32"):
        compile_text(opening * 20_000)


def test_a_text_beyond_bounds_is_refused(compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="too large"):
        compile_text("a: b\n" * 300_000)


@pytest.mark.parametrize(("section", "shape"), [("models", "{{{}}}"), ("policies", "{{{}}}")])
def test_a_thousand_names_are_enough(section: str, shape: str, compile_text: Compile) -> None:
    names = ", ".join(f"n{number}: {{}}" for number in range(1001))
    with pytest.raises(DocumentError, match="1001 entries"):
        compile_text(f"{section}: {shape.format(names)}")


def test_a_text_of_more_than_four_thousand_signs_is_refused(valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="is too long"):
        compile_text(valid.replace("{r2: deepseek-r2}", "{r2: " + "x" * 4097 + "}"))


def test_a_list_of_more_than_a_thousand_is_refused(valid: str, compile_text: Compile) -> None:
    with pytest.raises(DocumentError, match="1001 entries"):
        compile_text(valid.replace("[deepseek-reasoner]", f"[{', '.join(f'a{n}' for n in range(1001))}]"))
