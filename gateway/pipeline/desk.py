"""The asyncio shell around the dispatcher: futures for those who wait, and one alarm.

It decides nothing. It calls the dispatcher's verbs with the time, hands `due` verdicts to the tasks that wait for
them, and keeps a single timer at `next_due()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from gateway.core.dispatcher import Dispatcher
from gateway.core.ladder import Form
from gateway.core.nouns import Abandoned, Change, Go, Lease, Outcome, Refuse, Request, ServiceClass, Verdict, Wait
from gateway.errors import RequestError
from gateway.pipeline.deadline import Deadlines

_SOONEST = 0.001


def _nothing(_: object) -> None:
    """What there is to do without a shared store."""


class Desk:
    """One per event loop. `clock` returns monotonic seconds."""

    def __init__(self, dispatcher: Dispatcher, clock: Callable[[], float]) -> None:
        self.dispatcher = dispatcher
        self.clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines: Deadlines | None = None
        self._waiting: dict[str, asyncio.Future[Go | Refuse]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self.fence = inf
        """when the shares in hand change by themselves (see `pipeline.sharing`)"""
        self.refresh: Callable[[float], None] = _nothing
        self.hungry: Callable[[str], None] = _nothing
        self._dismissal: Callable[[], RequestError] | None = None

    def __repr__(self) -> str:
        return f"<Desk [Waiting: {len(self._waiting)} | {self.dispatcher!r}]>"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop this desk belongs to: the one that first asked."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def deadlines(self) -> Deadlines:
        """The far deadlines of this desk's attempts."""
        if self._deadlines is None:
            self._deadlines = Deadlines(self.loop)
        return self._deadlines

    def offer(self, request: Request) -> Verdict:
        now = self.clock()
        if now >= self.fence:
            self.refresh(now)
        return self.dispatcher.offer(request, now)

    def form(self, model: str, class_: ServiceClass) -> Form:
        """What a request that comes now must give up."""
        return self.dispatcher.outlook.form(model, class_, self.clock())

    async def wait(self, request: Request) -> Go | Refuse:
        """Wait for the verdict of a queued request.

        Cancelling it withdraws the request; a lease that was granted in the same instant is given back. Raises what
        `dismiss` was told.
        """
        future = self._waiting.get(request.id) or self._expect(request)
        if self._dismissal is not None and not future.done():
            future.set_exception(self._dismissal())
        self.hungry(request.model)
        self._arm()
        try:
            return await future
        except (asyncio.CancelledError, RequestError):
            self.leave(request)
            raise
        finally:
            self._waiting.pop(request.id, None)

    def dismiss(self, error: Callable[[], RequestError]) -> None:
        """Send away all who wait, and who come to wait from now on, with an error each."""
        self._dismissal = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error())

    def leave(self, request: Request) -> None:
        """A request whose verdict was to wait is over: withdraw it, or give back what it was granted meanwhile."""
        future = self._waiting.pop(request.id, None)
        if future is not None and future.done() and not future.cancelled() and future.exception() is None:
            verdict = future.result()
            if isinstance(verdict, Go):
                self.settle(verdict.lease, Abandoned())
        else:
            self.dispatcher.withdraw(request, self.clock())
            self.pump()

    def _expect(self, request: Request) -> asyncio.Future[Go | Refuse]:
        future: asyncio.Future[Go | Refuse] = self.loop.create_future()
        self._waiting[request.id] = future
        return future

    def hedge(self, lease: Lease) -> Lease | None:
        """A second lease for a request that is slow to its first token, if that is worth it."""
        now = self.clock()
        if now >= self.fence:
            self.refresh(now)
        return self.dispatcher.hedge(lease, now)

    def settle(self, lease: Lease, outcome: Outcome) -> Verdict | None:
        """`Wait` obliges the caller to `wait`, or to `leave`."""
        verdict = self.dispatcher.settle(lease, outcome, self.clock())
        if isinstance(verdict, Wait):
            self._expect(lease.request)  # now: its turn may come before it begins to wait
        if self._waiting:
            self.pump()
        return verdict

    def apply(self, *changes: Change) -> None:
        """Carry out changes as one: nobody is dispatched between them."""
        now = self.clock()
        for change in changes:
            self.dispatcher.apply(change, now)
        if self._waiting:
            self.pump()

    def pump(self) -> None:
        """Wake those who may go now, or must give up, and set the alarm for the next."""
        now = self.clock()
        if now >= self.fence:
            self.refresh(now)
        for request, verdict in self.dispatcher.due(now):
            future = self._waiting.get(request.id)
            if future is not None and not future.done():
                future.set_result(verdict)
            elif isinstance(verdict, Go):
                self.dispatcher.settle(verdict.lease, Abandoned(), self.clock())
        self._arm()

    def close(self) -> None:
        self.deadlines.close()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _arm(self) -> None:
        at = self.dispatcher.next_due() if self._waiting else None
        if self._alarm is not None:
            if at is not None and self._alarm_at == at:
                return
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            self._alarm_at = at
            delay = max(_SOONEST, at - self.clock())
            self._alarm = self.loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.pump()
