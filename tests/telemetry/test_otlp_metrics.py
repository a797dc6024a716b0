"""The numbers of /metrics on a real OTLP endpoint, and what happens when there is none."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.policy.compiled import TelemetryRules
from gateway.telemetry import environment
from gateway.telemetry.otlp_metrics import MetricsPush
from gateway.testing.collector import Collector


def families() -> list[Metric]:
    requests = CounterMetricFamily("spillgate_requests", "Requests.", labels=["model", "status"])
    requests.add_metric(["r2", "200"], 7)
    flying = GaugeMetricFamily("spillgate_in_flight", "In flight.", labels=["account"])
    flying.add_metric(["own"], 3)
    first = HistogramMetricFamily("spillgate_time_to_first_token_seconds", "TTFT.", labels=["model"])
    first.add_metric(["r2"], [("0.1", 1), ("1.0", 3), ("+Inf", 4)], sum_value=9.5)
    return [requests, flying, first, GaugeMetricFamily("spillgate_empty", "Nothing.", labels=["x"])]


def test_the_numbers_arrive_as_they_are(collector: Collector) -> None:
    async def scenario() -> MetricsPush:
        push = MetricsPush(families)
        push.use(collector.url, 0.05)
        while not push.pushed:
            await asyncio.sleep(0.01)
        await push.aclose()
        return push

    push = asyncio.run(scenario())
    assert (push.pushed >= 2, push.failed) == (True, 0), "once more at the end"
    found = {metric.name: metric for metric in collector.metrics}
    assert set(found) == {"spillgate_requests", "spillgate_in_flight", "gen_ai.server.time_to_first_token"}
    total = found["spillgate_requests"].sum
    assert (total.is_monotonic, total.data_points[0].as_double) == (True, 7.0)
    labels = {pair.key: pair.value.string_value for pair in total.data_points[0].attributes}
    assert labels == {"gen_ai.request.model": "r2", "status": "200"}
    assert found["spillgate_in_flight"].gauge.data_points[0].as_double == 3.0
    (point,) = found["gen_ai.server.time_to_first_token"].histogram.data_points
    assert (list(point.bucket_counts), list(point.explicit_bounds)) == ([1, 2, 1], [0.1, 1.0])
    assert (point.count, point.sum) == (4, 9.5)
    assert collector.resources[0]["service.name"] == "spillgate"


def test_a_collector_that_refuses_is_counted_and_asked_again(collector: Collector) -> None:
    collector.status = 400

    async def scenario() -> None:
        push = MetricsPush(families)
        push.use(collector.url, 0.05)
        while not push.failed:
            await asyncio.sleep(0.01)
        collector.status = 200
        while not push.pushed:
            await asyncio.sleep(0.01)
        push.use(None)
        await push.aclose()

    asyncio.run(scenario())


def test_without_a_collector_nothing_is_imported_or_sent() -> None:
    code = (
        "import asyncio, sys\n"
        "from gateway.telemetry.otlp_metrics import MetricsPush\n"
        "async def go():\n"
        "    push = MetricsPush(lambda: 1 / 0)\n"
        "    push.use(None)\n"
        "    await push.aclose()\n"
        "asyncio.run(go())\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("endpoint", "variables", "found"),
    [
        ("", {}, (None, 60.0)),
        ("http://c:4318", {}, ("http://c:4318", 60.0)),
        ("http://c:4318", {"OTEL_SDK_DISABLED": "true"}, (None, 60.0)),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}, ("", 5.0)),
        ("", {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c", "OTEL_METRIC_EXPORT_INTERVAL": "0"}, ("", 60.0)),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_METRICS_EXPORTER": "none"}, (None, 60.0)),
    ],
)
def test_the_standard_variables_are_understood(
    endpoint: str, variables: dict[str, str], found: tuple[str | None, float]
) -> None:
    assert environment.metrics(TelemetryRules(endpoint=endpoint), variables) == found
