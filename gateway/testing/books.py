"""Books kept by hand: what must agree inside a dispatcher at any time, whatever was done to it."""

from __future__ import annotations

from gateway.core.dispatcher import Dispatcher


def check_queue(dispatcher: Dispatcher) -> None:
    """Every count of those who wait agrees with who waits; bounds hold; counters never drift below nothing."""
    tickets = list(dispatcher._waiting)
    assert sorted(t.seq for t in tickets) == sorted(t.seq for t in dispatcher._tickets.values())
    assert len({t.seq for t in tickets}) == len(tickets)
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
