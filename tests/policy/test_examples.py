"""The documents in policies/ are documentation that must not lie: each is loaded, with the presets that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.policy.jsonschema import json_schema
from gateway.policy.load import load
from gateway.policy.schema import Document
from gateway.policy.shapes import ListOf, MapOf, Part, Shape, document
from gateway.upstream import presets

FOLDER = Path(__file__).parents[2] / "policies"
HEADING = "# yaml-language-server: $schema=spillgate.schema.json\n"
DOCUMENTS = [path for path in sorted(FOLDER.glob("*.yaml")) if path.read_text(encoding="utf-8").startswith(HEADING)]


def environment(text: str) -> dict[str, str]:
    return {name: f"made-up-{name.lower()}" for name in re.findall(r"\$\{(\w+)\}", text)}


def test_the_promised_documents_are_there() -> None:
    names = {path.stem for path in DOCUMENTS}
    assert {"r2-surge", "minimal", "self-hosted", "cost-first"} <= names
    for path in FOLDER.glob("*.yaml"):
        is_document = re.search(r"^backends:", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert bool(is_document) == (path in DOCUMENTS), f"{path.name} lacks the line that names its schema"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_an_example_loads_without_a_warning(path: Path) -> None:
    compiled = load(path, environment(path.read_text(encoding="utf-8")), presets.infos())
    assert compiled.plan.models
    assert compiled.warnings == ()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_an_example_is_valid_for_editors(path: Path) -> None:
    Draft202012Validator(json_schema()).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def words(shape: Shape) -> set[str]:
    if isinstance(shape, Part):
        return set(shape.fields).union(*(words(field.shape) for field in shape.fields.values()))
    if isinstance(shape, ListOf):
        return words(shape.item)
    return words(shape.value) if isinstance(shape, MapOf) else set()


def test_the_reference_uses_the_whole_vocabulary() -> None:
    text = (FOLDER / "r2-surge.yaml").read_text(encoding="utf-8")
    assert document().cls is Document
    assert {word for word in words(document()) if not re.search(rf"[\s{{]{word}:", text)} == set()
