"""Terraform itself on a copy of the modules, with providers that know only their schema (`stub.py`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.terraform import hcl

NEEDED = (1, 9)


def find() -> tuple[str, str] | None:
    """Path and version of a Terraform that is new enough (1.9); None when there is none."""
    if (path := shutil.which("terraform")) is None:
        return None
    said = subprocess.run([path, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    return (path, found[0]) if found and (int(found[1]), int(found[2])) >= NEEDED else None


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: whether well, and what it said of errors."""

    ok: bool
    said: str
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workbench:
    """A copy of the folder `terraform`, every module initialised. Commands run in it, offline."""

    tool: str
    folder: Path
    environment: Mapping[str, str] = field(repr=False)

    def run(self, module: str, *arguments: str) -> Result:
        where = self.folder / module
        env = self._environment(module)
        done = subprocess.run(
            [self.tool, *arguments], cwd=where, env=env, capture_output=True, text=True, check=False, timeout=100
        )
        return Result(done.returncode == 0, done.stdout + done.stderr)

    def validate(self, module: str) -> Result:
        """`terraform validate`, its errors as one line each."""
        result = self.run(module, "validate", "-json")
        found = json.loads(result.said[result.said.index("{") :])
        errors = [f"{d['summary']}: {d.get('detail', '')}" for d in found["diagnostics"] if d["severity"] == "error"]
        return Result(result.ok, result.said, tuple(errors))

    def tests(self, module: str, files: Mapping[str, str]) -> Mapping[str, bool]:
        """Run tests of ours, `files`, in a folder of their own: which passed, by the name of its file."""
        folder = self.folder / module / "ours"
        folder.mkdir()
        try:
            for name, text in files.items():
                (folder / name).write_text(text)
            said = self.run(module, "test", "-test-directory=ours", "-no-color").said
        finally:
            shutil.rmtree(folder)
        ended = re.findall(r"^ours/(\S+?)\.\.\. (pass|fail|skip)$", said, re.MULTILINE)
        assert {name for name, _ in ended} == set(files), said
        return {name: how == "pass" for name, how in ended}

    def console(self, expression: str) -> str:
        """What a text comes to, as Terraform evaluates it."""
        done = subprocess.run(
            [self.tool, "console"],
            cwd=self.folder / ".data",  # no module: nothing else is asked for
            env=self._environment("console"),
            input=f"jsonencode({expression})\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        said: str = json.loads(json.loads(done.stdout.strip().replace("$${", "${")))
        return said

    def _environment(self, module: str) -> dict[str, str]:
        return {**self.environment, "TF_DATA_DIR": str(self.folder / ".data" / module)}

    @contextmanager
    def changed(self, module: str, file: str, text: str) -> Iterator[None]:
        """A file of the copy has another text for a while."""
        path = self.folder / module / file
        before = path.read_text() if path.exists() else None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_text(before)


def open_workbench(tool: str, folder: Path, attached: str) -> Workbench:
    """Copy the modules to `folder` and initialise them. Raises `AssertionError` when one cannot be."""
    shutil.copytree(hcl.ROOT, folder / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TF_REATTACH_PROVIDERS": attached,
        "TF_CLI_CONFIG_FILE": os.devnull,
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }
    bench = Workbench(tool, folder / "terraform", environment)
    for path in sorted(bench.folder.glob("**/main.tf")):
        module = str(path.parent.relative_to(bench.folder))
        result = bench.run(module, "init", "-backend=false", "-no-color")
        assert result.ok, f"{module}: {result.said}"
    return bench


def literal(value: Any) -> str:
    """A value as HCL writes it; texts that name `${…}` stay texts."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${")
