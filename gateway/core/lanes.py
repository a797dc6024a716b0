"""The queue: who waits, in fair order.

Who may use the same backends waits in the same *lane*; a head that has no room blocks only its own lane, since others
may use backends that it may not. In a lane the bands come in their order, in a band the tenant with the lowest counter
(see `fair`), and one tenant's requests in the order in which they arrived: a request that comes back after a failed
attempt takes its old place.

Adaptive LIFO, for one tenant's interactive requests: when the oldest has used up more than `HIGH` of the time that it
may wait, the queue does not drain in time, and first come first served would answer everybody at the last moment. Then
the newest goes first until the oldest is younger than `LOW`; the old ones are refused when they have become hopeless
(`core.patience`). Facebook's rule ("Fail at scale", ACM Queue 2015) with age for a mark, which needs no tuning.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from math import inf
from operator import attrgetter

from gateway.core.fair import ANSWER, CLASSES, Share
from gateway.core.fleet import LaneKey, Route
from gateway.core.nouns import ServiceClass
from gateway.core.waiting import Place, Ticket

HIGH, LOW = 0.5, 0.25
LOOKS = 1000
"""A look at the ends of queues compares so many pairs of tenants at most, or one tenant with all."""
_counter = attrgetter("counter")

_Order = tuple[int, float, float, int, Ticket]


class Flow:
    """One tenant's requests in one lane and band. `cost` is the sum of what they are expected to be charged."""

    __slots__ = ("cost", "entries", "newest_first", "share")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.entries: list[tuple[float, int, Ticket]] = []
        self.cost = 0.0
        self.newest_first = False

    @property
    def head(self) -> tuple[float, int, Ticket]:
        return self.entries[-1 if self.newest_first else 0]

    @property
    def mean(self) -> float:
        """By how much one of them raises the counter."""
        return self.cost * self.share.rate / len(self.entries)

    def add(self, ticket: Ticket) -> int:
        """Let him wait; how many of the same tenant go before him."""
        entry = (ticket.request.arrived, ticket.seq, ticket)
        insort(self.entries, entry)
        self.cost += _cost(ticket)
        if self.share.band.rank == 0 and not ticket.attempt:
            self._turn(ticket.queued)
        return self.before(ticket)

    def before(self, ticket: Ticket) -> int:
        """How many of the same tenant go before him."""
        place = bisect_left(self.entries, (ticket.request.arrived, ticket.seq, ticket))
        return len(self.entries) - 1 - place if self.newest_first else place

    def remove(self, ticket: Ticket) -> None:
        del self.entries[bisect_left(self.entries, (ticket.request.arrived, ticket.seq, ticket))]
        self.cost -= _cost(ticket)

    def from_the_end(self) -> Iterator[tuple[int, Ticket]]:
        """Those who go last first, each with the number of those before him."""
        order = self.entries if self.newest_first else reversed(self.entries)
        return ((len(self.entries) - 1 - place, entry[2]) for place, entry in enumerate(order))

    def _turn(self, now: float) -> None:
        oldest = self.entries[0][2]
        patience = oldest.until - oldest.request.arrived
        used = (now - oldest.request.arrived) / patience if patience > 0 else inf
        self.newest_first = used > (LOW if self.newest_first else HIGH)


class Lane:
    """Flows by band and share."""

    __slots__ = ("bands",)

    def __init__(self) -> None:
        self.bands: tuple[dict[Share, Flow], ...] = tuple({} for _ in CLASSES)

    def head(self) -> _Order:
        """Who goes next, behind what orders the heads of several lanes. The lane is not empty."""
        rank, place = self._band()
        flows = self.bands[rank]
        least = min(map(_counter, flows))
        return (place, least, *min(flow.head for share, flow in flows.items() if share.counter == least))

    def ahead(self, flow: Flow, own: int) -> int:
        """How many go before one of this flow that has `own` of it before him, if nobody else comes."""
        share, mean = flow.share, flow.mean
        count = own + sum(len(other.entries) for flows in self.bands[: share.band.rank] for other in flows.values())
        start = share.counter + own * mean
        for rival, other in self.bands[share.band.rank].items():
            lead = start - rival.counter
            if lead < 0 or other is flow or (lead == 0 and other.head > flow.head):
                continue
            count += min(len(other.entries), int(lead / other.mean) + 1)
        return count

    def tail(self, flow: Flow) -> Iterator[tuple[Ticket, Place]]:
        """One flow's requests with their places, those that go last first."""
        return ((ticket, Place(self.ahead(flow, own), own)) for own, ticket in flow.from_the_end())

    def _band(self) -> tuple[int, int]:
        """The band that goes next: one that is owed service, else the highest; and its place in the order."""
        first = -1
        for rank, flows in enumerate(self.bands):
            if not flows:
                continue
            if rank and next(iter(flows)).band.urgent:
                return rank, -1
            if first < 0:
                first = rank
        return first, first


