"""Tier 3: the schemas say where they come from, and are what their sources say (make terraform-schema asks them)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.terraform import extract
from tests.terraform.ranges import outside
from tests.terraform.schema import SCHEMAS, Attribute, Block, Provider, all_providers, block
from tests.terraform.stub import fields, message

PROVIDERS = {provider.address: provider for provider in all_providers()}
SOURCES = yaml.safe_load((SCHEMAS.parent / "sources.yaml").read_text())


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_a_schema_names_its_sources_and_their_versions(provider: Provider) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", provider.version)
    assert provider.sources and all(re.search(r"\d|\.com", source) for source in provider.sources)
    assert any(provider.version.rsplit(".", 1)[0] in source for source in provider.sources)


@pytest.mark.parametrize("name", SOURCES)
def test_a_schema_holds_what_its_corrections_say(name: str) -> None:
    written = json.loads((SCHEMAS / f"{name}.json").read_text())["resources"]
    assert set(written) == set(SOURCES[name]["resources"])
    for resource, said in SOURCES[name]["resources"].items():
        again = json.loads(json.dumps(written[resource]))
        for path, change in said.get("amend", {}).items():
            if not isinstance(change, str):
                *through, last = path.split(".")
                names = {k.split(".")[-1]: v for k, v in said["amend"].items() if isinstance(v, str)}
                extract.amend(again, {".".join([*(names.get(s, s) for s in through), names.get(last, last)]): change})
        assert again == written[resource], resource


def test_a_correction_that_fits_nothing_is_an_error() -> None:
    with pytest.raises(AssertionError, match="nothing to rename"):
        extract.amend({"attributes": {}}, {"no_such": "name"})


def test_resources_of_a_package_are_read_with_types_and_what_must_be_given(tmp_path: Path) -> None:
    folder = tmp_path / "pulumi_made_up" / "m"
    folder.mkdir(parents=True)
    (folder / "_inputs.py").write_text(
        "class ThingPartArgs:\n  def __init__(__self__, *,\n"
        "    sizes: pulumi.Input[Sequence[pulumi.Input[_builtins.int]]]): ...\n"
    )
    (folder / "thing.py").write_text(
        "class ThingArgs:\n  def __init__(__self__, *, zone: pulumi.Input[_builtins.str],\n"
        "    parts: Optional[pulumi.Input[Sequence[pulumi.Input['ThingPartArgs']]]] = None,\n"
        "    tags: pulumi.Input[Optional[Mapping[str, pulumi.Input[_builtins.str]]]] = None): ...\n"
        "class _ThingState:\n  def __init__(__self__, *, zone: pulumi.Input[Optional[_builtins.str]] = None,\n"
        "    address: pulumi.Input[Optional[_builtins.str]] = None): ...\n"
    )
    found = extract.Pulumi(folder.parent).resource("m/thing:Thing")
    assert found["attributes"] == {
        "zone": {"type": "string", "required": True},
        "tags": {"type": ["map", "string"]},
        "address": {"type": "string", "exported": True},
        "id": {"type": "string", "exported": True},
    }
    assert found["blocks"] == {"parts": {"attributes": {"sizes": {"type": ["list", "number"], "required": True}}}}


@pytest.mark.parametrize(
    ("allowed", "inside", "beyond"),
    [
        ({"min": 1, "max": 900}, [1, 900], [0, 901]),
        ({"min": 128, "max": 3072, "step": 128}, [128, 3072], [127, 192]),
        ({"min": 0.05, "max": 16, "step": 0.05}, [0.05, 0.15, 16], [0.07, 16.05]),
        ({"one_of": [512, 10240]}, [512, "10240"], [513]),
        ({"matches": "[a-z]+"}, ["abc"], ["a1", ""]),
    ],
)
def test_ranges_take_what_is_inside_and_name_what_is_not(allowed: Any, inside: list[Any], beyond: list[Any]) -> None:
    one = Block({"x": Attribute("number", range=allowed)}, {})
    assert [outside(one, {"x": value}) for value in [*inside, None]] == [[]] * (len(inside) + 1)
    assert all(outside(one, {"x": value})[0].startswith("x: ") for value in beyond)


def test_ranges_are_looked_for_inside_blocks_too() -> None:
    whole = block({"blocks": {"b": {"attributes": {"x": {"type": "number", "range": {"min": 1, "max": 2}}}}}})
    assert outside(whole, {"b": [{"x": 1}, {"x": 3}]}) == ["b.x: 3 is not from 1 to 2"]


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2**40) | st.binary(max_size=300)), unique_by=lambda f: f[0])
)
def test_a_message_of_the_plugin_protocol_is_read_as_it_was_written(written: list[tuple[int, int | bytes]]) -> None:
    assert fields(message(*written)) == dict(written)
