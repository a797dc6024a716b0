"""The image and the compose file, as far as they can be judged without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from gateway.policy.load import load
from gateway.settings import read
from gateway.upstream import presets

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PINNED = re.compile(r"[\w./-]+:v?\d+(\.\d+)+(-\w+)?")


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of this name, continued lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.removeprefix(f"{name} ").strip() for line in joined.splitlines() if line.startswith(f"{name} ")]


def interpolated(word: object) -> str:
    """As compose does where no variable is set."""
    return re.sub(r"\$\{\w+(?::-(.*?))?\}", lambda found: found.group(1) or "", str(word))


def environment(service: str) -> dict[str, str]:
    return {name: interpolated(word) for name, word in COMPOSE["services"][service]["environment"].items()}


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    found = str(beside) if beside.exists() else shutil.which("hadolint")
    if found is None:
        pytest.skip("hadolint is not installed: the Dockerfile was not linted")
    told = subprocess.run([found, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


def test_the_image_runs_as_a_number_and_asks_itself_how_it_is() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instructions("USER")[-1])
    assert instructions("HEALTHCHECK")[-1].endswith('CMD ["spillgate", "healthcheck"]')
    assert instructions("ENTRYPOINT") == ['["spillgate"]']
    assert instructions("CMD") == ['["serve"]']


def test_every_variable_of_the_image_is_one_that_we_read() -> None:
    ours = dict(re.findall(r"\b(HOST|PORT|SPILLGATE_\w+)=(\S+)", DOCKERFILE))
    settings = read(ours)
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert ours["SPILLGATE_CONFIG"] == "/etc/spillgate"


def test_what_the_build_copies_exists_and_is_let_in_and_nothing_else_is() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {word for line in instructions("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert copied == set(allowed)
    assert all((ROOT / name).exists() for name in copied)
    assert not [name for name in allowed if any(fnmatch(name, bad) for bad in ("*.env", ".git*", "tests*", "*key*"))]


def test_the_build_takes_only_what_the_lock_names() -> None:
    (build,) = [line for line in instructions("RUN") if "uv build" in line]
    assert "--build-constraints requirements.lock --require-hashes" in build
    assert '--constraints "${LOCK}"' in build
    rehearsed = (ROOT / "deploy/rehearse").read_text()
    assert "--build-constraints requirements.lock --require-hashes" in rehearsed
    assert "--constraints requirements.lock" in rehearsed


def test_the_compose_file_is_valid_by_the_specifications_own_schema() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(COMPOSE)] == []
    broken = {**COMPOSE, "services": {"gateway": {"imagine": "x"}}}
    assert list(Draft7Validator(schema).iter_errors(broken))


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_pinned_and_hardened_and_listens_on_this_machine_only(name: str) -> None:
    service = COMPOSE["services"][name]
    assert PINNED.fullmatch(service["image"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    for mount in service.get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_what_is_waited_for_has_a_health_check() -> None:
    for service in COMPOSE["services"].values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in COMPOSE["services"][other]


def test_the_drain_is_over_before_compose_loses_patience() -> None:
    settings = read(environment("gateway"))
    patience = float(COMPOSE["services"]["gateway"]["stop_grace_period"].removesuffix("s"))
    assert settings.drain_notice + settings.drain_seconds + 10 <= patience


def test_it_works_without_a_key_of_any_cloud(tmp_path: Path) -> None:
    env = environment("gateway")
    for mount in COMPOSE["services"]["gateway"]["volumes"]:
        source, target, _ = mount.split(":")
        assert Path(target).parent == Path(env["SPILLGATE_CONFIG"])
        shutil.copy(ROOT / source, tmp_path)
    compiled = load(tmp_path, env, presets.infos())
    assert compiled.warnings == ()
    assert [tenant.name for tenant in compiled.tenants] == ["demo"]
    fleet = yaml.safe_load((ROOT / "policies/clouds-demo.yaml").read_text())
    ports = {cloud["port"] for cloud in fleet["clouds"].values()}
    assert {f"http://clouds:{port}/v1" for port in ports} == {c.base_url for c in compiled.connections.values()}
    assert (
        COMPOSE["configs"]["admin_key"]["content"]
        == COMPOSE["services"]["gateway"]["environment"]["SPILLGATE_ADMIN_KEY"]
    )
