"""Our own dispatcher in virtual time: a loop over the clouds' events instead of sockets, around the very same object.

Deterministic for a seed, so that a change of a rule shows in the figures and nothing else does. It reports to the
dispatcher what the live pipeline would: streams have started with their first token and progress in batches; plain
answers are only settled; a refused connection and a torn one are failures; nothing that has begun is tried again.
A hedge is asked for when the dispatcher said so; of the two, the one that does not begin first leaves its cloud. A
ladder's caps on answers apply; its other steps would change nothing that is modelled here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from gateway.clouds.counts import Stats
from gateway.clouds.model import Cloud
from gateway.clouds.profiles import Fleet
from gateway.clouds.tickets import Admitted, Ask, Event, Refused, Ticket
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import (
    Account,
    Backend,
    Beaten,
    BreakerRules,
    Failed,
    Go,
    HedgeRules,
    Learn,
    Lease,
    Limited,
    Limits,
    Model,
    Outcome,
    Overloaded,
    Plan,
    Policy,
    QueueRules,
    RefusalKind,
    Refuse,
    Request,
    Served,
    ServiceClass,
    Tier,
    Usage,
    Verdict,
)
from gateway.core.views import FleetView
from gateway.sim.demand import Need, Outage
from gateway.sim.score import Record, Terms
from gateway.sim.stage import Stage, Step

MODEL = "deepseek-r2"
EVERYBODY = "everybody"
REPORT_EVERY = 64
"""tokens between two reports of progress, as live"""
REPORT_AFTER = 0.5
"""seconds after which tokens are reported though they are fewer"""
_LIMITS: dict[str, RefusalKind] = {
    "rpm": "rpm",
    "tpm": "tpm",
    "burst": "burst",
    "concurrency": "concurrency",
    "quota": "quota",
}


def plan_of(
    fleet: Fleet,
    terms: Terms,
    *,
    max_length: int = 1000,
    breaker: BreakerRules | None = None,
    limits: Mapping[str, Limits] | None = None,
    learn: Learn = "off",
    hedge: HedgeRules | None = None,
) -> Plan:
    """One tier over the whole fleet, every limit declared truly unless `limits` says otherwise."""
    declared = limits or {}
    names = tuple(profile.name for profile in fleet.clouds)
    queue = QueueRules(terms.patience, max_length)
    policy = Policy("surge", (Tier(names),), queue, breaker=breaker or BreakerRules(), hedge=hedge)
    return Plan(
        models={MODEL: Model(MODEL, policy.name)},
        backends={
            profile.name: Backend(profile.name, profile.name, {MODEL: profile.models[0]}) for profile in fleet.clouds
        },
        accounts={
            profile.name: Account(profile.name, declared.get(profile.name, profile.limits), learn)
            for profile in fleet.clouds
        },
        policies={policy.name: policy},
    )


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One run: what became of each request, what each cloud counted, and the dispatcher's own view at the end."""

    records: list[Record]
    clouds: dict[str, Stats]
    view: FleetView


@dataclass(eq=False, slots=True)
class _Ride:
    need: Need
    request: Request
    queued: float = 0.0
    waiting_since: float | None = None
    lease: Lease | None = None
    tries: dict[Ticket, Lease] = field(default_factory=dict)
    attempts: int = 0
    first: float | None = None
    unreported: int = 0
    reported: float = 0.0


class Watch:
    """Looks at a run without touching it, or, for a control, in order to meddle with it. Does nothing by itself."""

    every = inf
    """seconds between two calls of `tick`"""

    def sent(self, cloud: Cloud, now: float) -> None:
        """A request is about to arrive at a cloud."""

    def ended(self, dispatcher: Dispatcher, record: Record) -> None:
        """A request is over."""

    def tick(self, dispatcher: Dispatcher, stage: Stage, now: float) -> None:
        """Time has passed."""


