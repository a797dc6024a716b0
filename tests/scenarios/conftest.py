"""One table of figures at the end of the run, whatever was asserted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

ROWS: list[str] = []


@pytest.fixture
def note() -> Callable[[str], None]:
    """Add a row to the table."""
    return ROWS.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for row in ROWS:
        terminalreporter.write_line(row)
