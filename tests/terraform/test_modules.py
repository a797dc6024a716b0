"""Tier 1, everywhere: the modules are held to the providers' schemas, the documented ranges and our own rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from gateway.cli import document
from gateway.policy.load import load, load_text
from gateway.settings import read
from gateway.upstream import presets
from tests.terraform import check, docs, hcl
from tests.terraform.hcl import Module
from tests.terraform.schema import all_providers

MODULES = {module.name: module for module in hcl.modules()}
PLATFORMS = ["alicloud-fc", "alicloud-sae", "tencent-scf", "kubernetes"]
EXAMPLES = {name: hcl.load(hcl.ROOT / "examples" / name) for name in PLATFORMS}
SHARED_VARIABLES = {
    "name", "image", "policy", "policy_path", "secrets", "environment", "admin_key", "redis_url", "port", "memory",
    "max_instances", "streams_per_instance", "tags",
}  # fmt: skip
SHARED_OUTPUTS = {"url", "internal_url", "redis_host", "redis_port", "egress_address"}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)


@every_module
def test_nothing_is_wrong_with_a_module(module: Module) -> None:
    assert check.problems(module) == []


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_nothing_is_wrong_with_an_example(example: Module) -> None:
    assert check.problems(example) == []


@every_module
def test_every_variable_and_output_is_described_and_every_variable_typed_and_used(module: Module) -> None:
    parts = [module.resources, module.outputs, module.locals, module.modules, module.variables]
    everything = " ".join(hcl.strings(parts))
    for name, variable in module.variables.items():
        assert len(hcl.text(variable["description"])) > 10, name
        assert variable["type"], name
        assert re.search(rf"var\.{name}\b", everything), f"{name} is not used"
    for name, output in module.outputs.items():
        assert len(hcl.text(output["description"])) > 5, name


@every_module
def test_what_is_secret_is_sensitive(module: Module) -> None:
    secret = re.compile(r"password|^secrets$|_key$|redis_url|^url$")
    for name, variable in module.variables.items():
        if secret.search(name):
            assert variable.get("sensitive") is True, name
    told = {name: " ".join(hcl.strings(output["value"])) for name, output in module.outputs.items()}
    for name, text in told.items():
        if re.search(r"var\.(\w*password|secrets|admin_key|redis_url|certificate_key)\b|module\.redis\S*\.url", text):
            assert module.outputs[name].get("sensitive") is True, name


@every_module
def test_one_provider_pinned_and_nothing_made_up_at_random(module: Module) -> None:
    (required,) = module.terraform["required_providers"]
    providers = {name: body for name, body in required.items() if name != "__is_block__"}
    assert len(providers) == 1
    assert module.terraform["required_version"] == '">= 1.9"'
    ((name, body),) = providers.items()
    pinned = {key.strip('"'): hcl.text(value) for key, value in body.items() if key != "__is_block__"}
    (described,) = [p for p in all_providers() if p.address == pinned["source"]]
    version = pinned["version"]
    assert version.startswith("~> ") and described.version.startswith(re.split(r"[ ,]", version)[1]), (name, version)


def test_redis_is_never_open_to_everybody_and_never_paid_in_advance() -> None:
    text = "".join(path.read_text() for path in hcl.ROOT.glob("*/main.tf"))
    accepted = re.findall(r'action\s*=\s*"ACCEPT"\s*\n\s*cidr_block\s*=\s*"0\.0\.0\.0/0"', text)
    assert len(accepted) == 1, "only what leaves the security group may go anywhere"
    assert "security_ips       = var.allowed_cidr" in text
    assert 'payment_type       = "PayAsYouGo"' in text and 'charge_type        = "POSTPAID"' in text


@pytest.mark.parametrize("name", PLATFORMS)
def test_platforms_have_one_interface(name: str) -> None:
    module, first = MODULES[name], MODULES["alicloud-fc"]
    assert set(module.variables) >= SHARED_VARIABLES
    assert set(module.outputs) >= SHARED_OUTPUTS
    for variable in SHARED_VARIABLES - {"port", "memory", "max_instances", "streams_per_instance", "tags"}:
        ours, theirs = module.variables[variable], first.variables[variable]
        assert {**ours} == {**theirs}, f"{variable} is not the same everywhere"


@pytest.mark.parametrize("name", PLATFORMS)
def test_modules_set_the_words_that_the_gateway_reads(name: str) -> None:
    text = (hcl.ROOT / name / "main.tf").read_text()
    words = {"HOST", "PORT", "REDIS_URL", "SPILLGATE_CONFIG", "SPILLGATE_REPLICAS", "SPILLGATE_ADMIN_KEY"}
    assert words | {"SPILLGATE_LOG"} <= set(re.findall(r"\b(HOST|PORT|REDIS_URL|SPILLGATE_[A-Z_]+)\b(?=\s+=)", text))
    told = {path.read_text() for path in (hcl.ROOT.parent / "gateway").rglob("*.py")}
    for word in set(re.findall(r"\bSPILLGATE_[A-Z_]+\b", text)):
        assert any(word in source for source in told), f"the gateway reads no {word}"
    settings = read({"HOST": "0.0.0.0", "PORT": "9000", "REDIS_URL": "redis://h", "SPILLGATE_REPLICAS": "11"})
    assert (settings.host, settings.port, settings.redis_url, settings.replicas) == ("0.0.0.0", 9000, "redis://h", 11)


def _routes() -> Iterator[str]:
    for path in hcl.ROOT.glob("*/main.tf"):
        yield from re.findall(r'(?:(?<!mount_)path|http_get_url)\s*=\s*"(/[a-z]+)"', path.read_text())


def test_probes_ask_for_routes_that_exist() -> None:
    served = (hcl.ROOT.parent / "gateway" / "edge" / "routes.py").read_text()
    assert {*_routes()} == {"/livez", "/readyz"}
    assert all(f'Route("{route}"' in served for route in _routes())


def test_the_autoscaler_s_metrics_exist() -> None:
    telemetry = "".join(path.read_text() for path in (hcl.ROOT.parent / "gateway" / "telemetry").glob("*.py"))
    named = set(re.findall(r"spillgate_(?:in_flight|waiting)\b", (hcl.ROOT / "kubernetes" / "outputs.tf").read_text()))
    assert named == {"spillgate_in_flight", "spillgate_waiting"}
    assert all(f'"{metric}"' in telemetry for metric in named)


def test_the_gateway_takes_a_document_on_one_line_for_text_and_a_place_for_a_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY", "ACME_KEY"):
        monkeypatch.setenv(name, f"sk-made-up-{name.lower()}")
    text = (hcl.ROOT / "examples" / "alicloud-fc" / "policy.yaml").read_text()
    (tmp_path / "policy.yaml").write_text(text)
    for word, files in ((json.dumps(yaml.safe_load(text)), ()), (str(tmp_path), (tmp_path / "policy.yaml",))):
        monkeypatch.setenv("SPILLGATE_CONFIG", word)
        assert document.files(None) == files
        assert set(document.read(None).plan.models) == {"deepseek-r2"}


DOCUMENTS = [p for p in sorted(hcl.ROOT.parent.glob("policies/*.yaml")) if not p.name.startswith("clouds")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=[p.name for p in DOCUMENTS])
def test_a_document_on_one_line_says_the_same(path: Path) -> None:
    text = path.read_text()
    names = set(re.findall(r"\$\{(\w+)", text))
    env = {name: "http://127.0.0.1:1/v1" if name.endswith("_URL") else f"sk-made-up-{name.lower()}" for name in names}
    one_line = json.dumps(yaml.safe_load(text), sort_keys=True)  # as jsonencode(yamldecode(…)), then replace(…)
    one_line = re.sub(r'"([0-9][0-9_]*(?:\.[0-9]+)?[kM]|[0-9]+(?:_[0-9]+)+)"', r"\1", one_line)
    first, second = load_text(text, env, presets.infos()), load_text(one_line, env, presets.infos())
    assert replace(first.plan, version="") == replace(second.plan, version="")  # a digest of the text


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_examples_documents_load(name: str) -> None:
    env = {key: f"sk-made-up-{key.lower()}" for key in ("ARK_API_KEY", "DEEPSEEK_API_KEY", "ACME_KEY")}
    assert load(hcl.ROOT / "examples" / name / "policy.yaml", env, presets.infos()).warnings == ()


@every_module
def test_a_readme_documents_every_variable_and_output_as_it_is(module: Module) -> None:
    path = module.folder / "README.md"
    assert "<!-- variables -->" in path.read_text()
    assert docs.written(path, docs.tables(module)) == path.read_text(), "run: python -m tests.terraform.docs"


def test_links_in_the_readmes_lead_somewhere() -> None:
    for path in [*hcl.ROOT.glob("README.md"), *hcl.ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_readme_says_that_nothing_was_applied() -> None:
    for path in [
        hcl.ROOT.parent / "README.md",
        hcl.ROOT / "README.md",
        *(hcl.ROOT / n / "README.md" for n in PLATFORMS),
    ]:
        assert re.search(r"applied to a real\s+account", path.read_text()), path