class Queue:
    """All lanes. The only one who moves the `waiting` counts of shares, bands and pools."""

    __slots__ = ("_count", "_lanes", "_looked", "emptied")

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, Lane] = {}
        self._count = 0
        self._looked = 0
        self.emptied: dict[tuple[LaneKey, Share], None] = {}

    def __repr__(self) -> str:
        return f"<Queue: {self._count} waiting in {len(self._lanes)} lanes>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        return (entry[2] for _, flow in self._flows() for entry in flow.entries)

    def busy(self, key: LaneKey, class_: ServiceClass) -> bool:
        lane = self._lanes.get(key)
        if lane is None:
            return False
        rank = CLASSES.index(class_)
        return any(flows and (place <= rank or next(iter(flows)).band.urgent) for place, flows in enumerate(lane.bands))

    def holds(self, key: LaneKey, share: Share | None = None) -> bool:
        lane = self._lanes.get(key)
        return lane is not None and (share is None or share in lane.bands[share.band.rank])

    def put(self, ticket: Ticket) -> Place:
        share = ticket.share
        band = share.band
        lane = self._lanes.get(ticket.key)
        if lane is None:
            lane = self._lanes[ticket.key] = Lane()
        flows = lane.bands[band.rank]
        flow = flows.get(share)
        if flow is None:
            if not ticket.attempt:
                # Not above those who wait here already: the clock may have been driven by a faster lane.
                share.lift(min(band.least, min((other.counter for other in flows), default=inf)))
            flow = flows[share] = Flow(share)
        own = flow.add(ticket)
        self._count += 1
        share.waiting += 1
        band.waiting += 1
        band.pool.waiting += 1
        return Place(lane.ahead(flow, own), own)

    def place(self, ticket: Ticket) -> Place:
        lane = self._lanes[ticket.key]
        flow = lane.bands[ticket.share.band.rank][ticket.share]
        own = flow.before(ticket)
        return Place(lane.ahead(flow, own), own)

    def drop(self, ticket: Ticket) -> None:
        share = ticket.share
        lane = self._lanes[ticket.key]
        flows = lane.bands[share.band.rank]
        flow = flows[share]
        flow.remove(ticket)
        if not flow.entries:
            del flows[share]
            self.emptied[ticket.key, share] = None
            if not any(lane.bands):
                del self._lanes[ticket.key]
        self._count -= 1
        share.waiting -= 1
        share.band.waiting -= 1
        share.band.pool.waiting -= 1
        if not share.band.waiting:
            share.band.owed = min(share.band.owed, 0.0)

    def serve(self, place: Callable[[Ticket], bool]) -> None:
        lanes = dict(self._lanes)
        while lanes:
            key, head = min(((key, lane.head()) for key, lane in lanes.items()), key=_order)
            if place(head[-1]):
                self.drop(head[-1])
                if key not in self._lanes:
                    del lanes[key]
            else:
                del lanes[key]

    def heads(self) -> Iterator[Ticket]:
        return (lane.head()[-1] for lane in self._lanes.values())

    def newest(self, share: Share, route: Route) -> Ticket:
        return max(
            entry
            for lane in self._lanes.values()
            if (flow := lane.bands[share.band.rank].get(share)) is not None
            for entry in flow.entries
            if entry[2].route is route
        )[2]

    def tails(self, most: int) -> list[Iterator[tuple[Ticket, Place]]]:
        flows = list(self._flows())
        most = min(most, max(1, LOOKS // max(1, len(flows))))
        first = self._looked % max(1, len(flows))
        self._looked = first + most
        return [lane.tail(flow) for lane, flow in (flows[first:] + flows[:first])[:most]]

    def _flows(self) -> Iterator[tuple[Lane, Flow]]:
        return ((lane, flow) for lane in self._lanes.values() for flows in lane.bands for flow in flows.values())


def _order(lane: tuple[LaneKey, _Order]) -> tuple[int, float, float, int]:
    return lane[1][:4]


def _cost(ticket: Ticket) -> int:
    return ticket.prompt + ANSWER * ticket.answer
