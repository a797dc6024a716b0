"""How a problem is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.errors import DocumentError
from gateway.policy import tree
from gateway.policy.diagnose import Place, Problem, Problems, dotted, nearest
from gateway.policy.walk import read

HERE = Place("doc.yaml", 3, 5)


def test_a_problem_is_one_line_that_editors_can_follow() -> None:
    problem = Problem("doc.yaml", 3, 5, "models.r2", "unknown key 'polcy'", "did you mean 'policy'?")
    assert str(problem) == "doc.yaml:3:5: models.r2: unknown key 'polcy' (did you mean 'policy'?)"
    assert str(Problem("doc.yaml", 1, 1, "", "empty")) == "doc.yaml:1:1: empty"


def test_a_problem_is_plain_data_for_machines() -> None:
    assert Problem("doc.yaml", 3, 5, "a", "b", "c").as_dict() == {
        "file": "doc.yaml",
        "line": 3,
        "column": 5,
        "path": "a",
        "message": "b",
        "hint": "c",
    }


def test_paths_are_dotted_and_lists_have_numbers() -> None:
    assert dotted(("policies", "surge", "tiers", 0, "when")) == "policies.surge.tiers[0].when"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("word", "names", "hint"),
    [
        ("polcy", ["policy", "aliases"], "did you mean 'policy'?"),
        ("POLICY", ["policy"], "did you mean 'policy'?"),
        ("zzz", ["policy"], "expected 'policy'"),
        ("zzz", ["policy", "queue"], "expected one of policy or queue"),
        ("zzz", [], "there is none"),
        ("zzz", [f"name-{number}" for number in range(13)], ""),
    ],
)
def test_the_nearest_name_or_all_of_few(word: str, names: list[str], hint: str) -> None:
    assert nearest(word, names) == hint


def test_problems_are_sorted_and_told_once() -> None:
    problems = Problems()
    problems.error(HERE, ("b",), "second")
    problems.error(HERE._replace(line=2), ("a",), "first")
    problems.error(HERE, ("b",), "second")
    with pytest.raises(DocumentError) as caught:
        problems.stop_if_any()
    assert [problem.message for problem in caught.value.problems] == ["first", "second"]


def test_without_errors_nothing_is_raised() -> None:
    problems = Problems()
    problems.warn(HERE, (), "only a warning")
    problems.stop_if_any()
    assert len(problems.warnings) == 1


def test_the_longest_secret_is_hidden_first() -> None:
    problems = Problems()
    problems.secrets = {"secret-a": "${A}", "secret-a-longer": "${B}", "abc": "${C}"}
    problems.error(HERE, (), "secret-a-longer, secret-a, abc", "secret-a")
    assert [str(problem) for problem in problems.told(problems.errors)] == ["doc.yaml:3:5: ${B}, ${A}, abc (${A})"]


def test_a_place_that_was_not_written_is_that_of_what_is_around_it(valid: str, env: Mapping[str, str]) -> None:
    root = tree.compose(valid, "doc.yaml", Problems())
    assert isinstance(root, tree.Mapping)
    found = read(root, env, Problems())
    assert found.at("models", "r2", "nothing", 3) == found.at("models", "r2") == Place("doc.yaml", 2, 3)
    assert found.value_at("currency") == found.at() == Place("doc.yaml", 1, 1)
