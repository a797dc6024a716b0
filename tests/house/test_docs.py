"""What is written is true: tables, commands and examples in the README are compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli import VERBS
from gateway.policy.load import load, load_text
from gateway.testing import metric_names
from gateway.upstream import presets

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def presets_table() -> str:
    """The README's table of presets, two to a row."""
    cells = []
    for name in presets.names():
        if presets.infos()[name].driver != "http":
            continue
        preset = presets.load(name)
        where = f"`{preset.key_env}`" if preset.base_url else "your own server: `base_url`"
        cells.append(f"| `{name}` ({preset.title}) | {where} ")
    rows = [left + right + "|" for left, right in zip(cells[::2], cells[1::2], strict=True)]
    return "\n".join(["| preset | key | preset | key |", "|---|---|---|---|", *rows])


def section(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, name
    return found.group(1)


def test_the_table_of_presets_is_the_presets() -> None:
    assert section("presets") == presets_table()


def test_every_command_in_the_readme_exists_and_every_verb_is_in_it() -> None:
    named = set(re.findall(r"spillgate ([a-z]+)", README)) - {"serves"}
    assert named <= set(VERBS)
    assert {verb for verb in VERBS if f"spillgate {verb}" not in README} <= {"healthcheck", "version"}


def test_make_targets_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_first_policy_of_the_readme_is_valid() -> None:
    (document,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    compiled = load_text(document, {"ARK_API_KEY": "sk-made-up-key"}, presets.infos())
    assert set(compiled.plan.backends) == {"own-h20", "ark"}
    assert compiled.warnings == ()


def test_the_table_of_metrics_is_what_metrics_say() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metric_names.table()


def test_links_in_the_readme_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["operate", "secure", "recover"])
def test_links_and_tests_that_the_handbooks_name_are_there(name: str) -> None:
    text = (ROOT / f"docs/{name}.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / target).exists(), target
    for path in re.findall(r"`((?:tests|docs|policies)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_every_variable_that_is_read_is_in_the_handbook_and_no_other() -> None:
    read = set(re.findall(r'"((?:SPILLGATE_\w+)|PORT|HOST|REDIS_URL)"', (ROOT / "gateway/settings.py").read_text()))
    table = (ROOT / "docs/operate.md").read_text().partition("## Variables")[2].partition("\n## ")[0]
    assert set(re.findall(r"`((?:SPILLGATE_\w+)|PORT|HOST|REDIS_URL)`", table)) == read | {"SPILLGATE_CONFIG"}


@pytest.mark.parametrize(
    "name", sorted(p.name for p in ROOT.glob("policies/*.yaml") if not p.name.startswith("clouds-"))
)
def test_every_example_document_loads(name: str) -> None:
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "policies" / name).read_text()))
    env = {v: "http://127.0.0.1:1/v1" if v.endswith("_URL") else f"sk-made-up-{v.lower()}" for v in variables}
    assert load(ROOT / "policies" / name, env, presets.infos()).plan.models


def test_nothing_committed_names_a_machine_or_a_secret() -> None:
    for path in [*ROOT.glob("*.lock"), *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("policies/*")]:
        text = path.read_text()
        assert "/work/" not in text, path
        assert "extra-index-url" not in text, path
        assert "file://" not in text, path
