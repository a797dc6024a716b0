"""The fleet at one moment, frozen: for metrics, status pages and the demo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from gateway.core.fair import CLASSES
from gateway.core.fleet import Fleet, Path
from gateway.core.gauges import Waits, demand, rooms, used
from gateway.core.lesson import Floors, LearntKind, Lesson, Mark
from gateway.core.limit import Learner
from gateway.core.meter import Meter
from gateway.core.nouns import LIMIT_KINDS, Demand, LimitKind, Price, Room
from gateway.core.pressure import Outlook, PressureView
from gateway.core.standing import Standing
from gateway.core.tally import Tally, Totals
from gateway.core.waiting import Ticket

MOST_TENANTS = 5


@dataclass(frozen=True, slots=True)
class Said:
    """One limit of the whole account, or this replica's `share` of it, and who says so."""

    kind: LimitKind
    source: Literal["declared", "advertised", "learned", "share"]
    limit: float


@dataclass(frozen=True, slots=True)
class AccountView:
    """`rooms`: every limit that holds. `cooling_until` None: not cooling; `inf`: one request is trying the key.

    `learnt`: the limit in streams that was learnt and why, as far as it differs from what was declared;
    `learnt_tokens`: the same in tokens in flight, of which `held_tokens` are. `probes`: this replica may try for more;
    `prober`: who may, '' if there is only this one or nobody; `elsewhere`: streams of other replicas. `said`: every
    limit by who says it.
    """

    name: str
    in_flight: int
    reserved_tokens: int
    rooms: tuple[Room, ...]
    cooling_until: float | None
    cooling_reason: str
    held_tokens: int = 0
    learnt: float | None = None
    learnt_tokens: float | None = None
    learnt_why: str = ""
    probes: bool = False
    prober: str = ""
    elsewhere: int = 0
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    """Attempts since start; `granted` = all endings + in flight. Tokens as counted or reported."""

    granted: int
    started: int
    served: int
    limited: int
    overloaded: int
    failed: int
    unusable: int
    rejected: int
    abandoned: int
    spilled_in: int
    prompt_tokens: int
    tokens: int
    beaten: int