class Shell:
    """Carries out verdicts on a stage, at the times it is told."""

    def __init__(
        self, plan: Plan, stage: Stage, seed: int, watch: Watch, weights: Mapping[str, float], fair: bool
    ) -> None:
        self._weights = weights
        self._fair = fair
        self.watch = watch
        self.dispatcher = Dispatcher(plan, Random(seed))
        self.records: list[Record] = []
        self.running: dict[Ticket, _Ride] = {}
        self.waiting: dict[str, _Ride] = {}
        self.hedges: list[tuple[float, int, _Ride]] = []
        self._stage = stage

    def arrive(self, need: Need, now: float) -> None:
        class_: ServiceClass = need.class_ if self._fair else "standard"
        cap = self.dispatcher.outlook.form(MODEL, class_, now).max_tokens
        request = Request(
            id=str(need.id),
            tenant=need.tenant if self._fair else EVERYBODY,
            model=MODEL,
            class_=class_,
            prompt_bytes=need.prompt * 4,
            max_tokens=need.answer if cap is None else min(need.answer, cap),
            stream=need.stream,
            arrived=now,
            weight=self._weights.get(need.tenant, 1.0),
        )
        self._carry(_Ride(need, request), self.dispatcher.offer(request, now), now)

    def due(self, now: float) -> None:
        while (at := self.dispatcher.next_due()) is not None and at <= now:
            for request, verdict in self.dispatcher.due(now):
                self._carry(self.waiting[request.id], verdict, now)

    def hedge(self, now: float) -> None:
        """Ask for the second attempts whose time has come."""
        while self.hedges and self.hedges[0][0] <= now:
            _, number, ride = heappop(self.hedges)
            first = next((lease for lease in ride.tries.values() if lease.id == number), None)
            lease = self.dispatcher.hedge(first, now) if first is not None and ride.first is None else None
            if lease is not None and (refused := self._send(ride, lease, now)) is not None:
                self.dispatcher.settle(lease, refused, now)

    def seen(self, event: Event) -> None:
        ride = self.running.get(event.ticket)
        if ride is None:  # it was hung up on in this very instant
            return
        ride.lease = lease = ride.tries[event.ticket]
        if event.kind == "tokens":
            self._tokens(ride, lease, event)
        if not event.ends:
            return
        del self.running[event.ticket], ride.tries[event.ticket]
        if event.kind == "finish":
            usage = Usage(event.ticket.ask.prompt, event.ticket.produced)
            self.dispatcher.settle(lease, Served(usage), event.at)
            self._record(ride, event.at, event.ticket.produced)
            return
        begun = ride.need.stream and ride.first is not None
        verdict = self.dispatcher.settle(lease, Failed("server", retryable=not begun), event.at)
        if ride.tries:
            return
        if verdict is None:
            self._record(ride, event.at, event.ticket.produced, reason=event.kind)
        else:
            self._carry(ride, verdict, event.at)

    def _tokens(self, ride: _Ride, lease: Lease, event: Event) -> None:
        if not ride.need.stream:
            return
        if ride.first is None:
            ride.first = event.at
            self.dispatcher.started(lease, event.at)
            ride.reported = event.at
            if len(ride.tries) > 1:
                self._hang_up(ride, event)
        ride.unreported += event.count
        if ride.unreported >= REPORT_EVERY or event.at >= ride.reported + REPORT_AFTER:
            self.dispatcher.progress(lease, ride.unreported, event.at)
            ride.unreported = 0
            ride.reported = event.at

    def _hang_up(self, ride: _Ride, event: Event) -> None:
        """One has begun: the other leaves its cloud."""
        for ticket, lease in [found for found in ride.tries.items() if found[0] is not event.ticket]:
            self._stage.clouds[lease.backend].leave(ticket, event.at)
            del self.running[ticket], ride.tries[ticket]
            self.dispatcher.settle(lease, Beaten(), event.at)

    def _send(self, ride: _Ride, lease: Lease, now: float) -> Outcome | None:
        """Send it to its cloud; how that ended if it was refused."""
        ride.attempts += 1
        cloud = self._stage.clouds[lease.backend]
        self.watch.sent(cloud, now)
        answer = cloud.arrive(Ask(ride.need.prompt, ride.request.max_tokens or ride.need.answer), now)
        if not isinstance(answer, Admitted):
            return _ending(answer)
        self.running[answer.ticket] = ride
        ride.tries[answer.ticket] = lease
        return None

    def _carry(self, ride: _Ride, verdict: Verdict | None, now: float) -> None:
        if ride.waiting_since is not None:
            ride.queued += now - ride.waiting_since
            ride.waiting_since = None
            del self.waiting[ride.request.id]
        while isinstance(verdict, Go):
            lease = ride.lease = verdict.lease
            refused = self._send(ride, lease, now)
            if refused is None:
                if (at := self.dispatcher.hedge_at(lease)) is not None:
                    heappush(self.hedges, (at, lease.id, ride))
                return
            verdict = self.dispatcher.settle(lease, refused, now)
        if verdict is None:
            self._record(ride, now, 0, reason="rejected")
        elif isinstance(verdict, Refuse):
            lost = verdict.reason == "attempts"
            told = verdict.retry_after is not None
            self._keep(self._made(ride, "failed" if lost else "refused", now, 0, verdict.reason, told))
        else:
            ride.waiting_since = now
            self.waiting[ride.request.id] = ride

    def _record(self, ride: _Ride, now: float, tokens: int, reason: str = "") -> None:
        self._keep(self._made(ride, "failed" if reason else "served", now, tokens, reason, told=False))

    def _keep(self, record: Record) -> None:
        self.records.append(record)
        self.watch.ended(self.dispatcher, record)

    def _made(self, ride: _Ride, status: str, now: float, tokens: int, reason: str, told: bool) -> Record:
        lease = ride.lease
        return Record(
            ride.need,
            "served" if status == "served" else "refused" if status == "refused" else "failed",
            now,
            first=ride.first,
            queued=ride.queued,
            tokens=tokens,
            attempts=ride.attempts,
            backend=lease.backend if lease else "",
            reason=reason,
            told=told,
        )


