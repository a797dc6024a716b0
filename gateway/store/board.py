"""What the store knows of one account's lessons: a board that all replicas read and write. Reference of `lessons.lua`.

1. *Marks only merge* (`core.lesson.join`). Whatever is told twice, late or out of order, the board ends the same; after
   a loss of data it is taught anew by whoever speaks.
2. *Rows* say what each replica has in flight. A row that was not renewed for a lease is dropped. They are for deciding
   what to try, never for what is allowed: that is the ledger's business.
3. *One prober.* The right to try for more is a lease: who is willing and asks when nobody has it gets it, renews it
   with every word, and gives it up by saying so, by leaving, or by a lease of silence. A board without memory waits a
   lease before it gives the right to anybody but one who says that it has it.
4. *Clock.* Only forwards, at most `LEAP` per word. A server clock that jumps can end a prober's lease early by that;
   two probers for a moment are a small matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.lesson import LearntKind, Mark, Use, join
from gateway.store.base import Report, Telling, Terms, Told

LEAP = 1500
"""Milliseconds by which one word may move the clock."""


@dataclass(slots=True)
class Row:
    """What one replica said last, and when."""

    seq: int
    seen: int
    use: Use


class Board:
    """All replicas' lessons on one account. `exchange` is the only way in."""

    def __init__(self, terms: Terms, time: int) -> None:
        self.ttl = round(terms.ttl * 1000)
        self.time = self.clock = self.born = time
        self.marks: dict[LearntKind, Mark] = {}
        self.rows: dict[str, Row] = {}
        self.prober = ""
        self.until = 0

    def exchange(self, report: Report, telling: Telling, time: int) -> Told:
        """Take what a replica tells at the server's `time`, and tell what holds."""
        me, row = report.replica, self.rows.get(report.replica)
        if row is not None and report.seq <= row.seq:
            return Told(stale=True)
        self.clock += min(max(time - self.time, 0), LEAP)
        self.time = time
        self.marks = join(self.marks, telling.marks)
        if report.leaving:
            self.rows.pop(me, None)
        else:
            self.rows[me] = Row(report.seq, self.clock, telling.use)
        for name in [name for name, row in self.rows.items() if self.clock > row.seen + self.ttl]:
            del self.rows[name]
        self._elect(me, telling, willing=telling.willing and not report.leaving)
        return Told(self.marks, self.prober, {name: row.use for name, row in self.rows.items()})

    def _elect(self, me: str, telling: Telling, *, willing: bool) -> None:
        if self.prober != me and self.clock > self.until:
            self.prober = ""
        if not willing:
            self.prober = "" if self.prober == me else self.prober
            return
        free = not self.prober and (telling.probing or self.clock >= self.born + self.ttl)
        if self.prober == me or free:
            self.prober, self.until = me, self.clock + self.ttl
