"""Dashboards, alert rules and runbooks speak of what a running gateway really exports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.testing.processes import Clouds, Gateway, Redis

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy/observe"
ALERTS = [rule for group in yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((OBSERVE / "grafana/dashboards/spillgate.json").read_text())
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel["targets"]]
SCRAPED = {"instance", "job"}
"""labels that Prometheus adds"""
FLEET = """
control: 0
seed: 2
clouds:
  own:
    port: 0
    dialect: vllm
    models: [r2-own]
    limits: {streams: 2}
    laws: {t0: 10ms, k: 0ms, net: 1ms}
    answer: {median: 40, sigma: 0, reasoning: 0.5}
    style: {tokens_per_event: 4}
    faults: {overloaded: 0.3}
  ark:
    port: 0
    dialect: ark
    models: [r2-ark]
    limits: {streams: 2}
    laws: {t0: 10ms, k: 0ms, net: 1ms}
    answer: {median: 40, sigma: 0, reasoning: 0.5}
    style: {tokens_per_event: 4, retry_after: seconds}
"""
DOCUMENT = """
models: {r2: {}}
backends:
  own: {preset: vllm, base_url: "${OWN_URL}", serves: {r2: r2-own}, limits: {streams: 2}}
  ark: {preset: volcengine-ark, base_url: "${ARK_URL}", key: sk-x, serves: {r2: r2-ark}, limits: {streams: 4},
    price: {input: 1, output: 4}}
policies:
  p:
    tiers: [{backends: [own]}, {backends: [ark]}]
    queue: {max_wait: 500ms, max_length: 6}
    retry: {budget: 0.5, per_second: 5}
tenants: {acme: {keys: ["${ACME_KEY}"]}}
usage: {file: "${USAGE_FILE}", stream: 1k}
"""


@pytest.fixture(scope="module")
def scrape(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Every sample of a gateway under more load than it can serve, by name, with the labels that it had."""
    folder = tmp_path_factory.mktemp("observe")
    (folder / "fleet.yaml").write_text(FLEET)
    document = folder / "gateway.yaml"
    document.write_text(DOCUMENT)
    redis, clouds = Redis(), Clouds(folder / "fleet.yaml")
    env = {
        "ACME_KEY": "sk-acme-1",
        "REDIS_URL": redis.url,
        "SPILLGATE_REPLICAS": "1",
        "USAGE_FILE": str(folder / "usage.jsonl"),
    }
    gateway = Gateway(document, clouds, "--no-reload", env=env)
    try:
        asyncio.run(surge(gateway))
        document.write_text("models: {}\nnonsense: {}\n")
        gateway.child.send_signal(signal.SIGHUP)
        while 'reloads_total{result="rejected"}' not in (text := httpx.get(f"{gateway.url}/metrics").text):
            pass
    finally:
        assert (gateway.stop(), clouds.stop()) == (0, 0)
        redis.kill()
    found: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels)
    return found


async def surge(gateway: Gateway) -> None:
    body = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"authorization": "Bearer sk-acme-1"}
    async with httpx.AsyncClient(headers=headers, timeout=20, limits=httpx.Limits(max_connections=None)) as http:
        for _ in range(3):
            asked = [http.post(f"{gateway.base}/chat/completions", json=body) for _ in range(30)]
            statuses = {answer.status_code for answer in await asyncio.gather(*asked)}
        assert {200, 429} <= statuses, statuses
        for _ in range(10):  # with room at the second cloud for what the first one breaks
            await http.post(f"{gateway.base}/chat/completions", json=body)


def named(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels that select it."""
    found = re.findall(r"\b((?:spillgate_\w+|up)\b)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))) for name, matchers in found]


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups by."""
    return {label.strip() for words in re.findall(r"\bby \(([^)]*)\)", expression) for label in words.split(",")}


def shown(text: str) -> set[str]:
    """The labels that a legend or a summary shows."""
    return set(re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", text)) - {"value"}


def assert_exported(expression: str, text: str, scrape: Mapping[str, set[str]]) -> None:
    labels = set(SCRAPED)
    for name, matchers in named(expression):
        if name == "up":
            continue
        assert name in scrape, f"{name} is not exported"
        assert matchers <= scrape[name] | SCRAPED, f"{name} has no {matchers - scrape[name]}"
        labels |= scrape[name]
    groups = grouped(expression)
    assert groups <= labels, f"no {groups - labels} in {expression}"
    kept = groups if re.search(r"\b(sum|max|min|avg)\b", expression) else labels
    assert shown(text) <= kept, f"{shown(text) - kept} is not left by {expression}"


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title} {t['refId']}" for title, t in TARGETS])
def test_every_panel_shows_what_is_exported(title: str, target: dict[str, str], scrape: Mapping[str, set[str]]) -> None:
    assert named(target["expr"]), title
    assert_exported(target["expr"], target["legendFormat"], scrape)


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_every_alert_looks_at_what_is_exported(rule: dict[str, Any], scrape: Mapping[str, set[str]]) -> None:
    assert_exported(rule["expr"], rule["annotations"]["summary"], scrape)


def test_a_metric_that_does_not_exist_would_be_found(scrape: Mapping[str, set[str]]) -> None:
    for wrong in ("sum(rate(spillgate_request_total[5m]))", 'spillgate_requests_total{code="200"}'):
        with pytest.raises(AssertionError):
            assert_exported(wrong, "", scrape)
    with pytest.raises(AssertionError):
        assert_exported("sum by (tenant) (spillgate_in_flight)", "", scrape)
    with pytest.raises(AssertionError):
        assert_exported("sum by (account) (spillgate_in_flight)", "{{backend}}", scrape)


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    sections = set(re.findall(r"^## (Spillgate\w+)$", (ROOT / "docs/recover.md").read_text(), re.MULTILINE))
    assert sections == {rule["alert"] for rule in ALERTS}
    assert {rule["labels"]["severity"] for rule in ALERTS} == {"page", "ticket"}


def test_promtool_accepts_the_rules_and_their_tests() -> None:
    found = shutil.which("promtool") or os.environ.get("PROMTOOL")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus): alert rules were not checked by it")
    for words in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        told = subprocess.run([found, *words], cwd=OBSERVE, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