def _ending(refused: Refused) -> Outcome:
    kind = _LIMITS.get(refused.kind)
    if kind is not None:
        return Limited(kind, refused.retry_after)
    return Overloaded(refused.retry_after) if refused.kind == "overloaded" else Failed("connect")


def rehearse(
    plan: Plan,
    fleet: Fleet,
    needs: tuple[Need, ...],
    outages: tuple[Outage, ...] = (),
    seed: int = 0,
    *,
    steps: tuple[Step, ...] = (),
    watch: Watch | None = None,
    until: float = inf,
    weights: Mapping[str, float] | None = None,
    fair: bool = True,
) -> Rehearsal:
    """Run a demand through a dispatcher with this plan. Backends must be named like the fleet's clouds.

    `steps` change clouds on the way; `watch` sees everything; the run breaks off at `until` if it has not ended.
    `weights` are tenants' (1 for who is not named). `fair` False is a control: all ask as one tenant, and among one
    tenant's requests it is first come first served.
    """
    watch = watch or Watch()
    stage = Stage(fleet, outages, seed, steps)
    shell = Shell(plan, stage, seed, watch, weights or {}, fair)
    coming = deque(needs)
    now, tick = 0.0, watch.every
    while (coming or shell.running or shell.waiting) and now < until:
        alarm = shell.dispatcher.next_due()
        hedge = shell.hedges[0][0] if shell.hedges else inf
        now = max(now, min(coming[0].at if coming else inf, stage.next(), inf if alarm is None else alarm, tick, hedge))
        for _, event in stage.advance(now):
            shell.seen(event)
        while coming and coming[0].at <= now:
            shell.arrive(coming.popleft(), now)
        shell.hedge(now)
        shell.due(now)
        if now >= tick:
            watch.tick(shell.dispatcher, stage, now)
            tick = now + watch.every
            shell.due(now)
    stats = {name: cloud.stats(now) for name, cloud in stage.clouds.items()}
    return Rehearsal(shell.records, stats, shell.dispatcher.snapshot(now))
