"""The numbers of `/metrics`, told to an OpenTelemetry collector now and then, over OTLP/HTTP.

The very same families are taken on the event loop and sent from a thread, one sending at a time: a collector that is
slow or away costs one thread and nothing else. The SDK is imported in that thread. How often, where else and with which
headers, say the standard variables (`OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_OTLP_…`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.telemetry.otlp import resource

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
    from prometheus_client.metrics_core import Metric

INTERVAL = 60.0
CLOSING = 2.0
GENAI = {
    "spillgate_request_duration_seconds": ("gen_ai.server.request.duration", "s"),
    "spillgate_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "spillgate_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
}
"""What the GenAI conventions have a name for."""
LABELS = {"model": "gen_ai.request.model"}
log = logging.getLogger("spillgate.metrics")


class MetricsPush:
    """Sends `families()` every `interval` seconds while there is somewhere to send them. Belongs to the loop that
    calls `use`."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families
        self._endpoint: str | None = None
        self._interval = INTERVAL
        self._exporter: MetricExporter | None = None
        self._began = time.time_ns()
        self._task: asyncio.Task[None] | None = None
        self.pushed = self.failed = 0

    def use(self, endpoint: str | None, interval: float = INTERVAL) -> None:
        """Send there from now on; None: nowhere; empty: as the environment says."""
        if endpoint != self._endpoint:
            self._exporter = None
        self._endpoint, self._interval = endpoint, interval
        if endpoint is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Send once more, for `CLOSING` seconds at most."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._endpoint is not None:
            try:
                async with asyncio.timeout(CLOSING):
                    await self._push()
            except TimeoutError:
                log.error("metrics could not be sent before the end")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            if self._endpoint is not None:
                await self._push()

    async def _push(self) -> None:
        found = list(self._families())
        done = await asyncio.to_thread(self._send, found, time.time_ns())
        self.pushed += done
        self.failed += not done

    def _send(self, found: list[Metric], now: int) -> bool:
        """In the thread. Whatever a library says, the next try comes."""
        try:
            if self._exporter is None:
                self._exporter = _exporter(self._endpoint or "")
            return self._exporter.export(data(found, self._began, now)).name == "SUCCESS"
        except Exception:
            log.exception("metrics could not be sent")
            return False


def data(found: Iterable[Metric], began: int, now: int) -> MetricsData:
    """Families of prometheus_client as the SDK's data. `began` and `now` in Unix nanoseconds."""
    from opentelemetry.sdk.metrics.export import Metric as Told
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    told = []
    for family in found:
        name, unit = GENAI.get(family.name, (family.name, ""))
        if family.samples:
            told.append(Told(name, family.documentation, unit, _points(family, began, now)))
    scope = ScopeMetrics(InstrumentationScope("spillgate", __version__), told, "")
    return MetricsData([ResourceMetrics(resource(), [scope], "")])


def _points(family: Metric, began: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Histogram, NumberDataPoint, Sum

    if family.type == "histogram":
        return Histogram(_histograms(family, began, now), AggregationTemporality.CUMULATIVE)
    points = [NumberDataPoint(_named(s.labels), began, now, float(s.value)) for s in family.samples]
    return Sum(points, AggregationTemporality.CUMULATIVE, True) if family.type == "counter" else Gauge(points)


def _histograms(family: Metric, began: int, now: int) -> list[Any]:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = tuple(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[key] = sample.value
    points = []
    for key, buckets in series.items():
        counts = [round(value) for _, value in buckets]
        own = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
        bounds = [bound for bound, _ in buckets][:-1]
        total = sums.get(key, 0.0)
        points.append(HistogramDataPoint(_named(dict(key)), began, now, counts[-1], total, own, bounds, 0.0, 0.0))
    return points


def _named(labels: Mapping[str, str]) -> dict[str, str]:
    return {LABELS.get(name, name): value for name, value in labels.items()}


def _exporter(endpoint: str) -> MetricExporter:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics" if endpoint else None)
