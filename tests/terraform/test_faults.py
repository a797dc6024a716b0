"""Faults are planted into every module, one at a time, and each is caught: by our own reading, and by Terraform."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.terraform import check, faults, hcl
from tests.terraform.bounds import BASE, bounds
from tests.terraform.faults import KINDS, Fault
from tests.terraform.workbench import Workbench

MODULES = {module.name: module for module in hcl.modules()}
every_module = pytest.mark.parametrize("name", MODULES)


@every_module
def test_every_planted_fault_is_caught_without_terraform(name: str) -> None:
    module = MODULES[name]
    files = {path.name: path.read_text() for path in module.folder.glob("*.tf")}
    planted = list(faults.planted(module))
    assert {fault.kind for fault in planted} == set(KINDS)
    missed = [str(f) for f in planted if not check.problems(hcl.parse(module.folder, {**files, f.file: f.text}))]
    assert missed == []


def _chosen(name: str) -> Iterator[Fault]:
    """One fault of each kind in each kind of resource; all of them with SPILLGATE_EXPLORE=1."""
    seen = set()
    for fault in faults.planted(MODULES[name]):
        place = (fault.kind, re.split(r"[. ]", fault.where)[0])
        if fault.file != "variables.tf" and (place not in seen or os.environ.get("SPILLGATE_EXPLORE")):
            seen.add(place)
            yield fault


@every_module
def test_planted_faults_are_caught_by_terraform(bench: Workbench, name: str) -> None:
    assert bench.validate(name).ok
    missed = []
    for fault in _chosen(name):
        with bench.changed(name, fault.file, fault.text):
            if bench.validate(name).ok and bench.run(name, "test").ok:
                missed.append(str(fault))
    assert missed == []


LIMITED = pytest.mark.parametrize("name", check.limits())


@LIMITED
def test_validations_that_let_too_much_in_are_caught_by_terraform(bench: Workbench, name: str) -> None:
    """All at once: of every bound that was loosened, the run that tries a value beyond it must fail."""
    changes = list(faults.loosenings(MODULES[name], defaults=False))
    with bench.changed(name, "variables.tf", faults.changed(MODULES[name], changes)):
        ended = bench.tests(name, {file: text for file, text in bounds(name).items() if "_refused" in file})
    failed = Counter(re.sub(r"_\d+_refused.*", "", file) for file, passed in ended.items() if not passed)
    assert failed >= Counter(variable for variable, _, _ in changes)


@LIMITED
def test_defaults_beyond_the_range_are_caught_by_terraform(bench: Workbench, name: str) -> None:
    """All at once; one whose check depends on another that is wrong too is tried again by itself."""
    changes = list(faults.loosenings(MODULES[name], defaults=True))
    named = re.findall(r'variable "(\w+)" \{', _plan(bench, name, changes))
    for change in changes:
        assert change[0] in named or "Invalid value for variable" in _plan(bench, name, [change]), change


def _plan(bench: Workbench, name: str, changes: list[tuple[str, str, str]]) -> str:
    with (
        bench.changed(name, "variables.tf", faults.changed(MODULES[name], changes)),
        bench.changed(name, "base.tfvars.json", json.dumps(BASE[name])),
    ):
        return bench.run(name, "plan", "-input=false", "-no-color", "-var-file=base.tfvars.json").said
