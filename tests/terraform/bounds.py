"""Writes Terraform tests of the documented ranges (`limits.yaml`): just inside is taken, just outside is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.terraform import check, hcl
from tests.terraform.workbench import literal

_PLATFORM = {
    "image": "registry.example.cn/infra/spillgate:0.1.0",
    "policy": "models: {r2: {}}\nbackends: {}\ntenants: {acme: {keys: ['${ACME_KEY}']}}\n",
    "secrets": {"ACME_KEY": "sk-made-up"},
    "admin_key": "made-up-made-up-made-up-made-up",
    "redis_url": "redis://10.0.0.9:6379",
}
_REDIS = {
    "name": "spillgate",
    "password": "Made-up+pass1",
    "vpc_id": "vpc-1",
    "subnet_id": "subnet-1",
    "zone": "zone-1",
}
BASE: Mapping[str, Mapping[str, Any]] = {
    "alicloud-fc": {**_PLATFORM, "zones": ["cn-beijing-h"]},
    "alicloud-sae": {**_PLATFORM, "zones": ["cn-beijing-h"]},
    "tencent-scf": {**_PLATFORM, "zone": "ap-guangzhou-6"},
    "kubernetes": _PLATFORM,
    "network-alicloud": {"name": "spillgate", "zones": ["cn-beijing-h"]},
    "network-tencent": {"name": "spillgate", "zone": "ap-guangzhou-6"},
    "redis-alicloud": {**_REDIS, "allowed_cidr": "10.20.0.0/16"},
    "redis-tencent": {**_REDIS, "security_group_id": "sg-1"},
}
# What another variable must be for a value at the end of a range to be taken: sizes come in pairs.
_WITH: Mapping[tuple[str, str, Any], Mapping[str, Any]] = {
    ("alicloud-fc", "cpu", 0.05): {"memory": 128},
    ("alicloud-fc", "cpu", 16): {"memory": 32768},
    ("alicloud-fc", "memory", 128): {"cpu": 0.1},
    ("alicloud-fc", "memory", 32768): {"cpu": 16},
    ("alicloud-fc", "memory", 64): {"cpu": 0.05},
    ("alicloud-fc", "memory", 32832): {"cpu": 16},
    ("alicloud-fc", "memory", 224): {"cpu": 0.1},
    ("alicloud-fc", "min_instances", 100): {"max_instances": 100},
    ("alicloud-fc", "min_instances", 101): {"max_instances": 101},
    ("alicloud-fc", "max_instances", 1): {"min_instances": 1},
    ("alicloud-sae", "max_instances", 1): {"min_instances": 1},
    ("kubernetes", "max_instances", 1): {"min_instances": 1},
    **{("alicloud-sae", "cpu", c): {"memory": int(c * 2048)} for c in (0.5, 1, 2, 4, 8, 16, 32)},
}


def bounds(module: str) -> dict[str, str]:
    """Tests for all of a module's ranges by the names of their files. What is refused has a file to each value."""
    head = [f'mock_provider "{_provider(module)}" {{}}', "variables {"]
    head += [f"  {name} = {literal(value)}" for name, value in BASE[module].items()] + ["}"]
    inside = ['run "the_defaults" {', "  command = plan", "}"]
    found = {}
    for name, allowed in check.limits().get(module, {}).items():
        for number, (value, taken) in enumerate(_ends(allowed)):
            run = _run(module, name, number, value, taken)
            if taken:
                inside += run
            else:
                found[f"{name}_{number}_refused.tftest.hcl"] = "\n".join([*head, *run]) + "\n"
    return {"inside.tftest.hcl": "\n".join([*head, *inside]) + "\n", **found}


def _provider(module: str) -> str:
    (required,) = hcl.load(hcl.ROOT / module).terraform["required_providers"]
    return next(str(name) for name in required if name != "__is_block__")


def _ends(allowed: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
    """Values at the ends of a range and beyond them, and whether they are to be taken."""
    if "one_of" in allowed:
        yield from ((value, True) for value in allowed["one_of"])
        yield ("999" if isinstance(allowed["one_of"][0], str) else 999), False
    elif "is" in allowed:
        yield from [(allowed["is"], True), (allowed["is"] + 1, False)]
    else:
        step = allowed.get("step", 1 if isinstance(allowed["min"], int) else allowed["min"])
        yield from [(allowed["min"], True), (allowed["max"], True)]
        yield from [(round(allowed["min"] - step, 6), False), (allowed["max"] + step, False)]
        if "step" in allowed:
            yield round(allowed["min"] + step * 1.5, 6), False


def _run(module: str, name: str, number: int, value: Any, taken: bool) -> list[str]:
    given = {name: value, **_WITH.get((module, name, value), {})}
    lines = [f'run "{name}_{number}" {{', "  command = plan", "  variables {"]
    lines += [f"    {key} = {literal(v)}" for key, v in given.items()] + ["  }"]
    if not taken:
        lines.append(f"  expect_failures = [var.{name}]")
    return [*lines, "}"]