@dataclass(frozen=True, slots=True)
class BackendView:
    """Times in seconds, None where nothing was measured. `available`: nothing but a lack of room keeps it out.

    `prices`: what it charges now, by our name of the model.
    """

    name: str
    account: str
    breaker: Literal["closed", "open", "half-open"]
    available: bool
    blocked_until: float | None
    in_flight: int
    ttft: float | None
    ttft_p50: float | None
    ttft_p95: float | None
    tokens_per_second: float | None
    counters: Counters
    labels: Mapping[str, str]
    prices: Mapping[str, Price] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TotalsView:
    """Requests since start, and now: `offered` = ended + `in_flight` + `waiting`.

    `granted` counts attempts, those of hedges among them. `hedge_tokens`: what hedges may have cost.
    """

    offered: int
    granted: int
    waited: int
    retried: int
    withdrawn: int
    refused: Mapping[str, int]
    in_flight: int
    waiting: int
    hedged: int
    hedges_won: int
    hedge_tokens: int


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything, at `at`. `waiting` maps each model that has a queue to its length, `waiting_classes` each class.

    `waiting_tenants`: the `MOST_TENANTS` of whom most wait, most first, and how many by class. `waiting_oldest`: by
    class, the seconds that who waits longest has waited (0 when nobody does). `affinity`: for models that have it, the
    attempts sent where their beginning was `known`, to a `fresh` home, and elsewhere (`moved`).
    """

    at: float
    version: str
    accounts: tuple[AccountView, ...]
    backends: tuple[BackendView, ...]
    waiting: Mapping[str, int]
    totals: TotalsView
    waiting_classes: Mapping[str, int]
    waiting_tenants: Mapping[str, Mapping[str, int]]
    waiting_oldest: Mapping[str, float]
    pressures: tuple[PressureView, ...]
    affinity: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def view(
    fleet: Fleet, totals: Totals, waiting: Iterable[Ticket], running: int, now: float, outlook: Outlook
) -> FleetView:
    """Freeze the fleet. What was retired by a reload is not shown, though its leases count in `totals`."""
    queues = dict.fromkeys(fleet.plan.models, 0)
    classes: dict[str, int] = dict.fromkeys(CLASSES, 0)
    oldest: dict[str, float] = dict.fromkeys(CLASSES, 0.0)
    tenants = Counter[tuple[str, str]]()
    for ticket in waiting:
        queues[ticket.route.model] += 1
        classes[ticket.request.class_] += 1
        oldest[ticket.request.class_] = max(oldest[ticket.request.class_], now - ticket.request.arrived)
        tenants[ticket.request.tenant, ticket.request.class_] += 1
    charged = fleet.prices()
    return FleetView(
        at=now,
        version=fleet.plan.version,
        accounts=tuple(_account(fleet.meters[name], now) for name in fleet.plan.accounts),
        backends=tuple(_backend(fleet.standings[name], charged.get(name, {}), now) for name in fleet.plan.backends),
        waiting=queues,
        totals=TotalsView(
            totals.offered,
            totals.granted,
            totals.waited,
            totals.retried,
            totals.withdrawn,
            dict(totals.refused),
            running,
            sum(queues.values()),
            totals.hedged,
            totals.hedges_won,
            totals.hedge_tokens,
        ),
        waiting_classes=classes,
        waiting_tenants=_most(tenants),
        waiting_oldest=oldest,
        pressures=outlook.pressures(now),
        affinity={
            name: {"known": homes.known, "fresh": homes.fresh, "moved": homes.moved}
            for name in fleet.plan.models
            if (homes := fleet.routes[name].homes) is not None
        },
    )


def _most(waiting: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """The tenants of whom most wait, with their classes."""
    whole = Counter[str]()
    for (tenant, _), count in waiting.items():
        whole[tenant] += count
    most: dict[str, dict[str, int]] = {tenant: {} for tenant, _ in whole.most_common(MOST_TENANTS)}
    for (tenant, class_), count in waiting.items():
        if tenant in most:
            most[tenant][class_] = count
    return most


def lessons(fleet: Fleet, now: float) -> dict[str, Lesson]:
    """By account, where something may be learnt."""
    floors: dict[str, list[tuple[str, int, int]]] = {}
    for name, standing in fleet.standings.items():
        if standing.in_flight:
            known = ((name, size, max(1, round(1000 * floor))) for size, floor in standing.floor.known())
            floors.setdefault(standing.meter.name, []).extend(known)
    return {
        name: _lesson(m, m.learner, now, tuple(floors.get(name, ())))
        for name, m in fleet.meters.items()
        if m.learner is not None
    }


def _lesson(meter: Meter, learner: Learner, now: float, floors: Floors) -> Lesson:
    marks: dict[LearntKind, Mark] = learner.marks()
    rpm, tpm = meter.quotas["rpm"].mark(), meter.quotas["tpm"].mark()
    if rpm is not None:
        marks["rpm"] = rpm
    if tpm is not None:
        marks["tpm"] = tpm
    use = learner.use(now, meter.held, used(meter, "rpm", now), used(meter, "tpm", now), floors)
    return Lesson(marks, learner.probe, use, learner.others, learner.prober)


def demands(fleet: Fleet, waiting: Iterable[Ticket], now: float) -> dict[str, Demand]:
    """Use and want by account. Who waits is counted at every account that he may use: he takes the first with room."""
    paths: dict[Path, Waits] = {}
    for ticket in waiting:
        before = paths.get(ticket.path, (0, 0, 0))
        paths[ticket.path] = (before[0] + 1, before[1] + ticket.prompt, before[2] + ticket.total)
    wants: dict[str, Waits] = dict.fromkeys(fleet.meters, (0, 0, 0))
    for path, (requests, prompt, total) in paths.items():
        for name in {seat.meter.name for seat in path.seats}:
            have = wants[name]
            wants[name] = (have[0] + requests, have[1] + prompt, have[2] + total)
    return {name: demand(meter, wants[name], now) for name, meter in fleet.meters.items()}


def _account(meter: Meter, now: float) -> AccountView:
    cooling = meter.cooling_until > now
    return AccountView(
        meter.name,
        meter.in_flight,
        meter.reserved,
        rooms(meter, now),
        meter.cooling_until if cooling else None,
        meter.cooling_reason if cooling else "",
        meter.held,
        *_learnt(meter),
        tuple(_said(meter)),
    )


def _learnt(meter: Meter) -> tuple[float | None, float | None, str, bool, str, int]:
    learner = meter.learner
    if learner is None:
        return None, None, "", False, "", 0
    tokens = None if learner.tokens == inf else learner.tokens
    return learner.learnt, tokens, learner.why, learner.probe, learner.prober, learner.others.streams


def _said(meter: Meter) -> Iterable[Said]:
    bounds, learner = meter.bounds, meter.learner
    learnt = dict(bounds.learned)
    if learner is not None and learner.learnt is not None:
        learnt["streams"] = learner.learnt
    for kind in LIMIT_KINDS:
        declared, share = getattr(bounds.declared, kind), bounds.part(kind)
        if declared is not None:
            yield Said(kind, "declared", declared)
        if kind in bounds.advertised:
            yield Said(kind, "advertised", bounds.advertised[kind])
        if kind in learnt:
            yield Said(kind, "learned", learnt[kind])
        if share is not None:
            yield Said(kind, "share", share)


def _backend(standing: Standing, prices: Mapping[str, Price], now: float) -> BackendView:
    latency = standing.latency
    blocked = standing.blocked_until > now
    return BackendView(
        name=standing.name,
        account=standing.meter.name,
        breaker=standing.breaker.seen(now),
        available=not blocked and standing.meter.cooling_until <= now,
        blocked_until=standing.blocked_until if blocked else None,
        in_flight=standing.in_flight,
        ttft=latency.ttft.value,
        ttft_p50=latency.ttfts.at(0.5),
        ttft_p95=latency.ttfts.at(0.95),
        tokens_per_second=latency.rate.value,
        counters=_counters(standing.tally),
        labels=standing.backend.labels,
        prices=prices,
    )


def _counters(tally: Tally) -> Counters:
    return Counters(
        tally.granted,
        tally.started,
        tally.served,
        tally.limited,
        tally.overloaded,
        tally.failed,
        tally.unusable,
        tally.rejected,
        tally.abandoned,
        tally.spilled_in,
        tally.prompt_tokens,
        tally.tokens,
        tally.beaten,
    )
