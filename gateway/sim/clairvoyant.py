"""What a central queue that knows the future would make of a demand: the yardstick of the gateway.

It knows every answer's length, every limit and every outage, sees a slot the moment it frees, and is never refused
or cut. It keeps the same promises as the gateway, or the comparison would be unfair: first come first served among
those who can still make it, nobody waits longer than the same patience, and no limit is exceeded, tokens included
(what runs is counted in full, exactly). The clouds are the same behaviour model, time per token rising with load.
No finite computation gives the exact hindsight optimum (it is an integer programme); `bound` is above everybody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf

from gateway.clouds import laws
from gateway.clouds.counts import Windows
from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet, Profile
from gateway.clouds.tickets import Admitted, Ask, Event, Ticket
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


@dataclass(slots=True)
class _Ride:
    need: Need
    name: str
    sent: float
    first: float | None = None


class Clairvoyant:
    """One replay. `run` returns a record for every need, in the order in which they ended."""

    def __init__(
        self, fleet: Fleet, needs: tuple[Need, ...], outages: tuple[Outage, ...], terms: Terms, seed: int
    ) -> None:
        self._stage = Stage(fleet, outages, seed)
        self._ledgers = {profile.name: Ledger(profile, outages) for profile in fleet.clouds}
        self._terms = terms
        self._coming = deque(needs)
        self._queue: deque[Need] = deque()
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
                self._queue.append(self._coming.popleft())
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
        return min(self._poll, self._queue[0].at + self._terms.patience + 1e-9) if self._queue else inf

    def _give_up(self, now: float) -> None:
        while self._queue and self._queue[0].at + self._terms.patience < now:
            late = self._queue.popleft()
            self._records.append(Record(late, "refused", now, queued=now - late.at, reason="patience", told=True))

    def _serve(self, now: float) -> None:
        while self._queue:
            doors = [ledger for ledger in self._ledgers.values() if ledger.is_open(now)]
            placed = next(
                (
                    (place, ledger)
                    for place in range(min(len(self._queue), LOOK_AHEAD) if doors else 0)
                    if (ledger := self._best(doors, self._queue[place], now)) is not None
                ),
                None,
            )
            if placed is None:
                timed = any(ledger.waits_for_time(now) for ledger in self._ledgers.values())
                self._poll = now + POLL if timed else inf
                return
            need = self._queue[placed[0]]
            del self._queue[placed[0]]
            self._send(need, placed[1], now)

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
    fleet: Fleet, needs: tuple[Need, ...], outages: tuple[Outage, ...], terms: Terms, seed: int = 0
) -> list[Record]:
    """The clairvoyant's records of a demand. `seed` is the clouds' jitter only."""
    return Clairvoyant(fleet, needs, outages, terms, seed).run()
