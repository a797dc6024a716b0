"""The command line as a person meets it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
URLS = {f"{name}_URL": "http://127.0.0.1:1/v1" for name in ("OWN", "ARK", "DEEPSEEK")}
ENV = {**URLS, "ACME_KEY": "sk-acme-1", "SLOW_KEY": "sk-slow-1", "ARK_KEY": "sk-ark-1", "DEEPSEEK_KEY": "sk-ds-001"}
DOCUMENT = str(HERE / "gateway.yaml")


def test_help_names_every_verb_and_every_verb_has_help(spillgate: Any) -> None:
    text = spillgate("--help").stdout
    for verb in ("serve", "check", "explain", "demo", "mock", "status", "healthcheck", "schema", "version"):
        assert verb in text
        found = spillgate(verb, "--help")
        assert found.returncode == 0, found.stderr
        assert f"spillgate {verb}" in found.stdout


@pytest.mark.parametrize("words", [[], ["serv"], ["check", "--jsn"], ["serve", "x", "--port", "many"]])
def test_wrong_usage_is_exit_code_2(spillgate: Any, words: list[str]) -> None:
    found = spillgate(*words)
    assert found.returncode == 2
    assert "usage" in found.stderr


def test_check_says_what_it_read(spillgate: Any) -> None:
    found = spillgate("check", DOCUMENT, **ENV)
    assert (found.returncode, found.stderr) == (0, "")
    assert "1 models, 3 backends" in found.stdout
    told = json.loads(spillgate("check", DOCUMENT, "--json", **ENV).stdout)
    assert told["ok"] is True
    assert told["backends"] == ["ark", "deepseek", "own"]


def test_check_reports_every_problem_with_its_line_and_a_hint(spillgate: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        (HERE / "gateway.yaml").read_text().replace("max_wait: 2s", "max_wiat: 2s").replace("[own]}", "[owm]}")
    )
    found = spillgate("check", str(broken), **ENV)
    assert found.returncode == 2
    lines = [line for line in found.stderr.splitlines() if line.startswith(str(broken))]
    assert len(lines) >= 2
    assert any("'own'" in line for line in lines)
    assert any("'max_wait'" in line for line in lines)
    told = json.loads(spillgate("check", str(broken), "--json", **ENV).stdout)
    assert told["ok"] is False
    assert {"file", "line", "column", "path", "message"} <= set(told["problems"][0])


def test_explain_says_who_takes_it_and_why_not_the_others(spillgate: Any) -> None:
    found = spillgate("explain", DOCUMENT, "--model", "r2", **ENV)
    assert found.returncode == 0
    assert "▶ tier 1  own" in found.stdout
    told = json.loads(spillgate("explain", DOCUMENT, "--out", "own", "--json", **ENV).stdout)
    assert next(c["backend"] for c in told["candidates"] if c["chosen"]) in {"ark", "deepseek"}
    assert spillgate("explain", DOCUMENT, "--model", "r3", **ENV).returncode == 2
    everybody = spillgate("explain", DOCUMENT, "--out", "own", "--out", "ark", "--out", "deepseek", **ENV)
    assert everybody.returncode == 1
    assert "nobody" in everybody.stdout


def test_explain_rehearses_the_ladder(spillgate: Any, tmp_path: Path) -> None:
    steep = tmp_path / "steep.yaml"
    rungs = (
        "[{at: 0.9, classes: [batch], max_tokens: 2k, reasoning_effort: low}, {at: 1.5, thinking: off, model: lite}]"
    )
    text = (HERE / "gateway.yaml").read_text().replace("models:\n", "models:\n  lite: {policy: surge}\n")
    text = text.replace("serves: {deepseek-r2: r2-own}", "serves: {deepseek-r2: r2-own, lite: lite-own}")
    steep.write_text(text.replace("    first_token_timeout", f"    degrade: {rungs}\n    first_token_timeout"))
    ask = ("explain", str(steep), "--model", "r2", "--pressure")
    calm = spillgate(*ask, "0.95", **ENV).stdout
    assert "at a pressure of 0.95 a standard request gives up: nothing" in calm
    assert "from 1.5 on: model lite, thinking off" in calm
    assert "no known switch" not in calm
    steep.write_text(steep.read_text().replace("preset: vllm", "preset: openai"))
    assert "as it came, at: own\n" in spillgate(*ask, "1.5", **ENV).stdout
    batch = spillgate(*ask, "0.95", "--class", "batch", **ENV).stdout
    assert "a batch request gives up: max_tokens 2000, reasoning_effort low" in batch
    told = json.loads(spillgate(*ask, "1.5", "--max-tokens", "9000", "--json", **ENV).stdout)
    assert told["model"] == "lite"
    assert told["gives_up"] == {"max_tokens": None, "effort": None, "thinking_off": True, "model": "lite"}


def test_schema_is_the_one_in_policies(spillgate: Any) -> None:
    committed = (HERE.parents[1] / "policies" / "spillgate.schema.json").read_text()
    assert json.loads(spillgate("schema").stdout) == json.loads(committed)


def test_version_and_healthcheck_and_status(spillgate: Any, gateway: Any) -> None:
    assert spillgate("version").stdout.startswith("spillgate ")
    assert json.loads(spillgate("version", "--json").stdout)["spillgate"]
    assert spillgate("healthcheck", "--url", gateway.url).returncode == 0
    assert spillgate("healthcheck", "--url", "http://127.0.0.1:1").returncode == 1
    shown = spillgate("status", "--url", gateway.url, COLUMNS="140").stdout
    for word in ("own", "ark", "deepseek", "streams 0/4"):
        assert word in shown
    assert json.loads(spillgate("status", "--url", gateway.url, "--json").stdout)["fleet"]["accounts"]
    lost = spillgate("status", "--url", "http://127.0.0.1:1")
    assert (lost.returncode, "Traceback" in lost.stderr) == (1, False)


def test_without_tenants_it_listens_on_this_machine_only(spillgate: Any, tmp_path: Path) -> None:
    document = tmp_path / "open.yaml"
    text = (HERE / "gateway.yaml").read_text()
    document.write_text(text[: text.index("tenants:")])
    found = spillgate("serve", str(document), "--host", "0.0.0.0", "--port", "0", **ENV)
    assert found.returncode == 2
    assert "tenants" in found.stderr


def test_a_port_that_is_taken_is_said_plainly(spillgate: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = spillgate("serve", DOCUMENT, "--port", str(taken.getsockname()[1]), **ENV)
    assert found.returncode == 1
    assert "cannot listen" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("SPILLGATE_LOG", "loud"), ("SPILLGATE_ADMIN_PORT", "http")]
)
def test_a_wrong_variable_is_named(spillgate: Any, name: str, value: str) -> None:
    found = spillgate("serve", DOCUMENT, **{**ENV, name: value})
    assert found.returncode == 2
    assert name in found.stderr
