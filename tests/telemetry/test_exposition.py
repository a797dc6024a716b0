"""What `/metrics` says of the queue."""

from __future__ import annotations

from random import Random

from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Limits, Request, ServiceClass
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.observe import overhead
from gateway.telemetry.exposition import expose, families
from gateway.telemetry.metrics import Metrics
from gateway.testing import plan


def test_tenants_of_whom_most_wait_have_names_and_all_others_are_one() -> None:
    dispatcher = Dispatcher(plan([["own"]], limits={"own": Limits(streams=1)}), Random(1))
    asked: list[tuple[str, ServiceClass]] = [("first", "standard"), ("busy", "interactive")]
    asked += [(f"t{number:02}", "batch") for number in range(40) for _ in range(1 + number % 9)]
    for number, (tenant, class_) in enumerate(asked):
        dispatcher.offer(Request(f"q{number}", tenant, "r2", class_, 100, 10, True, 0.0), 0.0)
    text = expose(families(Metrics(outcome_name, overhead), dispatcher.snapshot(1.0))).decode()
    found = [line for line in text.splitlines() if line.startswith("spillgate_waiting_by_tenant{")]
    assert len(found) == 5 + 3
    assert 'spillgate_waiting_by_tenant{class="batch",tenant="t08"} 9.0' in found
    assert 'spillgate_waiting_by_tenant{class="interactive",tenant="(others)"} 1.0' in found
    whole = sum(float(line.rpartition(" ")[2]) for line in found)
    assert whole == dispatcher.snapshot(1.0).totals.waiting == len(asked) - 1
