"""Where the beginning of a prompt is known: so that a cloud finds it in its own cache.

A request carries *marks*: hashes of ever longer beginnings of its prompt (`wire.prefix`). Its home is found in two
steps, among the backends that have room and carry no more than their part of the load:

1. the backends that this replica has sent the longest known beginning to; stickiness of conversations, and their
   branches, follow from that;
2. if nothing is known but what everybody's prompts begin with, and the tier asks for the least loaded, the first in
   the order of a rendezvous hash over the shortest beginning that is not popular. All replicas agree on it without a
   word, and when a backend leaves, only what was at home there moves (Thaler and Ravishankar, "Using name-based
   mappings to increase hit rates", 1998). A tier with another rule decides by that rule.

A beginning that a good part of all requests share (a system prompt) thus has no single home: what follows it decides,
and it is soon known everywhere.

Load is bounded as in Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018): a backend in
flight with more than `bound` times its part of all is left out, by its declared streams where all declare them. A
backend of which less than `QUIET` is in use is never left for balance.
"""

from __future__ import annotations

from hashlib import blake2b
from math import ceil, inf
from typing import TYPE_CHECKING, Literal

from gateway.core.meter import FULL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.core.choose import Chance, Need, Pick, Seat, Shy
    from gateway.core.rules import AffinityRules

Homing = Literal["", "known", "fresh", "moved"]
"""How a seat was found: without affinity; where the beginning is known; a new home; elsewhere, home had no room."""

SIZE = 32_768
"""Marks in one generation of the memory; there are two."""
DEEPEST = 12
"""So many marks are looked at for being popular."""
FEW = 8
"""Not popular yet, whatever the share."""
POPULAR = 0.1
"""Of one backend's part of the requests: a beginning that more of them share has no home of its own."""
QUIET = 0.25
_NAMES = 256
_WORD = (1 << 64) - 1


class _Generation:
    """Who has seen what, and how often the first marks came."""

    __slots__ = ("began", "counts", "seen", "total")

    def __init__(self, began: float) -> None:
        self.began = began
        self.seen: dict[int, int] = {}
        self.counts: dict[int, int] = {}
        self.total = 0


class Homes:
    """What one model's backends have seen of late, as far as this replica knows. Bounded: two generations of `SIZE`
    marks; the elder is forgotten when the younger is full or `keep` seconds old.

    `known`, `fresh`, `moved`: requests by how their backend was found, see `Homing`.
    """

    __slots__ = ("_bits", "_old", "_young", "fresh", "known", "moved", "rules")

    def __init__(self, rules: AffinityRules) -> None:
        self.rules = rules
        self.known = self.fresh = self.moved = 0
        self._bits: dict[str, int] = {}
        self._young = self._old = _Generation(-inf)

    def __repr__(self) -> str:
        return f"<Homes {len(self._young.seen)} marks, known {self.known}, fresh {self.fresh}, moved {self.moved}>"

    def learn(self, marks: tuple[int, ...], backend: str, how: Homing, now: float) -> None:
        """A prompt with these beginnings was sent to the backend."""
        if how == "known":
            self.known += 1
        elif how == "moved":
            self.moved += 1
        else:
            self.fresh += 1
        young = self._young
        if len(young.seen) >= SIZE or now - young.began >= self.rules.keep:
            self._old, self._young = young, _Generation(now)
            young = self._young
        bit = self.bit(backend)
        for mark in marks:
            young.seen[mark] = young.seen.get(mark, 0) | self._old.seen.get(mark, 0) | bit
        for mark in marks[:DEEPEST]:
            young.counts[mark] = young.counts.get(mark, 0) + 1
        young.total += 1

    def bit(self, backend: str) -> int:
        """The backend's place in the memory's masks."""
        found = self._bits.get(backend)
        if found is None:
            if len(self._bits) >= _NAMES:  # a document that keeps changing names
                self._bits.clear()
                self._young = self._old = _Generation(-inf)
            found = self._bits[backend] = 1 << len(self._bits)
        return found

    def depth(self, marks: tuple[int, ...], backends: int) -> int:
        """How many marks it takes until a beginning is not popular; at most all, or `DEEPEST`."""
        young, old = self._young, self._old
        most = max(FEW, POPULAR / backends * (young.total + old.total))
        for place, mark in enumerate(marks[:DEEPEST], 1):
            if young.counts.get(mark, 0) + old.counts.get(mark, 0) <= most:
                return place
        return min(len(marks), DEEPEST)

    def home(self, marks: tuple[int, ...], seats: tuple[Seat, ...]) -> tuple[int, int]:
        """Who of them knows the longest beginning, as a mask, and the number of marks that are popular plus one."""
        depth = self.depth(marks, len(seats))
        return self.knowers(marks, sum({self.bit(seat.standing.name) for seat in seats}), depth), depth

    def names(self, marks: tuple[int, ...], seats: tuple[Seat, ...], *, hashed: bool) -> frozenset[str]:
        """Where a prompt with these beginnings is at home; nowhere if that is for the tier's rule to say."""
        if not marks:
            return frozenset()
        home, depth = self.home(marks, seats)
        if not home and hashed:
            return frozenset({first_of(seats, marks[depth - 1]).standing.name})
        return frozenset(seat.standing.name for seat in seats if self.bit(seat.standing.name) & home)

    def knowers(self, marks: tuple[int, ...], among: int, depth: int) -> int:
        """Those among the mask who know the longest beginning that any of them knows; 0 if it is not longer than
        what is popular."""
        young, old = self._young.seen, self._old.seen
        known = 0
        for mark in marks:
            fewer = among & (young.get(mark, 0) | old.get(mark, 0))
            if not fewer:
                break
            among = fewer
            known += 1
        return among if known >= depth else 0


