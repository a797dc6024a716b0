"""Carries out hedges: the second attempt is a task of its own, made only when the time for it has come.

The first attempt runs in its call's own task, as any other does; all that a request pays which answers in time is one
timer. Whichever brings its first token first says so at once (`won`), and the other is cancelled, which closes its
connection and gives its lease back.

Rules
- Whoever runs an attempt settles its lease, exactly once: `attempt` when it is cancelled or breaks, else `run` and
  `_second`; when it has answered, the body of its response.
- Nothing is awaited between a response and whoever will close it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.nouns import Abandoned, Go, Lease, Outcome, Verdict, Wait
from gateway.pipeline.desk import Desk
from gateway.service import Attempt, Call, Response
from gateway.wire.dialect import Signal

log = logging.getLogger("spillgate.hedge")


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that did not reach the client: how it ended, and what the cloud said if it said something."""

    outcome: Outcome
    signal: Signal | None = None
    timeout: str = ""


Try = Callable[[Call, Lease], Awaitable[Response | Failure]]
"""One attempt. Returns a response that carries the lease, or a failure whose lease the caller settles."""
Result = tuple[Response | Failure, Verdict | None]
"""What became of the attempts, and if they failed what next."""


class Races:
    """All hedged calls of one dispatcher. `running` are those that got a second attempt, by the call's id."""

    def __init__(self, desk: Desk, attempt: Try) -> None:
        self.desk = desk
        self.attempt = attempt
        self.running: dict[str, _Race] = {}
        self.tasks: set[asyncio.Task[Result | None]] = set()

    def __repr__(self) -> str:
        return f"<Races: {len(self.running)} running>"

    async def run(self, call: Call, lease: Lease, at: float) -> Result:
        """An attempt that gets a second one beside it at the time `at`, unless it has begun or failed before.

        Cancelling it ends both, and gives both leases back before it returns.
        """
        try:
            return await _Race(self, call, lease).run(at)
        finally:
            self.running.pop(call.id, None)

    def won(self, call: Call, attempt: Attempt) -> None:
        """An attempt has brought its first token. If it has a twin, that is ended."""
        race = self.running.get(call.id)
        if race is not None:
            race.won(attempt)


class _Race:
    """One call that may be hedged."""

    __slots__ = ("_beaten", "_call", "_first", "_open", "_owner", "_races", "_twin")

    def __init__(self, races: Races, call: Call, first: Lease) -> None:
        owner = asyncio.current_task(races.desk.loop)
        assert owner is not None
        self._owner = owner
        self._races = races
        self._call = call
        self._first = first
        self._open = True
        self._beaten = False
        self._twin: asyncio.Task[Result | None] | None = None

    async def run(self, at: float) -> Result:
        races, desk = self._races, self._races.desk
        timer = desk.loop.call_later(max(0.0, at - desk.clock()), self._begin)
        try:
            result = await races.attempt(self._call, self._first)
        except BaseException as error:
            won = await self._broken_off(error)
            if won is None:
                raise
            return won
        finally:
            timer.cancel()
            self._open = False
        if isinstance(result, Response):
            self._cancel()
            return result, None
        return await self._failed(result, desk.settle(self._first, result.outcome))

    async def _broken_off(self, error: BaseException) -> Result | None:
        """The first attempt was cancelled or broke. The second one's answer, if it is what cancelled it."""
        if isinstance(error, asyncio.CancelledError) and self._beaten and self._owner.uncancel() == 0:
            assert self._twin is not None
            return self._twin.result()
        await self._give_up()
        return None

    async def _failed(self, failure: Failure, verdict: Verdict | None) -> Result:
        """The first attempt failed, and this is the verdict. If the second still runs, it has the last word."""
        if self._twin is None or self._twin.done() or self._call.id not in self._races.running:
            self._cancel()
            return failure, verdict
        try:
            return await self._twin or (failure, verdict)
        except BaseException:
            await self._give_up()
            raise

    async def _give_up(self) -> None:
        """The call is over: end the second attempt, and close its answer if it has one."""
        twin = self._twin
        if twin is None:
            return
        twin.cancel()
        await asyncio.wait({twin})
        found = None if twin.cancelled() or twin.exception() is not None else twin.result()
        if found is None:
            return
        result, verdict = found
        if isinstance(verdict, Go):
            self._races.desk.settle(verdict.lease, Abandoned())
        elif isinstance(verdict, Wait):
            self._races.desk.leave(self._first.request)
        if isinstance(result, Response) and not isinstance(result.body, bytes):
            await result.body.aclose()

    def _cancel(self) -> None:
        if self._twin is not None:
            self._twin.cancel()

    # --- the second attempt -------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._twin = self._races.desk.loop.create_task(self._second())
        self._races.tasks.add(self._twin)
        self._twin.add_done_callback(self._ended)

    async def _second(self) -> Result | None:
        """From being granted to its answer or its end; None: it was not granted."""
        races, call = self._races, self._call
        lease = races.desk.hedge(self._first)
        if lease is None:
            return None
        races.running[call.id] = self
        result = await races.attempt(call, lease)
        if isinstance(result, Response):
            return result, None
        return result, races.desk.settle(lease, result.outcome)

    def won(self, attempt: Attempt) -> None:
        """One of the two has begun. The one that answers stands last in the call's story."""
        attempts = self._call.attempts
        attempts.remove(attempt)
        attempts.append(attempt)
        if attempt.lease is self._first:
            self._cancel()
        elif self._open:
            self._beaten = True
            self._owner.cancel()

    def _ended(self, twin: asyncio.Task[Result | None]) -> None:
        self._races.tasks.discard(twin)
        if not twin.cancelled() and (error := twin.exception()) is not None:
            log.error("a hedge failed inside the gateway", exc_info=error, extra={"request_id": self._call.id})
