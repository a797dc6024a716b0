"""Counters and histograms, folded once per call when it has ended, and read by Prometheus at its own pace.

The fold only adds numbers to dictionaries; prometheus_client is imported at the first scrape and writes the text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gateway.core.nouns import Beaten, Outcome, Served
from gateway.core.tariff import cost
from gateway.service import Attempt, Call
from gateway.telemetry.cache import CacheMetrics

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""reasoning models think for minutes: the usual ten seconds would hide everything"""
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
PER_TOKEN = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class Histogram:
    """Counts per bucket, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """The fold. `outcome_name` gives one word for how an attempt ended; `overhead` the gateway's own seconds."""

    def __init__(self, outcome_name: Callable[[Outcome | None], str], overhead: Callable[[Call], float]) -> None:
        self._outcome_name = outcome_name
        self._overhead = overhead
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.spilled: Counter[str] = Counter()
        self.degraded: Counter[tuple[str, str, str]] = Counter()
        self.spills: Counter[tuple[str, int, int]] = Counter()
        self.cost: dict[tuple[str, str], float] = defaultdict(float)
        self.reloads: Counter[str] = Counter()
        self.first_token: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.per_token: dict[tuple[str, str], Histogram] = defaultdict(lambda: Histogram(PER_TOKEN))
        self.duration: dict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.queued: dict[str, Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.overhead = Histogram(OVERHEAD)
        self.lag = Histogram(OVERHEAD)
        self.cache = CacheMetrics()

    def fold(self, call: Call) -> None:
        """Count a call that has ended."""
        class_ = call.caller.class_ if call.caller else ""
        self.requests[call.model, class_, call.status] += 1
        if call.cache is not None:
            self.cache.fold(call.model, call.cache)
        elif not call.attempts and not call.queued:
            return
        for attempt in call.attempts:
            self._attempt(call.model, attempt)
        if call.easing is not None and call.attempts:
            for word in call.easing.words(call.attempts[-1].lease.backend, call.model):
                self.degraded[call.easing.asked or call.model, class_, word.partition("=")[0]] += 1
        if (
            len(call.attempts) > 1
            and len({a.lease.backend for a in call.attempts if type(a.outcome) is not Beaten}) > 1
        ):
            self.spilled[call.model] += 1
        self._spills(call)
        self.duration[call.model].add(call.ended - call.received)
        self.queued[class_].add(call.queued)
        self.overhead.add(self._overhead(call))

    def _spills(self, call: Call) -> None:
        """From which tier to which: the first attempt comes from the first, whose backends had no room for it."""
        tier = 0
        for attempt in call.attempts:
            if attempt.lease.tier != tier and type(attempt.outcome) is not Beaten:
                self.spills[call.model, tier + 1, attempt.lease.tier + 1] += 1
                tier = attempt.lease.tier

    def _attempt(self, model: str, attempt: Attempt) -> None:
        backend = attempt.lease.backend
        self.attempts[backend, self._outcome_name(attempt.outcome)] += 1
        usage = attempt.usage
        if usage is not None:
            self.tokens[backend, "input"] += usage.prompt
            self.tokens[backend, "cached"] += usage.cached
            self.tokens[backend, "output"] += usage.completion
            self.tokens[backend, "reasoning"] += usage.reasoning
            if (price := attempt.lease.price) is not None:
                self.cost[backend, price.currency] += float(cost(price, usage))
        if attempt.first_token and attempt.lease.request.stream:
            self.first_token[model, backend].add(attempt.first_token - attempt.sent)
            count = usage.completion if usage else attempt.tokens
            if isinstance(attempt.outcome, Served) and count > 1:
                self.per_token[model, backend].add((attempt.ended - attempt.first_token) / (count - 1))

    def collect(self) -> Iterable[Metric]:
        """The counters and histograms as Prometheus families."""
        from prometheus_client.metrics_core import CounterMetricFamily

        def counter(name: str, text: str, labels: list[str], found: Iterable[tuple[list[str], float]]) -> Metric:
            family = CounterMetricFamily(name, text, labels=labels)
            for values, count in found:
                family.add_metric(values, count)
            return family

        yield counter(
            "spillgate_requests", "Requests answered.", ["model", "class", "status"],
            (([m, c, str(s)], n) for (m, c, s), n in self.requests.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_attempts", "Attempts on backends by outcome.", ["backend", "outcome"],
            (([b, o], n) for (b, o), n in self.attempts.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_tokens", "Tokens as the clouds counted them.", ["backend", "kind"],
            (([b, k], n) for (b, k), n in self.tokens.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_spilled_requests", "Requests tried on more than one backend, but for hedges.", ["model"],
            (([m], n) for m, n in self.spilled.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_spills", "Attempts sent to another tier than the one before.", ["model", "from", "to"],
            (([m, str(f), str(t)], n) for (m, f, t), n in self.spills.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_cost", "Money, by the price at dispatch and what the cloud counted.", ["backend", "currency"],
            (([b, c], n) for (b, c), n in self.cost.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_degraded", "Requests that were given less than they asked for.", ["model", "class", "step"],
            (([m, c, s], n) for (m, c, s), n in self.degraded.items()),
        )  # fmt: skip
        yield counter(
            "spillgate_reloads", "Configuration reloads.", ["result"], (([r], n) for r, n in self.reloads.items())
        )
        yield from self.cache.collect()
        yield from self._histograms()

    def _histograms(self) -> Iterable[Metric]:
        yield _family(
            "spillgate_time_to_first_token_seconds", "From sending to the first token, streamed answers.",
            ["model", "backend"], ((list(key), h) for key, h in self.first_token.items()),
        )  # fmt: skip
        yield _family(
            "spillgate_time_per_output_token_seconds", "Mean time per token after the first, per answer.",
            ["model", "backend"], ((list(key), h) for key, h in self.per_token.items()),
        )  # fmt: skip
        yield _family(
            "spillgate_request_duration_seconds", "From arrival to the last byte.",
            ["model"], (([key], h) for key, h in self.duration.items()),
        )  # fmt: skip
        yield _family(
            "spillgate_queue_seconds", "Time spent waiting for capacity.",
            ["class"], (([key], h) for key, h in self.queued.items()),
        )  # fmt: skip
        yield _family(
            "spillgate_overhead_seconds", "The gateway's own share of the time to answer.", [], [([], self.overhead)]
        )
        yield _family(
            "spillgate_event_loop_lag_seconds", "How late the event loop was, looked at twice a second.",
            [], [([], self.lag)],
        )  # fmt: skip


def _family(name: str, text: str, labels: list[str], found: Iterable[tuple[list[str], Histogram]]) -> Metric:
    from prometheus_client.metrics_core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in found:
        running = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            running += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), running))
        family.add_metric(values, buckets, sum_value=histogram.total)
    return family
