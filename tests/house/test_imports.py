"""What is imported on the way to the first answer, and what is not: a start costs what it needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = {
    "litellm": "with the first document that asks for it",
    "redis": "where there is a Redis",
    "prometheus_client": "at the first scrape",
    "rich": "for people, not for servers",
    "httpx": "for the command line and the tests",
    "opentelemetry.sdk": "where traces are exported",
    "opentelemetry.exporter": "where traces are exported",
    "hypothesis": "never",
}


@pytest.mark.parametrize("module", ["gateway.app", "gateway.cli.serve", "gateway.cli.healthcheck"])
def test_nothing_heavy_is_imported_on_the_way_to_the_first_answer(module: str) -> None:
    told = f"import sys, {module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
    modules = found.stdout.split()
    assert module in modules
    assert not [name for name in modules if any(name == heavy or name.startswith(f"{heavy}.") for heavy in LATER)]
