"""Random days, against a log that is kept by hand."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.clouds.fleet import changed, parse
from gateway.clouds.model import Cloud
from gateway.clouds.tickets import Admitted, Ask, Event, Ticket

limit = st.one_of(st.none(), st.integers(1, 12))
profiles = st.fixed_dictionaries(
    {
        "limits": st.fixed_dictionaries({"streams": limit, "rpm": limit, "rps": limit, "ramp": limit, "daily": limit}),
        "slots": st.one_of(st.none(), st.integers(1, 5)),
        "queue": st.one_of(st.just("unbounded"), st.integers(0, 4)),
        "give_up": st.one_of(st.none(), st.just(0.5)),
        "laws": st.just({"t0": "20ms", "k": "2ms", "prefill": 2000, "jitter": 0.2}),
        "answer": st.just({"median": 12, "sigma": 0.6, "reasoning": 0.4}),
        "style": st.fixed_dictionaries(
            {"tokens_per_event": st.integers(1, 4), "keep_alive": st.sampled_from([None, 0.1])}
        ),
        "faults": st.sampled_from([{}, {"stall": 0.2, "cut": 0.2, "no_resource": 0.1, "server": 0.1}]),
    }
)
modes = st.sampled_from([None, "crash", "stall", "slow", "overload", "refuse"])
step = st.one_of(
    st.tuples(st.just("arrive"), st.integers(1, 6)),
    st.tuples(st.just("leave"), st.integers(0, 30)),
    st.tuples(st.just("fail"), modes),
    st.tuples(st.just("slots"), st.integers(1, 6)),
)
days = st.lists(st.tuples(st.sampled_from([0.0, 0.02, 0.3, 1.0, 20.0]), step), max_size=40)


class Walk:
    """Drives a cloud and keeps its own books."""

    def __init__(self, words: dict[str, Any]) -> None:
        self.cloud = Cloud(parse({"clouds": {"c": words}}).clouds[0], Random(1))
        self.now = 1000.0
        self.alive: dict[int, Ticket] = {}
        self.ended: Counter[int] = Counter()
        self.arrivals: list[float] = []
        self.admitted: list[float] = []
        self.most = 0
        self.last = 0.0

    def see(self, events: list[Event]) -> None:
        for event in events:
            assert event.ticket.id in self.alive, "an event after the end"
            assert event.at >= self.last, "events out of order"
            self.last = event.at
            if event.ends:
                self.ended[event.ticket.id] += 1
                del self.alive[event.ticket.id]

    def arrive(self) -> None:
        cloud, limits = self.cloud, self.cloud.profile.limits
        self.arrivals.append(self.now)
        self.most = max(self.most, len(self.alive) + 1)
        room = self._room()
        answer = cloud.arrive(Ask(prompt=20), self.now)
        if isinstance(answer, Admitted):
            assert room
            self.alive[answer.ticket.id] = answer.ticket
            self.admitted.append(self.now)
            assert limits.streams is None or len(self.alive) <= limits.streams
        elif room:
            assert answer.limit == ""

    def _room(self) -> bool:
        """Have all limits room, counted the slow way?"""
        limits, past = self.cloud.profile.limits, self.admitted
        last = sum(1 for t in past if self.now - 1 < t)
        before = sum(1 for t in past if self.now - 2 < t <= self.now - 1)
        return all(
            most is None or used < most
            for used, most in [
                (len(self.alive), limits.streams),
                (sum(1 for t in past if self.now - 60 < t), limits.rpm),
                (last, limits.rps),
                (last - before, limits.ramp),
                (len(past), self.cloud.profile.daily),
            ]
        )

    def act(self, what: str, value: Any) -> None:
        if what == "arrive":
            for _ in range(value):
                self.arrive()
        elif what == "leave" and self.alive:
            ticket = self.alive.pop(list(self.alive)[value % len(self.alive)])
            self.ended[ticket.id] += 1
            self.cloud.leave(ticket, self.now)
        elif what in {"fail", "slots"}:
            self.last = max(self.last, self.now)
            self.see(self.cloud.change(changed(self.cloud.profile, {what: value}), self.now))

    def check(self) -> None:
        stats = self.cloud.stats(self.now)
        assert stats.in_flight == len(self.alive) == stats.running + stats.waiting
        assert stats.running >= 0
        assert stats.admitted == stats.completed + stats.cut + stats.disconnects + stats.in_flight
        assert set(self.ended.values()) <= {1}
        assert stats.peak["streams"] == self.most
        assert stats.requests == len(self.arrivals) == stats.admitted + sum(stats.refused.values())
        for kind, span in (("rpm", 60.0), ("rps", 1.0)):
            fullest = (sum(1 for t in self.arrivals if end - span < t <= end) for end in self.arrivals)
            assert stats.peak[kind] == max(fullest, default=0)


@settings(max_examples=120, deadline=None)
@given(profiles, days)
def test_a_day_at_a_cloud_adds_up(words: dict[str, Any], day: list[tuple[float, tuple[str, Any]]]) -> None:
    walk = Walk(words)
    for gap, (what, value) in day:
        walk.now += gap
        walk.see(walk.cloud.due(walk.now))
        walk.act(what, value)
        walk.check()
    walk.see(walk.cloud.change(changed(walk.cloud.profile, {"fail": None}), walk.now))
    walk.now += 3600.0
    walk.see(walk.cloud.due(walk.now))
    # what is left are stalled streams, and those who wait for a stalled stream's slot
    stalled = [ticket for ticket in walk.alive.values() if ticket.phase == "stalled"]
    slots = walk.cloud.profile.slots
    assert len(stalled) == len(walk.alive) or (slots is not None and len(stalled) >= slots)
    for ticket in list(walk.alive.values()):
        del walk.alive[ticket.id]
        walk.ended[ticket.id] += 1
        walk.cloud.leave(ticket, walk.now)
    walk.check()
    assert walk.cloud.stats(walk.now).in_flight == 0
