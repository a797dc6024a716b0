"""Tiers 0 and 2: Terraform itself, where it is installed, on providers that know only their schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.policy.load import load_text
from gateway.upstream import presets
from tests.terraform import hcl
from tests.terraform.bounds import BASE, bounds
from tests.terraform.workbench import Workbench, literal

NAMES = [module.name for module in hcl.modules()]
EXAMPLES = sorted(path.name for path in (hcl.ROOT / "examples").iterdir())
every_module = pytest.mark.parametrize("name", NAMES)


def test_everything_is_written_in_the_one_form(bench: Workbench) -> None:
    result = bench.run(".", "fmt", "-check", "-diff", "-recursive")
    assert result.ok, result.said


@every_module
def test_a_module_is_valid(bench: Workbench, name: str) -> None:
    assert bench.validate(name).errors == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid(bench: Workbench, name: str) -> None:
    assert bench.validate(f"examples/{name}").errors == ()


@every_module
def test_a_module_s_own_tests_pass(bench: Workbench, name: str) -> None:
    result = bench.run(name, "test", "-no-color")
    assert result.ok, result.said


@every_module
def test_the_documented_ranges_are_taken_and_nothing_beyond(bench: Workbench, name: str) -> None:
    assert [file for file, passed in bench.tests(name, bounds(name)).items() if not passed] == []


@pytest.fixture
def plan(bench: Workbench) -> Iterator[str]:
    """A plan of the flagship, not mocked: what a user sees."""
    given = bench.folder / "alicloud-fc" / "made-up.auto.tfvars.json"
    values = {
        **BASE["alicloud-fc"],
        "redis_url": "redis://:made-up-redis@10.0.0.9",
        "secrets": {"ACME_KEY": "made-up-secret"},
        "admin_key": "made-up-admin-made-up-admin",
    }
    given.write_text(json.dumps(values))
    yield bench.run("alicloud-fc", "plan", "-no-color", "-input=false").said
    given.unlink()


def test_a_plan_shows_no_secret(plan: str) -> None:
    assert "Plan: " in plan, plan
    assert "made-up-redis" not in plan and "made-up-secret" not in plan and "made-up-admin" not in plan
    assert "environment_variables = (sensitive value)" in " ".join(plan.split())


DOCUMENTS = [p for p in sorted(hcl.ROOT.parent.glob("policies/*.yaml")) if not p.name.startswith("clouds")]


@pytest.mark.parametrize("name", ["alicloud-fc", "tencent-scf"])
def test_a_document_on_one_line_says_the_same(bench: Workbench, name: str) -> None:
    """What Terraform makes of every example document, by the module's own words, compiles to the same plan."""
    (words,) = re.findall(
        r"document\s+= .*? : (replace\(.*?\n  \))\n", (hcl.ROOT / name / "main.tf").read_text(), re.DOTALL
    )
    for path in DOCUMENTS:
        one_line = bench.console(words.replace("var.policy", f"file({literal(str(path))})").replace("\n", " "))
        text = path.read_text()
        names = set(re.findall(r"\$\{(\w+)", text))
        env = {n: "http://127.0.0.1:1/v1" if n.endswith("_URL") else f"sk-made-up-{n.lower()}" for n in names}
        assert "\n" not in one_line
        first, second = (load_text(t, env, presets.infos()).plan for t in (text, one_line))
        assert replace(first, version="") == replace(second, version=""), path
