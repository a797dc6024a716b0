"""A meter and a fleet, looked at from outside, in the corners that chance reaches only sometimes."""

from __future__ import annotations

from typing import Any

from gateway.core.gauges import opens
from gateway.core.meter import Meter
from gateway.core.nouns import Limits


def test_a_window_is_rolled_before_it_is_asked_when_it_opens() -> None:
    meter = Meter("a", Limits(rpm=1))
    meter.take(10, 10, 0.0)
    assert opens(meter, 10, 20, 1.0, certain=False) > 60.0
    assert opens(meter, 10, 20, 100.0, certain=False) == 100.0


def test_explain_chooses_nobody_when_all_are_full(world: Any) -> None:
    dispatcher = world.dispatcher(a=Limits(streams=1), b=Limits(streams=1))
    for _ in range(2):
        world.go(dispatcher)
    lines = dispatcher.explain(world.request(0.0), 0.0)
    assert [(line.backend, line.chosen, line.has_room) for line in lines] == [("a", False, False), ("b", False, False)]
    assert all("streams 1 of 1" in line.why_not[0] for line in lines)
