"""What a central queue that knows the future would make of a demand: the yardstick of the gateway.

It knows every answer's length, every limit and every outage, sees a slot the moment it frees, and is never refused
or cut. It keeps the same promises as the gateway, or the comparison would be unfair: weighted max-min among tenants
(the least served first, by true cost), first come first served among one tenant's who can still make it, nobody waits
longer than the same patience, and no limit is exceeded, tokens included (what runs is counted in full, exactly). The
clouds are the same behaviour model, time per token rising with load. No finite computation gives the exact hindsight
optimum (it is an integer programme); `bound` is above everybody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import islice
from math import inf

from gateway.clouds import laws
from gateway.clouds.counts import Windows
from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet, Profile
from gateway.clouds.tickets import Admitted, Ask, Event, Ticket
from gateway.core.fair import ANSWER
from gateway.sim.demand import Need, Outage
from gateway.sim.score import Record, Terms
from gateway.sim.stage import Stage

LOOK_AHEAD = 64
"""how many waiting requests are tried when the first fits nowhere"""
POLL = 0.02
"""seconds after which a full window is looked at again"""
PREFILL_MARGIN = 0.3


class Ledger:
    """What one cloud has left, counted as exactly as the cloud counts, with the rest of every running answer."""

    def __init__(self, profile: Profile, outages: tuple[Outage, ...]) -> None:
        self.profile = profile
        self.in_flight = 0
        self.owed = 0
        limits = profile.limits
        # a cloud's own queue counts as waiting room, for whoever declares more streams than it computes at once
        self.cap: float = limits.streams or profile.slots or inf
        self._windows = Windows()
        self._outages = [outage for outage in outages if outage.cloud == profile.name]

    def is_open(self, now: float) -> bool:
        """Could it take some request now?"""
        return self._lacks(now) == ""

    def waits_for_time(self, now: float) -> bool:
        """May lapse of time alone make room? An open one counts: it was too full for those who asked."""
        return self._lacks(now) != "slot"

    def fits(self, need: Need, now: float) -> bool:
        """Is there room for this request, and will it be done before the cloud fails?"""
        limits, used = self.profile.limits, self._windows
        total = need.prompt + need.answer
        if limits.tpm is not None and used.tpm.total(now) + self.owed + total > limits.tpm:
            return False
        if limits.tps is not None and used.tps.total(now) + need.prompt > limits.tps:
            return False
        done = now + self._longest(need)
        return all(done < outage.starts or now >= outage.ends for outage in self._outages)

    def load(self) -> float:
        """The share of its slots in use; without a number of slots, how much slower it is than when empty."""
        if self.cap < inf:
            return self.in_flight / self.cap
        rules = self.profile.laws
        return 1.0 - rules.t0 / laws.per_token(rules, self.in_flight)

    def take(self, need: Need, now: float) -> None:
        self.in_flight += 1
        self.owed += need.answer
        self._windows.request(now)
        self._windows.tokens(need.prompt, now)

    def flowed(self, tokens: int, now: float) -> None:
        self.owed -= tokens
        self._windows.tokens(tokens, now)

    def ended(self, unspent: int) -> None:
        self.in_flight -= 1
        self.owed -= unspent

    def _lacks(self, now: float) -> str:
        """What it has none of: a slot, a window, its health; empty if nothing."""
        if any(outage.starts <= now < outage.ends for outage in self._outages):
            return "outage"
        if self.in_flight >= self.cap:
            return "slot"
        limits, used = self.profile.limits, self._windows
        full = (
            (limits.rps is not None and used.rps.total(now) >= limits.rps)
            or (limits.ramp is not None and used.ramp.total(now) + 1 > limits.ramp)
            or (limits.rpm is not None and used.rpm.total(now) >= limits.rpm)
            or (limits.tpm is not None and used.tpm.total(now) + self.owed >= limits.tpm)
        )
        return "window" if full else ""

    def _longest(self, need: Need) -> float:
        """Seconds within which it is certainly done, were the cloud as full as it gets."""
        rules = self.profile.laws
        crowd = self.cap if self.cap < inf else 2 * self.in_flight + 8
        slowest = (1 + rules.jitter) * laws.per_token(rules, int(crowd))
        # whoever must wait inside the cloud waits for an answer about as long as its own
        turns = 2 if self.profile.slots is not None and self.in_flight >= self.profile.slots else 1
        return PREFILL_MARGIN + rules.net * (1 + rules.jitter) + turns * need.answer * slowest


class Line:
    """Those who wait, tenant by tenant; who was served least goes first. Who comes back has saved nothing up."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._had: dict[str, float] = {}
        self._waiting: dict[str, deque[Need]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __iter__(self) -> Iterator[Need]:
        """All, in the order in which they would be served."""
        turns = [(self._had[name], needs[0].at, needs[0].id, name, 0) for name, needs in self._waiting.items()]
        heapify(turns)
        while turns:
            had, _, _, name, place = turns[0]
            needs = self._waiting[name]
            yield needs[place]
            following = needs[place + 1] if place + 1 < len(needs) else None
            turn = (had + self._cost(needs[place]), following.at, following.id) if following else (inf, 0.0, 0)
            heapreplace(turns, (*turn, name, place + 1))
            if turns[0][0] == inf:
                return

    def join(self, need: Need) -> None:
        needs = self._waiting.get(need.tenant)
        if needs is None:
            least = min((self._had[name] for name in self._waiting), default=max(self._had.values(), default=0.0))
            self._had[need.tenant] = max(self._had.get(need.tenant, 0.0), least)
            needs = self._waiting[need.tenant] = deque()
        needs.append(need)

    def take(self, need: Need) -> None:
        """He is served."""
        self._had[need.tenant] += self._cost(need)
        self._leave(need)

    def oldest(self) -> float:
        """When the first of those who wait arrived, `inf` if nobody does."""
        return min((needs[0].at for needs in self._waiting.values()), default=inf)

    def late(self, patience: float, now: float) -> list[Need]:
        """Take out those who have waited longer than that."""
        late = [need for needs in self._waiting.values() for need in needs if need.at + patience < now]
        for need in late:
            self._leave(need)
        return late

    def _leave(self, need: Need) -> None:
        needs = self._waiting[need.tenant]
        needs.remove(need)
        if not needs:
            del self._waiting[need.tenant]

    def _cost(self, need: Need) -> float:
        return (need.prompt + ANSWER * need.answer) / self._weights.get(need.tenant, 1.0)


@dataclass(slots=True)
class _Ride:
    need: Need
    name: str
    sent: float
    first: float | None = None


class Clairvoyant:
    """One replay. `run` returns a record for every need, in the order in which they ended."""

    def __init__(
        self,
        fleet: Fleet,
        needs: tuple[Need, ...],
        outages: tuple[Outage, ...],
        terms: Terms,
        seed: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._stage = Stage(fleet, outages, seed)
        self._ledgers = {profile.name: Ledger(profile, outages) for profile in fleet.clouds}
        self._terms = terms
        self._coming = deque(needs)
        self._queue = Line(weights or {})
        self._rides: dict[Ticket, _Ride] = {}
        self._records: list[Record] = []
        self._poll = inf

    def run(self) -> list[Record]:
        now = 0.0
        while self._coming or self._queue or self._rides:
            coming = self._coming[0].at if self._coming else inf
            now = max(now, min(coming, self._stage.next(), self._alarm()))
            ended = len(self._records)
            for name, event in self._stage.advance(now):
                self._seen(name, event)
            while self._coming and self._coming[0].at <= now:
                self._queue.join(self._coming.popleft())
            self._give_up(now)
            if now >= min(coming, self._poll) or len(self._records) > ended:
                self._serve(now)
        return self._records

    @property
    def clouds(self) -> dict[str, Cloud]:
        """The clouds, for what they counted."""
        return self._stage.clouds

    def _alarm(self) -> float:
        """When the first of the queue loses patience, or a window may have opened."""
        return min(self._poll, self._queue.oldest() + self._terms.patience + 1e-9) if self._queue else inf

    def _give_up(self, now: float) -> None:
        if self._queue.oldest() + self._terms.patience >= now:
            return
        for late in self._queue.late(self._terms.patience, now):
            self._records.append(Record(late, "refused", now, queued=now - late.at, reason="patience", told=True))

    def _serve(self, now: float) -> None:
        while self._queue:
            doors = [ledger for ledger in self._ledgers.values() if ledger.is_open(now)]
            placed = next(
                (
                    (need, ledger)
                    for need in (islice(self._queue, LOOK_AHEAD) if doors else ())
                    if (ledger := self._best(doors, need, now)) is not None
                ),
                None,
            )
            if placed is None:
                timed = any(ledger.waits_for_time(now) for ledger in self._ledgers.values())
                self._poll = now + POLL if timed else inf
                return
            self._queue.take(placed[0])
            self._send(*placed, now)

    def _best(self, doors: list[Ledger], need: Need, now: float) -> Ledger | None:
        return min((ledger for ledger in doors if ledger.fits(need, now)), key=Ledger.load, default=None)

    def _send(self, need: Need, ledger: Ledger, now: float) -> None:
        name = ledger.profile.name
        answer = self._stage.clouds[name].arrive(Ask(need.prompt, need.answer), now)
        ledger.take(need, now)
        if isinstance(answer, Admitted):
            self._rides[answer.ticket] = _Ride(need, name, now)
            return
        ledger.ended(need.answer)
        self._records.append(Record(need, "failed", now, attempts=1, backend=name, reason=answer.kind))

    def _seen(self, name: str, event: Event) -> None:
        ride, ledger = self._rides[event.ticket], self._ledgers[name]
        if event.kind == "tokens":
            ledger.flowed(event.count, event.at)
            if ride.first is None:
                ride.first = event.at
        if not event.ends:
            return
        del self._rides[event.ticket]
        need, produced = ride.need, event.ticket.produced
        ledger.ended(need.answer - produced)
        whole = event.kind == "finish"
        self._records.append(
            Record(
                need,
                "served" if whole else "failed",
                event.at,
                first=ride.first if need.stream else None,
                queued=ride.sent - need.at,
                tokens=produced,
                attempts=1,
                backend=name,
                reason="" if whole else event.kind,
            )
        )


def replay(
    fleet: Fleet,
    needs: tuple[Need, ...],
    outages: tuple[Outage, ...],
    terms: Terms,
    seed: int = 0,
    weights: Mapping[str, float] | None = None,
) -> list[Record]:
    """The clairvoyant's records of a demand. `seed` is the clouds' jitter only."""
    return Clairvoyant(fleet, needs, outages, terms, seed, weights).run()
