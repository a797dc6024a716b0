"""The store in this process: the reference that `redis` is measured against, and the store of tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.store.base import Grant, Report, Terms
from gateway.store.board import Board
from gateway.store.ledger import Ledger


class MemoryStore:
    """Ledgers and boards in dictionaries; replicas in one process share one object. `clock`: seconds, any zero."""

    def __init__(self, clock: Callable[[], float], terms: Terms | None = None) -> None:
        self._clock = clock
        self._terms = terms or Terms()
        self._ledgers: dict[str, Ledger] = {}
        self._boards: dict[str, Board] = {}
        self._epochs = 0

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._ledgers)} accounts>"

    async def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        """See `Store.exchange`. Never waits and never raises."""
        return self.tell(reports)

    def tell(self, reports: Sequence[Report]) -> list[Grant]:
        """The same without a loop: for rehearsals and models."""
        time = int(self._clock() * 1000)
        return [self._tell(report, time) for report in reports]

    def flush(self) -> None:
        """Forget everything, as a flushed server does."""
        self._ledgers.clear()
        self._boards.clear()

    async def aclose(self) -> None:
        """Nothing to close."""

    def _tell(self, report: Report, time: int) -> Grant:
        grant = self._ledger(report.account, time).exchange(report, time)
        if report.lesson is None:
            return grant
        board = self._boards.setdefault(report.account, Board(self._terms, time))
        return replace(grant, lesson=board.exchange(report, report.lesson, time))

    def _ledger(self, account: str, time: int) -> Ledger:
        ledger = self._ledgers.get(account)
        if ledger is None:
            self._epochs += 1
            ledger = self._ledgers[account] = Ledger(self._terms, time, "", str(self._epochs))
        return ledger
