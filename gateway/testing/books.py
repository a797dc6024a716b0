"""Books kept by hand: what must agree inside a dispatcher at any time, whatever was done to it."""

from __future__ import annotations

from gateway.core.dispatcher import Dispatcher
from gateway.core.views import FleetView


def check_queue(dispatcher: Dispatcher) -> None:
    """Every count of those who wait agrees with who waits; bounds hold; counters never drift below nothing."""
    tickets = list(dispatcher._waiting)
    assert sorted(t.seq for t in tickets) == sorted(t.seq for t in dispatcher._tickets.values())
    assert len({t.seq for t in tickets}) == len(tickets) == len(dispatcher._waiting)
    for name, route in dispatcher._fleet.routes.items():
        own = [t for t in tickets if t.route is route]
        assert route.crowd.count == len(own) <= route.policy.queue.max_length
        assert route.crowd.size == sum(t.request.prompt_bytes for t in own) <= route.policy.queue.max_bytes, name
        pool = route.pool
        assert pool.waiting == sum(t.share.band.pool is pool for t in tickets)
        assert all(spent >= -1e-6 for spent in pool.spent().values())
        for band in pool.bands:
            assert band.waiting == sum(share.waiting for share in band.shares.values())
            assert band.waiting == sum(t.share.band is band for t in tickets)
            assert band.least <= band.clock
            assert all(share.counter >= 0 for share in band.shares.values())
    for tail in dispatcher._waiting.tails(100):
        places = [place for _, place in tail]
        assert [place.own for place in places] == list(range(len(places) - 1, -1, -1))
        assert all(place.ahead < len(tickets) for place in places)
        assert [p.ahead for p in places] == sorted((p.ahead for p in places), reverse=True)


def check_counts(view: FleetView) -> None:
    """What was granted has ended in one of the ways there are, or runs; every class of those who wait adds up."""
    for backend in view.backends:
        c = backend.counters
        endings = c.served + c.limited + c.overloaded + c.failed + c.unusable + c.rejected + c.abandoned + c.beaten
        assert c.granted == endings + backend.in_flight
    assert sum(view.waiting_classes.values()) == sum(view.waiting.values()) == view.totals.waiting


def check_least(view: FleetView, account: str) -> None:
    """Never above the least of all that was declared, said, shared and learnt, as the view shows it."""
    meter = next(a for a in view.accounts if a.name == account)
    for room in meter.rooms:
        # A trial is one stream more than was learnt, never than was declared or shared.
        most = max(room.limit, meter.learnt or 0) if room.source == "learned" else room.limit
        assert room.kind in ("tpm", "tps") or room.used <= most
        assert room.whole is None or room.kind == "streams" or room.limit <= room.whole
    assert meter.learnt is None or meter.in_flight <= max(1, meter.learnt)
