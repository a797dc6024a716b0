"""What the store knows of one account, and the rules by which it grants. The reference for `shares.lua`.

The promise: at every moment, for every kind, Σ hold ≤ L, where hold(r) is never less than what replica r enforces
(its share in force) and never less than what it has used and cannot take back. Local windows are exact, so no cloud
sees more than L in any window, whatever happens between. Why it holds:

1. *Only a report lowers a hold.* A report says what is in force (`share`) and `used`. From then until the next
   report r may use up to `share`, or, once the answer reaches it, up to what it is granted now. So
   hold = max(share, used, granted). If the answer is lost, the next report says the old share; no harm.
2. *A grant above what r holds is paid from what nobody holds:* granted ≤ L − Σ hold of all others. So no step
   raises Σ hold above L. (What makes it exceed L from outside, an answer longer than reserved or a lowered L, only
   stops grants until it has passed.)
3. *Reports are ordered by `seq`.* One that was stuck in a frozen server's buffers cannot undo a younger one.
4. *Silence.* r counts its lease from before sending, less a margin; the store from arrival. After its lease r enforces
   no more than it had. The store lets go of a silent r only when its lease *and* its tail are over: the longer of the
   window's span and `ghost` (a crashed process's sockets close, clouds cancel). A replica that is merely cut off goes
   on with its safe share, never above what it held; its peers, asked to look (`silent`), say `alive`, and the hold
   stays. Not covered: one cut off from the store *and* from its peers, but not from its clouds, for longer than
   ttl + ghost. Then it exceeds by at most its safe share and the streams still running. Of a window nothing comes
   back sooner: what a crashed process started after its last report may be its whole share, and counts for a minute.
5. *Lost data* (flush, restart, failover: key missing or another server's run id): a new epoch. Until everybody who
   was told of in the old epoch has reported, or lease and tail are over, nobody gets anything but what the registered
   brought along (`pool`), which moves freely between them. At least one lease is always waited, since a live replica
   reports, or falls silent, within it. So that nobody is unknown to all, a newcomer gets nothing above what it
   brought until every live member has been told of it.
   *The operator's word* (`crowd`: never more than N replicas run at a time, frozen, cut off and draining ones
   included) may end the wait early: when N live members have each been told of all of them. At the moment when the
   youngest of these registered, the others had, and each has spoken again since; so all N were running then, nobody
   else was, and whoever has started later holds nothing. Who is named as missing is waited for all the same. This is
   how a first start in an empty store gets shares after two reports: without the word it cannot be told from a loss.
6. *Clock.* The ledger's clock only moves forward, at most `LEAP` per report: a server clock that jumps ends no lease
   by more than that, for which `margin` is there. A clock that stands still only makes it wait.

A store with two masters at once (a split brain that both sides write to) is outside of this.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.nouns import LimitKind
from gateway.store.apportion import Wish, apportion
from gateway.store.base import Grant, Need, Report, Terms

LEAP = 500
"""Milliseconds by which one report may move the clock."""

STEADY = 50
"""While everybody has what he wants, shares move only by more than 1/STEADY of the limit."""

TURN = 1000
"""Milliseconds for which a turn lasts."""

SPANS: dict[LimitKind, int] = {"rpm": 60_500, "tpm": 60_500, "streams": 0, "rps": 1_100, "tps": 1_100, "ramp": 2_100}
"""How long a window remembers, in milliseconds, with what it keeps for safety."""


@dataclass(slots=True)
class Slice:
    """One replica's part of one limit, as of its last report."""

    limit: int
    hold: int
    used: int
    want: int
    unit: int


@dataclass(slots=True)
class Member:
    """One replica. `seen`: its last report; `spared`: until when a peer's word keeps it."""

    joined: int
    seq: int = -1
    seen: int = 0
    spared: int = 0
    acked: int = 0
    left: bool = False
    crowd: int = 0
    slices: dict[LimitKind, Slice] = field(default_factory=dict)


