"""Replicas with real meters, books and ledgers, and a cloud that counts, in virtual time, under whatever goes wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from gateway.core.gauges import demand
from gateway.core.meter import Meter
from gateway.core.nouns import LimitKind, Limits
from gateway.store.base import Grant, Report, Terms
from gateway.store.memory import MemoryStore
from gateway.store.shares import ShareBook, Usage
from gateway.store.usage import usage

STEP = 0.05
ACCOUNT = "ark"
TERMS = Terms()
KINDS: tuple[LimitKind, ...] = ("streams", "rps", "rpm", "tpm", "ramp")


class OutOfScope(Exception):
    """Data were lost, and nobody who remembers could speak for a whole lease: only newcomers did. Not promised."""


class Cloud:
    """Counts what it sees, by true time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.running = 0
        self.starts: deque[float] = deque()
        self.most: dict[str, int] = {"streams": 0, "rps": 0, "rpm": 0, "ramp": 0}

    def start(self, now: float) -> None:
        self.running += 1
        self.starts.append(now)
        while self.starts[0] <= now - 60.0:
            self.starts.popleft()
        second = len(newer(self.starts, now - 1.0))
        rise = 2 * second - len(newer(self.starts, now - 2.0))
        seen = {"streams": self.running, "rps": second, "rpm": len(self.starts), "ramp": rise}
        for kind, count in seen.items():
            self.most[kind] = max(self.most[kind], count)
            limit = getattr(self.limits, kind)
            assert limit is None or count <= limit, f"{count} {kind} at {now:.2f}, limit {limit}"


def newer(starts: deque[float], than: float) -> list[float]:
    found = []
    for at in reversed(starts):
        if at <= than:
            break
        found.append(at)
    return found


@dataclass
class Replica:
    """One process: its own clock, its own meter. `wish` streams are wanted at any time."""

    name: str
    book: ShareBook
    meter: Meter
    offset: float
    rate: float
    wish: int = 0
    ends: list[float] = field(default_factory=list)
    cut: bool = False
    frozen_until: float = 0.0
    dead: bool = False
    next_exchange: float = 0.0
    next_tick: float = 0.0
    next_look: float = 0.0
    pending: tuple[float, float, list[Grant] | None] | None = None
    """(request arrives, answer arrives or is given up, answer), in true time."""
    sent: tuple[Report, ...] = ()
    enforced: Limits | None = None
    unnoticed: int = 0

    def clock(self, now: float) -> float:
        return now * self.rate + self.offset


