"""How a gateway stops, so that nobody loses an answer by it.

    serving ──signal──▶ leaving ──notice is over──▶ draining ──all has ended, or time is up──▶ cutting ──▶ closed

    leaving    readiness is false, and work is still taken: balancers need a moment to look
    draining   new work gets 503, Retry-After and `connection: close`; what runs goes on
    cutting    what still runs ends with an error that its client can read
    closed     shares are given back, records are written

A second signal skips what is left of the waiting; a third ends the process at once, as if nobody listened to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from gateway.edge.chat import HOOK, ChatDoor, Scope, Send
from gateway.errors import Draining
from gateway.pipeline.live import Live
from gateway.service import Call, Response, Service

Phase = Literal["serving", "leaving", "draining", "cutting", "closed"]

CUT = 2.0
"""Seconds for a client to take the last words of an answer that is cut; then his connection is closed."""
READ = 2.0
"""Seconds for a request to arrive that is refused anyway: an answer to what was only half sent may get lost."""
SOON = 1.0
"""Retry-After where other replicas serve."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: `notice` from the signal until new work is refused, `streams` from then until what runs is cut."""

    notice: float = 0.0
    streams: float = 20.0


class Drain:
    """Where a process is on its way out. `entered` is told of each phase as it begins. One per process."""

    def __init__(self, patience: Patience, clock: Callable[[], float], entered: Callable[[Phase], None]) -> None:
        self.phase: Phase = "serving"
        self.asked = asyncio.Event()
        self._patience = patience
        self._clock = clock
        self._entered = entered
        self._until = 0.0
        self._hurry = False
        self._waiting: asyncio.Timeout | None = None

    def __repr__(self) -> str:
        return f"<Drain {self.phase}>"

    def ask(self) -> None:
        """Begin to stop; asked again, wait no longer."""
        self._hurry = self.asked.is_set()
        self.asked.set()
        if self._hurry and self._waiting is not None:
            self._waiting.reschedule(self._clock())

    @property
    def hurried(self) -> bool:
        """Whether it was asked twice."""
        return self._hurry

    def remaining(self) -> float:
        """Seconds until what runs is cut; 0 before it drains."""
        return max(0.0, self._until - self._clock())

    def farewell(self, others: bool) -> Draining:
        """What is said to those who cannot be served any more. `others`: whether other replicas serve."""
        wait = SOON if others else self.remaining() + SOON
        return Draining("This gateway is being stopped. Try again.", code="draining", retry_after=wait)

    async def leave(self) -> None:
        """From the first signal until new work is refused."""
        self._enter("leaving")
        await self._bear(self._patience.notice, asyncio.Event().wait())

    async def finish(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Refuse new work, and wait for what runs. Returns what did not end in time."""
        self._until = self._clock() + self._patience.streams
        self._enter("draining")
        if running:
            await self._bear(self._patience.streams, asyncio.wait(running))
        return {task for task in running if not task.done()}

    async def cut(self, running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """End what runs. Returns those that cannot get rid of their last words."""
        self._enter("cutting")
        for task in running:
            task.cancel()
        return (await asyncio.wait(running, timeout=CUT))[1]

    def close(self) -> None:
        """Nothing runs any more."""
        self._enter("closed")

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._entered(phase)

    async def _bear(self, seconds: float, what: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(0.0 if self._hurry else seconds) as self._waiting:
                await what
        except TimeoutError:
            pass
        finally:
            self._waiting = None


class ClosedDoor(ChatDoor):
    """The door while a gateway drains: whoever comes is told to come again, on another connection."""

    def __init__(self, around: Callable[[Service], Service], live: Live, clock: Callable[[], float],
                 farewell: Callable[[], Draining]) -> None:  # fmt: skip
        async def refuse(call: Call) -> Response:
            with suppress(TimeoutError):
                async with asyncio.timeout(READ):
                    await call.read()
            raise farewell()

        super().__init__(around(refuse), live, clock)
        self.farewell = farewell

    async def _answer(self, scope: Scope, response: Response, send: Send) -> None:
        scope.pop(HOOK, None)  # the plain way out, which knows what `connection: close` means
        response.headers.append((b"connection", b"close"))
        await super()._answer(scope, response, send)
