"""Those who wait. One queue, made of lanes: who may use the same backends waits in the same lane.

Inside a lane it is first come, first served, by arrival: a request that comes back after a failed attempt takes its
old place. A head that has no room blocks only its own lane, since others may use backends that it may not. Lanes
are asked in the order in which their heads arrived.

`Waiting` is the seam: a fair queue replaces `Lanes` by ordering differently behind the same five verbs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Protocol

from gateway.core.budget import Budget
from gateway.core.choose import Seat, Shy
from gateway.core.fleet import LaneKey, Path, Route
from gateway.core.nouns import Lease, Request

if TYPE_CHECKING:
    from gateway.core.hedge import Race


class Ticket:
    """One request's way through the dispatcher: waiting or running, one attempt after the other.

    `shy` are backends tried already, `barred` those of them that failed by their own fault; `waited` is the time
    spent in the queue before, `until` when waiting must end; `unspent` is what is left of the reservation; `budget`
    pays for retries; `told` is when tokens were last heard of, `beside` how many ran on that account then; `race` is
    shared with the ticket of a hedge, and stays when that is over: no request is hedged twice.
    """

    __slots__ = (
        "answer", "attempt", "barred", "begun", "beside", "budget", "flowed", "key", "lease", "path", "probe", "prompt",
        "queued", "race", "request", "route", "seat", "seq", "shy", "told", "total", "trial", "unspent", "until",
        "waited",
    )  # fmt: skip

    lease: Lease
    seat: Seat
    budget: Budget
    flowed: int
    beside: float
    told: float
    unspent: int
    queued: float
    until: float

    def __init__(self, request: Request, route: Route, path: Path, prompt: int, answer: int) -> None:
        self.request = request
        self.route = route
        self.path = path
        self.prompt = prompt
        self.answer = answer
        self.total = prompt + answer
        self.key: LaneKey = path.key
        self.attempt = self.seq = 0
        self.shy: Shy = ()
        self.barred: Shy = ()
        self.waited = 0.0
        self.probe = self.trial = self.begun = False
        self.race: Race | None = None

    def __repr__(self) -> str:
        return f"<Ticket {self.request.id}, attempt {self.attempt}>"


class Waiting(Protocol):
    """Who waits, and in which order they are asked. `len` is how many wait."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Ticket]: ...

    def busy(self, key: LaneKey) -> bool:
        """Whether somebody waits in this lane, so that a newcomer must wait behind him."""
        ...

    def put(self, ticket: Ticket) -> int:
        """Let him wait under `ticket.key`; the number of those before him in his lane."""
        ...

    def drop(self, ticket: Ticket) -> None:
        """He waits no longer."""
        ...

    def serve(self, place: Callable[[Ticket], bool]) -> None:
        """Ask heads in order; each that `place` accepts leaves, and each that it does not blocks his lane."""
        ...

    def heads(self) -> Iterator[Ticket]:
        """The next of each lane."""
        ...


class Lanes:
    """First come, first served, per set of eligible backends."""

    __slots__ = ("_count", "_lanes")

    def __init__(self) -> None:
        self._lanes: dict[LaneKey, list[tuple[float, int, Ticket]]] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<Lanes: {self._count} waiting in {len(self._lanes)}>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        return (entry[2] for lane in self._lanes.values() for entry in lane)

    def busy(self, key: LaneKey) -> bool:
        return key in self._lanes

    def put(self, ticket: Ticket) -> int:
        lane = self._lanes.setdefault(ticket.key, [])
        entry = (ticket.request.arrived, ticket.seq, ticket)
        place = bisect_left(lane, entry)
        insort(lane, entry)
        self._count += 1
        return place

    def drop(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.key]
        del lane[bisect_left(lane, (ticket.request.arrived, ticket.seq, ticket))]
        self._count -= 1
        if not lane:
            del self._lanes[ticket.key]

    def serve(self, place: Callable[[Ticket], bool]) -> None:
        order = [lane[0] for lane in self._lanes.values()]
        heapify(order)
        while order:
            ticket = heappop(order)[2]
            if place(ticket):
                self.drop(ticket)
                lane = self._lanes.get(ticket.key)
                if lane:
                    heappush(order, lane[0])

    def heads(self) -> Iterator[Ticket]:
        return (lane[0][2] for lane in self._lanes.values())


class Alarms:
    """When each waiting ticket must stop waiting. Entries of those who left are swept when they outnumber the rest."""

    __slots__ = ("_heap", "_live")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._live: dict[int, float] = {}

    def set(self, ticket: Ticket) -> None:
        """He waits until `ticket.until`."""
        self._live[ticket.seq] = ticket.until
        heappush(self._heap, (ticket.until, ticket.seq, ticket))

    def clear(self, ticket: Ticket) -> None:
        """He waits no longer."""
        self._live.pop(ticket.seq, None)
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [entry for entry in self._heap if self._live.get(entry[1]) == entry[0]]
            heapify(self._heap)

    def next(self) -> float:
        """The earliest end of waiting, `inf` if nobody waits."""
        heap = self._heap
        while heap and self._live.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else inf

    def over(self, now: float) -> list[Ticket]:
        """Take those whose waiting is over, each once."""
        late = []
        while self.next() <= now:
            ticket = heappop(self._heap)[2]
            del self._live[ticket.seq]
            late.append(ticket)
        return late