class World:
    """Replicas, their store, and the cloud that all of them use. `run` lets time pass; it raises AssertionError when
    the cloud sees more than a limit, OutOfScope when what happened is not promised to be survived.
    """

    def __init__(self, limits: Limits, seed: int, hold: float = 1.0, terms: Terms = TERMS) -> None:
        self.rng = Random(seed)
        self.now = 1_000_000.0
        self.limits = limits
        self.terms = terms
        self.cloud = Cloud(limits)
        self.skew = 0.0
        self.store = MemoryStore(lambda: self.now + self.skew, terms)
        self.replicas: list[Replica] = []
        self.orphans: list[float] = []
        self.stuck: list[tuple[float, tuple[Report, ...]]] = []
        self.down = False
        self.lossy = 0.0
        self.hold = hold
        self.log: list[tuple[int, list[Report], list[Grant]]] = []
        self.flushes: list[int] = []
        self.crowd = 0
        """The operator's word, which is true."""
        self.remembered: dict[str, bool] = {}

    # --- what may happen --------------------------------------------------------------------------------

    def join(self) -> Replica:
        name = f"r{len(self.replicas):03d}"
        offset, rate = self.rng.uniform(-500, 500), 1 + self.rng.uniform(-1e-4, 1e-4)
        book = ShareBook(name, self.terms, self.now * rate + offset, 10**9, self.crowd)
        replica = Replica(name, book, Meter(name, self.limits), offset, rate)
        self.replicas.append(replica)
        return replica

    def living(self) -> list[Replica]:
        return [r for r in self.replicas if not r.dead]

    def crash(self, replica: Replica) -> None:
        replica.dead = True
        latest = self.now + self.terms.ghost
        self.orphans += [min(end, self.rng.uniform(self.now, latest)) for end in replica.ends]

    def flush(self) -> None:
        self.store.flush()
        self.flushes.append(len(self.log))

    def tell(self, reports: tuple[Report, ...]) -> list[Grant]:
        grants = self.store.tell(reports)
        for report, grant in zip(reports, grants, strict=True):
            first = self.remembered.setdefault(grant.epoch, not self.remembered)
            self.remembered[grant.epoch] = first or bool(report.known and report.epoch != grant.epoch)
            if not (grant.stale or grant.learning or self.remembered[grant.epoch]):
                raise OutOfScope
        self.log.append((int((self.now + self.skew) * 1000), list(reports), grants))
        return grants

    # --- the passing of time ----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            gone = [end for end in self.orphans if end <= self.now]
            self.orphans = [end for end in self.orphans if end > self.now]
            self.cloud.running -= len(gone)
            if not self.down:
                for _, reports in [s for s in self.stuck if s[0] <= self.now]:
                    self.tell(reports)
                self.stuck = [s for s in self.stuck if s[0] > self.now]
            living = self.living()
            self.rng.shuffle(living)
            for replica in living:
                self.step(replica)

    def step(self, r: Replica) -> None:
        ended = [end for end in r.ends if end <= self.now]
        self.cloud.running -= len(ended)
        r.unnoticed += len(ended)
        r.ends = [end for end in r.ends if end > self.now]
        if self.now < r.frozen_until:
            return
        mine = r.clock(self.now)
        while r.unnoticed:
            r.unnoticed -= 1
            r.meter.release(0, mine, False)
        order = [self.serve, self.talk, self.tick]
        self.rng.shuffle(order)
        for act in order:
            act(r, mine)

    def demands(self, r: Replica, mine: float) -> dict[str, Mapping[LimitKind, Usage]]:
        waits = max(0, r.wish - len(r.ends))
        return {ACCOUNT: usage(r.meter, demand(r.meter, (waits, waits, waits), mine), mine)}

    def tick(self, r: Replica, mine: float) -> None:
        if self.now >= r.next_tick:
            r.next_tick = self.now + 0.2
            r.book.tick(self.demands(r, mine), mine)
        suspects = r.book.suspects()
        if suspects and self.now >= r.next_look:
            r.next_look = self.now + 1.0
            r.book.attest([o.name for o in self.living() if o.name in suspects])

    def talk(self, r: Replica, mine: float) -> None:
        if r.pending is None:
            if self.now < r.next_exchange or not self.demands(r, mine):
                return
            r.sent = r.book.reports(self.demands(r, mine), mine)
            self.enforce(r, mine)
            if not r.sent:
                return
            arrives = self.now + self.rng.choice((0.0, 0.0, 0.1))
            r.pending = (arrives, self.now + 0.5, None)
        arrives, until, answer = r.pending
        if answer is None and self.now >= arrives and not self.down and not r.cut:
            fate = self.rng.random()
            if fate < self.lossy:
                self.stuck.append((self.now + self.rng.uniform(0, 3), r.sent))
                r.pending = (float("inf"), until, None)
            else:
                answer = self.tell(r.sent)
                lost = fate < 2 * self.lossy
                r.pending = (arrives, until if lost else self.now + self.rng.choice((0.0, 0.0, 0.1)), answer)
                if lost:
                    r.pending = (float("inf"), until, None)
        arrives, until, answer = r.pending
        if self.now >= until:
            r.pending = None
            if answer is None:
                r.book.failed("no answer", mine)
                r.next_exchange = self.now + self.rng.uniform(0.02, 1.0)
            else:
                r.book.granted(answer, mine)
                r.next_exchange = 0.0

    def enforce(self, r: Replica, mine: float) -> None:
        try:
            limits = r.book.standing(ACCOUNT).at(mine)
        except KeyError:
            limits = Limits(**{k: None if getattr(self.limits, k) is None else 0 for k in KINDS})
        if limits != r.enforced:
            r.enforced = limits
            r.meter.share(limits)

    def serve(self, r: Replica, mine: float) -> None:
        self.enforce(r, mine)
        while len(r.ends) < r.wish and r.meter.load(1, 1, mine) < float("inf"):
            r.meter.take(0, 0, mine)
            r.ends.append(self.now + self.rng.expovariate(1 / self.hold))
            self.cloud.start(self.now)
        if len(r.ends) < r.wish:
            r.book.nudge(ACCOUNT)


def started(limits: Limits, seed: int, replicas: int, hold: float = 1.0, crowd: int = 0) -> World:
    """A world in which so many replicas have joined, know each other and want five streams each."""
    world = World(limits, seed, hold)
    world.crowd = crowd
    for _ in range(replicas):
        world.join().wish = 5
    world.run(TERMS.ttl + 1.0)
    return world
