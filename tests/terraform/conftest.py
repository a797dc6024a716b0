"""The modules and, where it is installed, Terraform with providers that know only their schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.terraform import workbench
from tests.terraform.schema import all_providers

FOUND = workbench.find()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[workbench.Workbench]:
    """Terraform on a copy of the modules. Its tests are skipped where there is none; the summary says so."""
    if FOUND is None:
        pytest.skip("no Terraform from version 1.9 on the PATH")
    from tests.terraform import stub

    folder = tmp_path_factory.mktemp("tf")  # short: sockets have short names
    with stub.serving(all_providers(), Path(folder)) as attached:
        yield workbench.open_workbench(FOUND[0], folder, attached)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FOUND is None:
        told = "terraform: NOT RUN by Terraform (none from 1.9 is installed): the modules were only read"
    else:
        tool = f"{Path(FOUND[0]).name} {FOUND[1]}"
        told = f"terraform: run by {tool} on providers that know only their schema; nothing was applied"
    terminalreporter.write_line(told)
