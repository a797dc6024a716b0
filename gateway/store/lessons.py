"""This replica's side of what is learnt: what to tell, when, and what it has been told. No I/O; told the time.

A lesson travels with the report on shares, in the same round trip, but not with every one: only when there is news (a
new mark, a change in what is in flight), while there is trouble or growth, and otherwise every `RENEW`, which also
renews the right to probe. That right is believed for as long as a share is: a lease from before sending, less a margin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from gateway.core.lesson import NOBODY, LearntKind, Lesson, Others, Use, others
from gateway.core.lesson import ranks as ranks_of
from gateway.store.base import Grant, Report, Telling, Terms

RENEW = 0.6
"""Seconds between two tellings without news."""

LEAST = 0.18
"""Seconds between two tellings, unless a mark has changed: shares may be exchanged far more often."""

STIR = 2.0
"""Seconds for which every tick is used after a mark has changed: somebody learns."""

SHARE = 0.03
"""A change in flight of this share of the limit is news."""

NOTHING = Use()

Rank = Mapping[LearntKind, tuple[int, int, float]]


@dataclass(slots=True)
class _Page:
    """One account: what was told last, and what was heard."""

    told_at: float = -inf
    busy_at: float = -inf
    stirred: float = -inf
    use: Use = NOTHING
    ranks: Rank = field(default_factory=dict)
    probe_until: float = -inf
    rows: Mapping[str, Use] = field(default_factory=dict)
    others: Others = NOBODY
    heard_at: float = -inf
    prober: str = ""


class LessonBook:
    """What this replica was told of every account. `me` is its name in the store."""

    def __init__(self, me: str, terms: Terms) -> None:
        self.me = me
        self._terms = terms
        self._pages: dict[str, _Page] = {}

    def __repr__(self) -> str:
        return f"<LessonBook {self.me}: {len(self._pages)} accounts>"

    # --- an exchange ------------------------------------------------------------------------------------

    def tell(self, reports: Sequence[Report], lessons: Mapping[str, Lesson], now: float) -> list[Report]:
        """The same reports, with a lesson in those where one is due."""
        for gone in [name for name in self._pages if name not in lessons]:
            del self._pages[gone]
        return [self._with(report, lessons.get(report.account), now) for report in reports]

    def told(self, reports: Iterable[Report], grants: Iterable[Grant], now: float) -> dict[str, Lesson]:
        """What the answer says, by account, where a lesson was told."""
        found = {}
        for report, grant in zip(reports, grants, strict=True):
            page = self._pages.get(report.account)
            if page is None or report.lesson is None or grant.lesson is None or grant.lesson.stale:
                continue
            told = grant.lesson
            if told.prober == self.me and not report.leaving:
                page.probe_until = page.told_at + self._terms.ttl - self._terms.margin
            else:
                page.probe_until = -inf
            page.prober = told.prober
            rows = {name: use for name, use in told.rows.items() if name != self.me}
            page.others, page.rows, page.heard_at = others(page.rows, rows), rows, now
            self._note(page, ranks_of(told.marks), now)
            found[report.account] = Lesson(told.marks, now < page.probe_until, others=page.others, prober=page.prober)
        return found

    def news(self, lessons: Mapping[str, Lesson]) -> list[str]:
        """Accounts of which something has been learnt here that the store has not been told: to be told at once."""
        return [
            name
            for name, lesson in lessons.items()
            if (page := self._pages.get(name)) is not None and ranks_of(lesson.marks) != page.ranks
        ]

    def lapse(self, lessons: Mapping[str, Lesson], now: float) -> dict[str, Lesson]:
        """What holds by lapse of time: a right to probe that ended or was never had, a queue elsewhere that is no news.

        Without a store in reach nobody probes, and what was last known of the others stands.
        """
        found = {}
        for name, lesson in lessons.items():
            page = self._pages.setdefault(name, _Page())
            probe = now < page.probe_until
            silent = bool(lesson.others.overdue) and now >= page.heard_at + self._terms.ttl
            if lesson.probe != probe or silent:
                quiet = replace(lesson.others, overdue=0 if silent else lesson.others.overdue)
                quiet = replace(quiet, begins=0, timely=0, ends=0)
                prober = page.prober if probe or page.prober != self.me else ""
                found[name] = Lesson({}, probe, others=quiet, prober=prober)
        return found

    # --- inside -----------------------------------------------------------------------------------------

    def _with(self, report: Report, lesson: Lesson | None, now: float) -> Report:
        if lesson is None:
            return report
        page = self._pages.setdefault(report.account, _Page())
        use, ranks = lesson.use, ranks_of(lesson.marks)
        if use.streams:
            page.busy_at = now
        self._note(page, ranks, now, told=False)
        if not (report.leaving or self._due(page, lesson, ranks, now)):
            return report
        # Who has nothing in flight cannot try for more; for a while it may be a gap between two requests.
        willing = now < page.busy_at + self._terms.ttl and not report.leaving
        probing = now < page.probe_until
        if not willing:
            page.probe_until = -inf
        page.told_at, page.use, page.ranks = now, use, ranks
        return replace(report, lesson=Telling(lesson.marks, use, willing, probing))

    def _due(self, page: _Page, lesson: Lesson, ranks: Rank, now: float) -> bool:
        use, mark = lesson.use, lesson.marks.get("streams")
        if now >= page.told_at + RENEW or ranks != page.ranks:
            return True
        if now < page.told_at + LEAST:
            return False
        if now < page.stirred + STIR:
            return True
        if use.overdue or page.use.overdue or page.others.overdue:
            return True
        step = max(1.0, SHARE * mark.limit) if mark is not None else inf
        return bool(page.rows) and abs(use.streams - page.use.streams) > step

    def _note(self, page: _Page, ranks: Rank, now: float, *, told: bool = True) -> None:
        """Marks as they are now; a change is a stir."""
        if ranks != page.ranks:
            page.stirred = now
        if told:
            page.ranks = ranks
