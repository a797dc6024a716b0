"""What the answer cache did, folded once per call: how calls fared, and what nobody had to be asked or paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from gateway.service import Reuse

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class CacheView:
    """How it stands: what is at hand in this process, what is under way and who listens, exchanges that failed."""

    entries: int
    bytes: int
    under_way: int
    listeners: int
    failures: int
    kept: int


class CacheMetrics:
    """The fold."""

    def __init__(self) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[str] = Counter()
        self.tokens: Counter[tuple[str, str, str]] = Counter()
        self.money: dict[tuple[str, str], Decimal] = {}

    def fold(self, model: str, reuse: Reuse) -> None:
        """Count a call that has ended."""
        self.results[model, reuse.result] += 1
        self.bytes[model] += reuse.size
        if reuse.usage is not None:
            self.tokens[model, reuse.result, "input"] += reuse.usage.prompt
            self.tokens[model, reuse.result, "output"] += reuse.usage.completion
        if reuse.cost is not None:
            place = model, reuse.currency
            self.money[place] = self.money.get(place, Decimal(0)) + reuse.cost

    def collect(self) -> Iterable[Metric]:
        """As Prometheus families."""
        from prometheus_client.metrics_core import CounterMetricFamily

        results = CounterMetricFamily(
            "spillgate_cache_requests", "Requests by how the answer cache served them.", labels=["model", "result"]
        )
        for (model, result), count in self.results.items():
            results.add_metric([model, result], count)
        size = CounterMetricFamily("spillgate_cache_hit_bytes", "Bytes of answers given again.", labels=["model"])
        for model, count in self.bytes.items():
            size.add_metric([model], count)
        tokens = CounterMetricFamily(
            "spillgate_cache_saved_tokens", "Tokens no cloud was asked for.", labels=["model", "result", "kind"]
        )
        for (model, result, kind), count in self.tokens.items():
            tokens.add_metric([model, result, kind], count)
        money = CounterMetricFamily(
            "spillgate_cache_saved_cost", "What those tokens had cost.", labels=["model", "currency"]
        )
        for (model, currency), amount in self.money.items():
            money.add_metric([model, currency], float(amount))
        return results, size, tokens, money


def gauges(view: CacheView) -> Iterable[Metric]:
    """How the cache stands, as Prometheus families."""
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("spillgate_cache_entries", "Answers at hand in this process.", view.entries)
    yield GaugeMetricFamily("spillgate_cache_bytes", "Bytes of answers at hand in this process.", view.bytes)
    yield GaugeMetricFamily("spillgate_cache_under_way", "Calls that may be joined or kept.", view.under_way)
    yield GaugeMetricFamily("spillgate_cache_listeners", "Requests that listen to them.", view.listeners)
    yield CounterMetricFamily("spillgate_cache_kept", "Answers kept.", view.kept)
    yield CounterMetricFamily("spillgate_cache_failures", "Exchanges with the store that failed.", view.failures)
