"""A random walk over the dispatcher's verbs, against books kept by hand.

The books know nothing of windows or queues: they list what was sent when, and judge every sliding second and
minute by looking at all of it.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core import nouns
from gateway.core.dispatcher import Dispatcher, LeaseEnded
from gateway.core.lesson import Learned, LearntKind, Lesson, Mark, Others
from gateway.core.nouns import (
    LIMIT_KINDS,
    Abandoned,
    Account,
    Advertised,
    Backend,
    Beaten,
    BreakerRules,
    Failed,
    Go,
    HedgeRules,
    Learn,
    Lease,
    Limits,
    Model,
    Outcome,
    Plan,
    Policy,
    QueueRules,
    Refuse,
    Rejected,
    Reloaded,
    Request,
    RetryRules,
    Served,
    ServiceClass,
    Shares,
    Tier,
    Verdict,
    Wait,
)
from gateway.core.views import FleetView
from gateway.testing.books import check_counts, check_least, check_queue

WIDE = {
    "own": Limits(streams=2),
    "ark": Limits(streams=4, rpm=12, tpm=30_000),
    "bailian": Limits(rps=2, ramp=2, rpm=20),
    "rare": Limits(rpm=3, tps=4_000),
}
NARROW = WIDE | {"own": Limits(streams=1), "ark": Limits(streams=2, rpm=6, tpm=20_000)}


def plan(accounts: dict[str, Limits], learn: Learn, *, without: str = "", version: str = "1") -> Plan:
    serves = {"r2": "x", "v4": "y"}
    accounts_of = {"ark-bj": "ark", "ark-sh": "ark", "bailian": "bailian"}
    backends = {name: Backend(name, account, serves) for name, account in accounts_of.items()}
    backends["own-h20"] = Backend("own-h20", "own", {"r2": "r2"})
    backends["rare"] = Backend("rare", "rare", {"v4": "v4"})
    backends.pop(without, None)

    def tier(*names: str, **more: object) -> Tier:
        return Tier(tuple(n for n in names if n in backends), **more)  # type: ignore[arg-type]

    surge = Policy(
        "surge",
        (tier("own-h20"), tier("ark-bj", "bailian"), tier("ark-sh", when=lambda r: r.class_ == "interactive")),
        QueueRules(8.0, 12, 900_000),
        retry=RetryRules(0.1, 0.5, 4),
        breaker=BreakerRules(3, open_for=2.0),
        hedge=HedgeRules(1.0, 0.2),
    )
    tiers = (tier("rare", "ark-bj", choose="fastest"), tier("bailian", choose="weighted"))
    plain = Policy("plain", tiers, QueueRules(20.0), hedge=HedgeRules(1.0, 0.2))
    models = {"r2": Model("r2", "surge"), "v4": Model("v4", "plain")}
    named = {n: Account(n, x, learn) for n, x in accounts.items()}
    return Plan(models, backends, named, {"surge": surge, "plain": plain}, version)


OUTCOMES: list[Outcome] = [
    Served(), Served(nouns.Usage(900, 300)), Served(nouns.Usage(100, 2000)),
    nouns.Limited("rpm"), nouns.Limited("tpm", 400.0), nouns.Limited("burst"), nouns.Limited("quota"),
    nouns.Limited("concurrency"), nouns.Limited("concurrency", limit=1), nouns.Overloaded(), nouns.Overloaded(0.5),
    Failed("connect"), Failed("timeout"), Failed("stall", retryable=False),
    nouns.Unusable("auth"), nouns.Unusable("not_found"), Rejected("invalid"), Abandoned(), Beaten(),
]  # fmt: skip


class Walk(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1000), learn=st.sampled_from(["off", "within"]))
    def begin(self, seed: int, learn: Learn) -> None:
        self.learn = learn
        self.now = 1000.0
        self.accounts = WIDE
        self.dispatcher = Dispatcher(plan(WIDE, learn), Random(seed))
        self.running: dict[int, Lease] = {}
        self.waiting: dict[str, Request] = {}
        self.ended: list[str] = []
        self.offered = 0
        self.sent: list[tuple[float, str]] = []
        self.hung_up: list[tuple[float, str]] = []
        self.dead: list[Lease] = []
        self.shares: dict[str, Limits] = {}
        self.hedged: dict[str, int] = {}
        self.winner: dict[str, int] = {}
        self.reserved = 0

    # --- the books

    def mates(self, lease: Lease) -> list[Lease]:
        """Other attempts at the same request that run."""
        return [other for other in self.running.values() if other.request is lease.request and other is not lease]

    def note(self, request: Request, verdict: Verdict | None) -> None:
        match verdict:
            case Go(lease):
                assert lease.request is request
                assert not self.mates(lease)
                self.reserved += lease.reserved
                self.run(lease)
            case Wait(until, position):
                assert until > self.now
                assert 0 <= position <= len(self.waiting)
                assert request.id not in self.waiting
                self.waiting[request.id] = request
            case Refuse(reason, retry_after):
                assert retry_after is None or (1 <= retry_after <= 60 and retry_after == int(retry_after))
                assert reason == "no-backend" or retry_after is not None
                self.ended.append(request.id)
            case None:
                self.ended.append(request.id)

    def run(self, lease: Lease) -> None:
        assert lease.id not in self.running
        self.running[lease.id] = lease
        self.sent.append((self.now, lease.account))
        self.check_room(lease.account)
        check_least(self.dispatcher.snapshot(self.now), lease.account)

    def check_room(self, account: str) -> None:
        self.check_limits(account, self.accounts[account])
        self.check_limits(account, self.shares.get(account, Limits()))

    def check_limits(self, account: str, limits: Limits) -> None:
        flying = sum(lease.account == account for lease in self.running.values())
        ghosts = sum(name == account and self.now - at < 0.0499 for at, name in self.hung_up)
        times = [at for at, name in self.sent if name == account]
        minute = sum(self.now - at < 60.04 for at in times)
        second = sum(self.now - at < 1.04 for at in times)
        before = sum(1.06 < self.now - at < 1.94 for at in times)
        assert limits.streams is None or flying + ghosts <= limits.streams
        assert limits.rpm is None or minute <= limits.rpm
        assert limits.rps is None or second <= limits.rps
        assert limits.ramp is None or second <= before + limits.ramp

    def call_due(self) -> None:
        for request, verdict in self.dispatcher.due(self.now):
            assert isinstance(verdict, Go | Refuse)
            assert self.waiting.pop(request.id) is request
            self.note(request, verdict)
        waiting = self.dispatcher._waiting
        for head in waiting.heads():
            assert self.dispatcher._seat(head, self.now) is None, "somebody waits while there is room for him"

    # --- what may happen

    @rule(
        model=st.sampled_from(["r2", "v4", "r2", "nobody"]),
        class_=st.sampled_from(["interactive", "standard", "batch"]),
        tenant=st.sampled_from(["t", "t", "u", "v"]),
        size=st.sampled_from([10, 4000, 40_000, 200_000]),
        most=st.sampled_from([None, 50]),
        patience=st.sampled_from([None, 0.5, 30.0]),
    )
    def offer(
        self, model: str, class_: ServiceClass, tenant: str, size: int, most: int | None, patience: float | None
    ) -> None:
        self.offered += 1
        weight = 0.5 + self.offered % 3 if tenant == "u" else 1.0
        deadline = None if patience is None else self.now + patience
        request = Request(
            f"q{self.offered}", tenant, model, class_, size, most, True, self.now, deadline, weight=weight
        )
        before = repr(self.dispatcher.snapshot(self.now))
        lines = self.dispatcher.explain(request, self.now)
        assert lines == self.dispatcher.explain(request, self.now)
        assert repr(self.dispatcher.snapshot(self.now)) == before
        verdict = self.dispatcher.offer(request, self.now)
        if model == "nobody":
            assert verdict == Refuse("no-model")
            assert lines == ()
            self.ended.append(request.id)
            return
        chosen = [line for line in lines if line.chosen]
        assert isinstance(verdict, Go) == bool(chosen)
        if isinstance(verdict, Go):
            assert verdict.lease.tier == chosen[0].tier
            if model == "r2" and verdict.lease.tier != 1:
                assert verdict.lease.backend == chosen[0].backend
        self.note(request, verdict)
        if self.offered % 2:
            self.hedge()

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False))
    def start(self, pick: Random) -> None:
        lease = self.running[pick.choice(sorted(self.running))]
        self.dispatcher.started(lease, self.now)
        if self.mates(lease):
            self.winner.setdefault(lease.request.id, lease.id)

    @rule()
    def hedge(self) -> None:
        for lease in list(self.running.values()):
            at, before = self.dispatcher.hedge_at(lease), self.dispatcher.snapshot(self.now)
            twin = self.dispatcher.hedge(lease, self.now)
            if twin is not None:
                self.hedged_by(lease, at, before, twin)

    def hedged_by(self, lease: Lease, at: float | None, before: FleetView, twin: Lease) -> None:
        assert lease.request.id not in self.hedged, "twice"
        assert (at, twin.request, twin.attempt) == (lease.granted + 0.2, lease.request, lease.attempt + 1)
        assert twin.backend != lease.backend
        (account,) = [a for a in before.accounts if a.name == twin.account]
        assert all(room.used < 0.85 * room.limit for room in account.rooms), "not cold"
        assert ("closed", True) in [(b.breaker, b.available) for b in before.backends if b.name == twin.backend]
        self.hedged[lease.request.id] = twin.reserved
        assert sum(self.hedged.values()) <= self.reserved + 1e-6, "over the budget"
        self.run(twin)

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False), tokens=st.integers(1, 900))
    def flow(self, pick: Random, tokens: int) -> None:
        self.dispatcher.progress(self.running[pick.choice(sorted(self.running))], tokens, self.now)

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False), outcome=st.sampled_from(OUTCOMES), promptly=st.booleans())
    def settle(self, pick: Random, outcome: Outcome, promptly: bool) -> None:
        lease = self.running.pop(pick.choice(sorted(self.running)))
        if outcome in (Abandoned(), Beaten(), Failed("timeout"), Failed("stall", retryable=False)):
            self.hung_up.append((self.now, lease.account))
        verdict = self.dispatcher.settle(lease, outcome, self.now)
        if isinstance(outcome, Served | Rejected | Abandoned | Beaten) or outcome == Failed("stall", retryable=False):
            assert verdict is None
        self.dead.append(lease)
        mates = self.mates(lease)
        if mates or self.winner.get(lease.request.id, lease.id) != lease.id:
            assert verdict is None, "the request is another's"
        if mates and isinstance(outcome, Served):
            self.winner.setdefault(lease.request.id, lease.id)
        if not mates:
            self.note(lease.request, verdict)
        if promptly:
            self.call_due()

    @precondition(lambda self: self.dead)
    @rule()
    def use_a_dead_lease(self) -> None:
        before, dispatcher = repr(self.dispatcher.snapshot(self.now)), self.dispatcher
        for use in (
            lambda: dispatcher.started(self.dead[-1], self.now),
            lambda: dispatcher.progress(self.dead[-1], 1, self.now),
            lambda: dispatcher.settle(self.dead[-1], Served(), self.now),
            lambda: dispatcher.hedge_at(self.dead[-1]),
            lambda: dispatcher.hedge(self.dead[-1], self.now),
        ):
            with pytest.raises(LeaseEnded):
                use()
        assert repr(self.dispatcher.snapshot(self.now)) == before

    @precondition(lambda self: self.waiting)
    @rule(pick=st.randoms(use_true_random=False))
    def leave(self, pick: Random) -> None:
        request = self.waiting.pop(pick.choice(sorted(self.waiting)))
        self.dispatcher.withdraw(request, self.now)
        self.dispatcher.withdraw(request, self.now)
        self.ended.append(request.id)

    @rule(seconds=st.sampled_from([0.001, 0.03, 0.2, 1.0, 5.0, 61.0, 700.0, 1e5]))
    def pass_time(self, seconds: float) -> None:
        """Ring every alarm that falls into the time that passes, as a shell would."""
        until = self.now + seconds
        rings = 0
        while (at := self.dispatcher.next_due()) is not None and at <= until:
            assert at >= self.now
            self.now = at
            self.call_due()
            rings += 1
            assert rings < 3000, "a busy loop"
        self.now = until
        self.call_due()

    @rule(limits=st.sampled_from([WIDE, NARROW]), without=st.sampled_from(["", "", "bailian", "own-h20"]))
    def reload(self, limits: dict[str, Limits], without: str) -> None:
        self.accounts = limits
        self.dispatcher.apply(Reloaded(plan(limits, self.learn, without=without, version="2")), self.now)
        self.call_due()

    @rule(
        account=st.sampled_from(["ark", "rare", "nobody"]),
        limit=st.sampled_from([None, 100.0]),
        left=st.sampled_from([None, 0.0, 7.0]),
    )
    def advertise(self, account: str, limit: float | None, left: float | None) -> None:
        self.dispatcher.apply(Advertised(account, "rpm", limit, left), self.now)
        self.call_due()

    @rule(
        account=st.sampled_from(["own", "ark", "bailian", "nobody"]),
        share=st.sampled_from(
            [None, Limits(0, 0, 0, 0, 0, 0), Limits(1, 3, 5000), Limits(streams=3, ramp=1), Limits(rps=1)]
        ),
    )
    def share(self, account: str, share: Limits | None) -> None:
        self.shares.pop(account, None)
        if share is not None and account != "nobody":
            # A store shares the limits that there are; a new kind begins with an empty window.
            declared = self.accounts[account]
            share = Limits(*(getattr(share, kind) if getattr(declared, kind) else None for kind in LIMIT_KINDS))
            self.shares[account] = share
        self.dispatcher.apply(Shares({account: share}), self.now)
        self.call_due()

    @rule(
        account=st.sampled_from(["ark", "rare", "nobody"]),
        streams=st.sampled_from([None, 1.0, 5.5]),
        rpm=st.sampled_from([None, 5.0]),
        newer=st.integers(-1, 2),
        probe=st.booleans(),
        others=st.sampled_from([Others(), Others(2, 2, 1, 0, 900, 3, 4000, 1, 1, 1), Others(1, 1, 4, overdue=3)]),
    )
    def learn_from_others(self, account: str, streams: Any, rpm: Any, newer: int, probe: bool, others: Others) -> None:
        lessons = self.dispatcher.lessons(self.now)
        assert set(lessons) == (set(WIDE) if self.learn == "within" else set())
        told: dict[LearntKind, Any] = {"streams": streams, "rpm": rpm}
        mine = lessons.get(account, Lesson()).marks
        marks = {k: Mark(x, max(0, newer + mine.get(k, Mark(0.0)).cuts)) for k, x in told.items() if x is not None}
        self.dispatcher.apply(Learned({account: Lesson(marks, probe, others=others)}), self.now)
        self.call_due()

    # --- what always holds

    @invariant()
    def books_agree(self) -> None:
        if not hasattr(self, "now"):
            return
        view = self.dispatcher.snapshot(self.now)
        requests = {lease.request.id for lease in self.running.values()}
        assert view.totals.in_flight == len(requests)
        assert view.totals.hedged == len(self.hedged)
        assert view.totals.hedge_tokens == sum(self.hedged.values())
        doomed = len(self.dispatcher._doomed)
        assert view.totals.waiting + doomed == len(self.waiting)
        assert self.offered == view.totals.offered == len(self.ended) + len(requests) + len(self.waiting)
        assert len(set(self.ended)) == len(self.ended)
        check_queue(self.dispatcher)
        check_counts(view)
        for account in view.accounts:
            assert account.in_flight == sum(lease.account == account.name for lease in self.running.values())
            assert account.reserved_tokens >= 0

    def teardown(self) -> None:
        if not hasattr(self, "now"):
            return
        self.dispatcher.apply(Shares(dict.fromkeys(self.shares)), self.now)
        self.shares = {}
        self.pass_time(200.0)
        assert not self.waiting
        assert self.dispatcher.next_due() is None
        for lease in self.running.values():
            self.dispatcher.settle(lease, Served(), self.now)
        view = self.dispatcher.snapshot(self.now + 200.0)
        assert view.totals.in_flight == view.totals.waiting == 0
        assert all(not a.in_flight and not a.reserved_tokens for a in view.accounts)
        assert all(room.used == 0 for a in view.accounts for room in a.rooms)
        assert all(b.in_flight == 0 for b in view.backends)


TestWalk = pytest.mark.filterwarnings("ignore::pytest.PytestCollectionWarning")(Walk.TestCase)
TestWalk.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.generate],
)