class Ledger:
    """All replicas' parts of one account's limits. `exchange` is the only way in."""

    def __init__(self, terms: Terms, time: int, run: str, epoch: str) -> None:
        self.ttl = round(terms.ttl * 1000)
        self.ghost = round(terms.ghost * 1000)
        self.run = run
        self.epoch = epoch
        self.time = time
        self.clock = time
        self.born = time
        self.awaited = time
        self.joins = 0
        self.members: dict[str, Member] = {}
        self.missing: set[str] = set()
        self.pool: dict[LimitKind, int] = {}
        self.settled: set[LimitKind] = set()

    def exchange(self, report: Report, time: int) -> Grant:
        """Take a report at the server's `time` and grant."""
        known = self.members.get(report.replica)
        if known is not None and report.seq <= known.seq:
            return Grant(report.account, stale=True)
        self.clock += min(max(time - self.time, 0), LEAP)
        self.time = time
        me = self._register(report)
        me.seq, me.seen, me.left = report.seq, self.clock, report.leaving
        me.acked = report.ack if report.epoch == self.epoch else 0
        me.crowd = report.crowd
        for kind, need in report.needs.items():
            self._note(me, kind, need)
        for kind in [k for k in me.slices if k not in report.needs]:
            del me.slices[kind]
        self._spare(report.alive)
        self._reap()
        shares: dict[LimitKind, int] = {}
        for kind, need in report.needs.items():
            shares[kind] = 0 if report.leaving else self._grant(report.replica, me, kind, need)
            if kind in me.slices:
                me.slices[kind].hold = max(0 if report.leaving else need.share, need.used, shares[kind])
        return self._answer(report, shares)

    # --- taking in --------------------------------------------------------------------------------------

    def _register(self, report: Report) -> Member:
        me = self.members.get(report.replica)
        if me is None:
            self.joins += 1
            me = self.members[report.replica] = Member(self.joins)
            self.missing.update(name for name in report.known if name not in self.members)
            self.missing.discard(report.replica)
        return me

    def _note(self, me: Member, kind: LimitKind, need: Need) -> None:
        """What was reported holds; a slice not seen before brings its hold along into the pool."""
        hold = max(need.share, need.used)
        if kind not in me.slices and kind not in self.settled:
            self.pool[kind] = self.pool.get(kind, 0) + hold
        me.slices[kind] = Slice(need.limit, hold, need.used, need.want, need.unit)

    def _spare(self, alive: tuple[str, ...]) -> None:
        for name in alive:
            other = self.members.get(name)
            if other is None:
                if name in self.missing:
                    self.awaited = self.clock
            elif not self._live(other) and not other.left:
                other.spared = self.clock + self.ttl

    def _reap(self) -> None:
        """Let go of what is certainly over."""
        for name, member in list(self.members.items()):
            over = member.seen if member.left else max(member.seen + self.ttl, member.spared)
            for kind, part in list(member.slices.items()):
                if self.clock > over + (self._tail(kind) if part.hold else 0) or (member.left and not part.hold):
                    del member.slices[kind]
            if not member.slices and not self._live(member):
                del self.members[name]
        # Till then the missing are named to everybody, so that a second loss of data does not lose them.
        if self.clock >= max(self.born, self.awaited) + self.ttl + max(self._tail(kind) for kind in SPANS):
            self.missing.clear()

    # --- granting ---------------------------------------------------------------------------------------

    def _grant(self, name: str, me: Member, kind: LimitKind, need: Need) -> int:
        live = {n: m.slices[kind] for n, m in self.members.items() if kind in m.slices and self._live(m)}
        limit = min(part.limit for part in live.values())
        if self._learning(kind):
            limit = min(limit, self.pool.get(kind, 0))
        others = sum(m.slices[kind].hold for n, m in self.members.items() if n != name and kind in m.slices)
        free = max(0, limit - others)
        if not self._introduced(name, me):
            return min(need.share, free)
        gone = others - sum(part.hold for n, part in live.items() if n != name)
        wishes = [Wish(n, part.used, part.want, part.unit) for n, part in live.items()]
        target = apportion(limit - gone, wishes, self.clock // TURN)[name]
        content = all(part.want <= part.hold for part in live.values())
        if content and abs(target - need.share) * STEADY <= limit:
            target = need.share
        return min(target, free)

    def _introduced(self, name: str, me: Member) -> bool:
        others = (m for n, m in self.members.items() if n != name)
        return all(m.acked >= me.joined for m in others if self._live(m))

    def _learning(self, kind: LimitKind) -> bool:
        if kind in self.settled:
            return False
        quiet = max(self.born, self.awaited) + self.ttl
        waiting = self.clock < self.born + self.ttl or (self.missing and self.clock < quiet + self._tail(kind))
        if waiting and not self._complete():
            return True
        self.settled.add(kind)
        return False

    def _complete(self) -> bool:
        """By the operator's word: nobody but the live members can hold anything."""
        live = [m for m in self.members.values() if self._live(m)]
        youngest = max(m.joined for m in live)
        told = all(m.acked >= youngest and m.crowd for m in live)
        return told and not self.missing and len(live) >= max(m.crowd for m in live)

    def _live(self, member: Member) -> bool:
        return not member.left and self.clock <= member.seen + self.ttl

    def _silent(self, member: Member) -> bool:
        return not member.left and self.clock > member.seen + self.ttl // 2

    def _tail(self, kind: LimitKind) -> int:
        return max(SPANS[kind], self.ghost)

    def _answer(self, report: Report, shares: dict[LimitKind, int]) -> Grant:
        names = tuple(sorted(self.members.keys() | self.missing))
        live = sum(self._live(m) for m in self.members.values())
        silent = tuple(n for n in names if n in self.missing or self._silent(self.members[n]))
        learning = any(kind not in self.settled for kind in report.needs)
        return Grant(
            report.account, shares, self.epoch, self.joins, max(1, live), names, silent, learning,
        )  # fmt: skip
