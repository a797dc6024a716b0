"""The text of `/metrics`: counters and histograms from the fold, gauges from the fleet's standing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.money import MICRO, BudgetView
from gateway.core.views import FleetView, TotalsView
from gateway.telemetry.cache import CacheView, gauges
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recorder import SinkHealth


@dataclass(frozen=True, slots=True)
class Shared:
    """How the shared state is doing: `replicas` last seen, exchanges with it and how many of them failed."""

    degraded: bool
    replicas: int
    exchanges: int
    failures: int


OTHERS = "(others)"
"""no tenant can have this name"""
_BREAKER = {"closed": 0.0, "half-open": 0.5, "open": 1.0}


class _Snapshot(Collector):
    def __init__(
        self,
        metrics: Metrics,
        fleet: FleetView,
        shared: Shared | None,
        sinks: Sequence[SinkHealth],
        budgets: Sequence[BudgetView],
        cache: CacheView | None,
    ) -> None:
        self._metrics = metrics
        self._fleet = fleet
        self._shared = shared
        self._sinks = sinks
        self._budgets = budgets
        self._cache = cache

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily(
            "spillgate", "This gateway.", value={"version": __version__, "configuration": self._fleet.version}
        )
        yield from self._metrics.collect()
        yield from _accounts(self._fleet)
        yield from _backends(self._fleet)
        waiting = GaugeMetricFamily("spillgate_waiting", "Requests waiting for capacity.", labels=["model"])
        for model, count in self._fleet.waiting.items():
            waiting.add_metric([model], count)
        yield waiting
        classes = GaugeMetricFamily("spillgate_waiting_by_class", "Requests waiting for capacity.", labels=["class"])
        for class_, count in self._fleet.waiting_classes.items():
            classes.add_metric([class_], count)
        yield classes
        yield _waiting_tenants(self._fleet)
        yield from _pressures(self._fleet)
        refused = CounterMetricFamily("spillgate_refused", "Requests refused by the dispatcher.", labels=["reason"])
        for reason, count in self._fleet.totals.refused.items():
            refused.add_metric([reason], count)
        yield refused
        yield from _hedges(self._fleet.totals)
        yield from _ways(self._fleet.totals)
        affinity = CounterMetricFamily(
            "spillgate_affinity", "Attempts by how their backend was found.", labels=["model", "how"]
        )
        for model, counts in self._fleet.affinity.items():
            for how, number in counts.items():
                affinity.add_metric([model, how], number)
        yield affinity
        if self._shared is not None:
            yield from _shared_state(self._shared)
        if self._sinks:
            yield from _records(self._sinks)
        if self._budgets:
            yield from _money(self._budgets)
        if self._cache is not None:
            yield from gauges(self._cache)


def _waiting_tenants(fleet: FleetView) -> Metric:
    """The few of whom most wait by name, all others as one, so that there are never many series."""
    found = GaugeMetricFamily(
        "spillgate_waiting_by_tenant",
        "Requests waiting for capacity: of the tenants of whom most wait, and of all others.",
        labels=["tenant", "class"],
    )
    others = dict(fleet.waiting_classes)
    for tenant, counts in fleet.waiting_tenants.items():
        for class_, count in counts.items():
            found.add_metric([tenant, class_], count)
            others[class_] -= count
    for class_, count in others.items():
        found.add_metric([OTHERS, class_], count)
    return found


def _hedges(totals: TotalsView) -> Iterable[Metric]:
    yield CounterMetricFamily("spillgate_hedges", "Second attempts beside a slow first one.", totals.hedged)
    yield CounterMetricFamily("spillgate_hedges_won", "Hedges that brought the first token.", totals.hedges_won)
    yield CounterMetricFamily("spillgate_hedge_tokens", "Tokens that hedges were reserved.", totals.hedge_tokens)


def _ways(totals: TotalsView) -> Iterable[Metric]:
    yield CounterMetricFamily("spillgate_offered", "Requests that the dispatcher was asked about.", totals.offered)
    yield CounterMetricFamily("spillgate_waited", "Requests that had to wait.", totals.waited)
    yield CounterMetricFamily("spillgate_retries", "Further attempts after one that failed.", totals.retried)
    yield CounterMetricFamily("spillgate_withdrawn", "Requests whose clients left while they waited.", totals.withdrawn)


def _shared_state(shared: Shared) -> Iterable[Metric]:
    yield GaugeMetricFamily("spillgate_shared_state_degraded", "1 while Redis is out of reach.", float(shared.degraded))
    yield GaugeMetricFamily("spillgate_replicas", "Replicas last seen in the shared state.", shared.replicas)
    yield CounterMetricFamily("spillgate_shared_state_exchanges", "Round trips to Redis.", shared.exchanges)
    yield CounterMetricFamily("spillgate_shared_state_failures", "Round trips that failed.", shared.failures)


def _records(sinks: Sequence[SinkHealth]) -> Iterable[Metric]:
    written = CounterMetricFamily("spillgate_usage_records", "Usage records written.", labels=["sink"])
    dropped = CounterMetricFamily("spillgate_usage_records_dropped", "Usage records lost.", labels=["sink"])
    waiting = GaugeMetricFamily("spillgate_usage_records_waiting", "Usage records to be written.", labels=["sink"])
    for sink in sinks:
        kind = [sink.name.partition(" ")[0]]
        written.add_metric(kind, sink.written)
        dropped.add_metric(kind, sink.dropped)
        waiting.add_metric(kind, sink.waiting)
    return written, dropped, waiting


def _pressures(fleet: FleetView) -> Iterable[Metric]:
    labels = ["model", "class"]
    pressure = GaugeMetricFamily(
        "spillgate_pressure",
        "Use of what the backends may take; above 1: 1 + expected wait / max_wait.",
        labels=labels,
    )
    rung = GaugeMetricFamily("spillgate_rung", "The pressure of the highest rung that holds, 0: none.", labels=labels)
    wait = GaugeMetricFamily("spillgate_expected_wait_seconds", "What a newcomer would wait, if known.", labels=labels)
    for found in fleet.pressures:
        pressure.add_metric([found.model, found.class_], found.pressure)
        rung.add_metric([found.model, found.class_], found.rung)
        if found.wait is not None:
            wait.add_metric([found.model, found.class_], found.wait)
    oldest = GaugeMetricFamily(
        "spillgate_waiting_oldest_seconds", "How long who waits longest has waited.", labels=["class"]
    )
    for class_, seconds in fleet.waiting_oldest.items():
        oldest.add_metric([class_], seconds)
    return pressure, rung, wait, oldest


def _money(budgets: Sequence[BudgetView]) -> Iterable[Metric]:
    """`budget` is tenant:NAME or key:ID. What was spent is everybody's, the others are this replica's own."""
    amount = GaugeMetricFamily("spillgate_budget", "What may be spent in a period.", labels=["budget", "per"])
    spent = GaugeMetricFamily("spillgate_budget_spent", "What was spent of it.", labels=["budget"])
    reserved = GaugeMetricFamily("spillgate_budget_reserved", "What running requests may cost.", labels=["budget"])
    refused = GaugeMetricFamily("spillgate_budget_refused", "Requests refused in this period.", labels=["budget"])
    uncounted = GaugeMetricFamily(
        "spillgate_budget_uncounted", "Attempts in this period without a known price.", labels=["budget"]
    )
    for view in budgets:
        amount.add_metric([view.name, view.per], view.amount / MICRO)
        spent.add_metric([view.name], view.spent / MICRO)
        reserved.add_metric([view.name], view.reserved / MICRO)
        refused.add_metric([view.name], view.refused)
        uncounted.add_metric([view.name], view.uncounted)
    return amount, spent, reserved, refused, uncounted


def _accounts(fleet: FleetView) -> Iterable[Metric]:
    in_flight = GaugeMetricFamily("spillgate_in_flight", "Requests in flight.", labels=["account"])
    used = GaugeMetricFamily("spillgate_limit_used", "How much of a limit is used.", labels=["account", "limit"])
    limit = GaugeMetricFamily("spillgate_limit", "The limit that holds.", labels=["account", "limit"])
    cooling = GaugeMetricFamily("spillgate_cooling", "1 while an account is left alone.", labels=["account"])
    whole = GaugeMetricFamily(
        "spillgate_limit_whole",
        "The account's limit where this replica has a share of it.",
        labels=["account", "limit"],
    )
    learnt = GaugeMetricFamily(
        "spillgate_learned_limit", "What was learnt of an account, and why.", labels=["account", "limit", "reason"]
    )
    said = GaugeMetricFamily(
        "spillgate_account_limit",
        "Every limit of an account by who says it: declared, advertised, learned, or this replica's share.",
        labels=["account", "limit", "source"],
    )
    probes = GaugeMetricFamily(
        "spillgate_probes", "1 where this replica may try for more than is known.", labels=["account"]
    )
    elsewhere = GaugeMetricFamily(
        "spillgate_in_flight_elsewhere", "Requests in flight from other replicas, as they told.", labels=["account"]
    )
    for account in fleet.accounts:
        for one in account.said:
            said.add_metric([account.name, one.kind, one.source], one.limit)
        if account.learnt_why:
            probes.add_metric([account.name], float(account.probes))
            elsewhere.add_metric([account.name], account.elsewhere)
        for kind, value in (("streams", account.learnt), ("tokens", account.learnt_tokens)):
            if value is not None:
                learnt.add_metric([account.name, kind, account.learnt_why], value)
        in_flight.add_metric([account.name], account.in_flight)
        cooling.add_metric([account.name], float(account.cooling_until is not None))
        for room in account.rooms:
            used.add_metric([account.name, room.kind], room.used)
            limit.add_metric([account.name, room.kind], room.limit)
            if room.whole is not None:
                whole.add_metric([account.name, room.kind], room.whole)
    return in_flight, used, limit, whole, learnt, cooling, said, probes, elsewhere


def _backends(fleet: FleetView) -> Iterable[Metric]:
    breaker = GaugeMetricFamily(
        "spillgate_breaker", "Circuit breaker: 0 closed, 0.5 half-open, 1 open.", labels=["backend"]
    )
    spilled = CounterMetricFamily(
        "spillgate_spilled_in", "Attempts that came from a tier above or another backend.", labels=["backend"]
    )
    for backend in fleet.backends:
        breaker.add_metric([backend.name], _BREAKER[backend.breaker])
        spilled.add_metric([backend.name], backend.counters.spilled_in)
    return breaker, spilled


def expose(
    metrics: Metrics,
    fleet: FleetView,
    shared: Shared | None = None,
    sinks: Sequence[SinkHealth] = (),
    budgets: Sequence[BudgetView] = (),
    cache: CacheView | None = None,
) -> bytes:
    """Prometheus text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(metrics, fleet, shared, sinks, budgets, cache))
    return generate_latest(registry)
