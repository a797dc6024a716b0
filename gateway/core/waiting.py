"""Those who wait: a ticket each, the alarm that ends their waiting, and what the dispatcher asks of a queue.

`Waiting` is the seam; `core.lanes` is the queue behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gateway.core.affinity import Homing
from gateway.core.budget import Budget
from gateway.core.choose import Seat, Shy
from gateway.core.fair import Share
from gateway.core.fleet import LaneKey, Path, Route
from gateway.core.nouns import Lease, Request, ServiceClass

if TYPE_CHECKING:
    from gateway.core.hedge import Race


class Ticket:
    """One request's way through the dispatcher: waiting or running, one attempt after the other.

    `shy` are backends tried already, `barred` those of them that failed by their own fault; `waited` is the time
    spent in the queue before, `until` when waiting must end; `unspent` is what is left of the reservation; `budget`
    pays for retries; `share` pays for service, `charged` is what it paid for this attempt; `told` is when tokens were
    last heard of, `beside` how many ran on that account then; `race` is shared with the ticket of a hedge, and stays
    when that is over: no request is hedged twice; `marks` and `homing`: see `affinity`.
    """

    __slots__ = (
        "answer", "attempt", "barred", "begun", "beside", "budget", "charged", "flowed", "homing", "key", "lease",
        "marks", "path", "probe", "prompt", "queued", "race", "request", "route", "seat", "seq", "share", "shy", "told",
        "total", "trial", "unspent", "until", "waited",
    )  # fmt: skip

    lease: Lease
    seat: Seat
    budget: Budget
    share: Share
    charged: float
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
        self.marks = request.affinity
        self.homing: Homing = ""
        self.attempt = self.seq = 0
        self.shy: Shy = ()
        self.barred: Shy = ()
        self.waited = 0.0
        self.probe = self.trial = self.begun = False
        self.race: Race | None = None

    def __repr__(self) -> str:
        return f"<Ticket {self.request.id}, attempt {self.attempt}>"


class Place(NamedTuple):
    """How many go before somebody in his lane, if nobody else comes; and how many of these are his own tenant's."""

    ahead: int
    own: int


class Waiting(Protocol):
    """Who waits, and in which order they are asked. `len` is how many wait."""

    emptied: dict[tuple[LaneKey, Share], None]
    """Lanes, and whose requests in them, of which none waits any more; the reader clears it."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Ticket]: ...

    def busy(self, key: LaneKey, class_: ServiceClass) -> bool:
        """Whether somebody waits in this lane behind whom a newcomer of this class must wait."""
        ...

    def holds(self, key: LaneKey, share: Share | None = None) -> bool:
        """Whether anybody waits in this lane, or anybody of this share."""
        ...

    def put(self, ticket: Ticket) -> Place:
        """Let him wait under `ticket.key`."""
        ...

    def place(self, ticket: Ticket) -> Place:
        """Where he who waits stands now."""
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

    def newest(self, share: Share, route: Route) -> Ticket:
        """The last to arrive of those who wait for this route at this share's cost. There must be one."""
        ...

    def tails(self, most: int) -> list[Iterator[tuple[Ticket, Place]]]:
        """Of so many tenants at most, taken in turn: who would be served last, his place, and those before him."""
        ...


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
