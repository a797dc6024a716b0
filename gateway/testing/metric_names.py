"""The table of `docs/metrics.md`, from the metrics:
`python -m gateway.testing.metric_names > docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from random import Random

from prometheus_client.metrics_core import Metric

from gateway.core.dispatcher import Dispatcher
from gateway.core.money import BudgetView
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.observe import overhead
from gateway.telemetry.cache import CacheView
from gateway.telemetry.exposition import Callers, Shared, families
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recorder import SinkHealth
from gateway.testing import plan

HEAD = """# Metrics

What `/metrics` says, in Prometheus' text format. Histograms have `_bucket`, `_sum` and `_count`; reasoning models
think for minutes, so their buckets go to 1,280 s. Some are there only where what they count is: Redis, records,
budgets, a cache, callers' limits. Names of tenants appear in two: who waits (the five of whom most wait) and budgets.
The page is for operators: it asks for `SPILLGATE_ADMIN_KEY`, or answers this machine only.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def all_families() -> Iterable[Metric]:
    """Every family that a gateway can have."""
    fleet = Dispatcher(plan([["a"]]), Random(0)).snapshot(0.0)
    budget = BudgetView("tenant:a", "day", 1, 0, 0, 0.8, 0.0, 0, 0, 0)
    return families(
        Metrics(outcome_name, overhead),
        fleet,
        Shared(degraded=False, replicas=1, exchanges=0, failures=0),
        (SinkHealth("file x", 0, 0, 0, ""),),
        (budget,),
        CacheView(0, 0, 0, 0, 0, 0),
        Callers(alone=False, exchanges=0, failures=0, refused={}),
    )


def table() -> str:
    """The whole page."""
    lines = []
    for family in sorted(all_families(), key=lambda family: family.name):
        ends = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ())) or "–"
        lines.append(f"| `{family.name}{ends}` | {family.type} | {labels} | {family.documentation} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