class Homed:
    """A tier's rule with affinity: home first, and `base` between equals and for what has none. `hashed`: what is new
    goes where its hash says."""

    __slots__ = ("_base", "_hashed", "_homes")

    def __init__(self, base: Pick, homes: Homes, *, hashed: bool) -> None:
        self._base = base
        self._homes = homes
        self._hashed = hashed

    def pick(self, seats: tuple[Seat, ...], need: Need, now: float, rng: Chance, shy: Shy) -> Seat | None:
        """See `choose.Pick`. Tells the need how its seat was found."""
        marks = need.marks
        if not marks:
            return self._base(seats, need, now, rng, shy)
        homes = self._homes
        fit = {homes.bit(seat.standing.name): seat for seat in self._fit(seats, need, now, shy)}
        if not fit:
            return None
        here = sum(fit)
        home, depth = homes.home(marks, seats)
        if home:
            need.homing = "known" if home & here else "moved"
            here = home & here or homes.knowers(marks, here, depth) or here
            seats = tuple(seat for bit, seat in fit.items() if bit & here)
            return seats[0] if len(seats) == 1 else self._base(seats, need, now, rng, shy)
        need.homing = "fresh"
        if not self._hashed:
            return self._base(seats, need, now, rng, shy)
        seat = first_of(seats, marks[depth - 1])
        if homes.bit(seat.standing.name) not in fit:
            need.homing = "moved"
            seat = first_of(fit.values(), marks[depth - 1])
        return seat

    def _fit(self, seats: tuple[Seat, ...], need: Need, now: float, shy: Shy) -> list[Seat]:
        """Those with room that carry no more than their part; all with room if none is left."""
        up = [seat for seat in seats if seat.meter.cooling_until <= now and seat.standing.out_until(seat.model) <= now]
        loads = [(seat, seat.meter.load(need.prompt, need.total, now)) for seat in up if seat.standing not in shy]
        room = [(seat, load) for seat, load in loads if load < FULL]
        if len(room) < 2:
            return [seat for seat, _ in room]
        declared = [seat.meter.bounds.declared.streams or 0 for seat in up]
        capped = all(declared)
        whole = sum(declared) if capped else len(up)
        part = self._homes.rules.bound * (1 + sum(seat.meter.in_flight for seat in up)) / whole
        fair = [
            seat
            for seat, load in room
            if (capped and load < QUIET)
            or seat.meter.in_flight < ceil(part * ((seat.meter.bounds.declared.streams or 1) if capped else 1))
        ]
        return fair or [seat for seat, _ in room]


def first_of(seats: Iterable[Seat], mark: int) -> Seat:
    """The first in the mark's own order: by the highest hash of mark and name."""
    return max(seats, key=lambda seat: _mixed(mark ^ seat.standing.seed))


def seed_of(name: str) -> int:
    """A backend's part of the hash; the same in every process."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def _mixed(word: int) -> int:
    """Every bit of the answer depends on every bit of the word: the finaliser of splitmix64 (Steele et al., 2014)."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)
