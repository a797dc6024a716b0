"""The JSON Schema says what the reader says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gateway.policy.jsonschema import json_schema

COMMITTED = Path(__file__).parents[2] / "policies" / "spillgate.schema.json"
VALIDATOR = Draft202012Validator(json_schema())


def test_the_committed_file_is_in_step() -> None:
    fresh = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    assert COMMITTED.read_text(encoding="utf-8") == fresh, (
        "write it again: spillgate schema > policies/spillgate.schema.json"
    )


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_field_is_described_and_nothing_else_is_allowed() -> None:
    schema = json_schema()
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        assert part["description"]
        assert all(field["description"] for field in part["properties"].values())


def test_the_valid_document_is_valid(valid: str) -> None:
    VALIDATOR.validate(yaml.safe_load(valid))


def test_defaults_are_written_as_one_would_write_them() -> None:
    defs = json_schema()["$defs"]
    assert defs["Queue"]["properties"]["max_wait"]["default"] == "20s"
    assert defs["Queue"]["properties"]["max_length"]["default"] == 1000
    assert defs["Server"]["properties"]["max_body"]["default"] == "16MiB"
    assert defs["Tenant"]["properties"]["class"]["default"] == "standard"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("policy: surge", "polcy: surge"),
        ("streams: 48", "streams: 0"),
        ("streams: 48", "streams: many"),
        ("20s", "20"),
        ("16MiB", "16 bytes"),
        ("least-loaded", "last-loaded"),
        ("[own]", "[]"),
        ("budget: 0.1", "budget: 10"),
        ("  zeta:", "  'ze ta':"),
        ("    preset: openai\n", ""),
        ("preset: openai", "driver: grpc"),
    ],
)
def test_an_editor_marks_what_the_reader_refuses(old: str, new: str, valid: str) -> None:
    assert not VALIDATOR.is_valid(yaml.safe_load(valid.replace(old, new, 1)))


@pytest.mark.parametrize("limit", ["15k", "1_200_000", '"${RPM}"', "1.2M"])
def test_an_editor_accepts_what_the_reader_accepts(limit: str, valid: str) -> None:
    VALIDATOR.validate(yaml.safe_load(valid.replace("streams: 48", f"streams: {limit}")))


def test_an_editor_wants_a_preset_or_a_driver(valid: str) -> None:
    VALIDATOR.validate(yaml.safe_load(valid.replace("preset: openai", "driver: litellm")))
