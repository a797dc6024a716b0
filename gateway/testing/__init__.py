"""Public doubles for tests: virtual time, an in-memory upstream, builders.

    with virtual_time() as run:      # a loop whose clock jumps to the next timer
        run(scenario())

Nothing here is imported by the gateway itself.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gateway.core.nouns import Account, Backend, Limits, Model, Plan, Policy, QueueRules, Tier, Timeouts
from gateway.upstream.base import UpstreamError

T = TypeVar("T")


class _Jump(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]
    """Never waits: the time it would have waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits and no timer is set: this would hang for ever")
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: when every task waits, time leaps to the next timer."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def freeze(self, seconds: float) -> None:
        """Let time pass without anything running, as for a container that its platform has frozen."""
        self._jump.now += seconds


@contextmanager
def virtual_time() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """A function that runs a coroutine in virtual time; leftover tasks are an error."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner.run


Step = tuple[float, bytes | Exception]
"""After this many seconds, these bytes, or this error."""


class Script:
    """How a pretend cloud answers one request: a pause before the head, a status, headers, and timed steps."""

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        after: float = 0.0,
        hang: bool = False,
        connect: float = 0.0,
    ) -> None:
        self.steps = steps
        self.status = status
        self.headers = headers or {}
        self.after = after
        self.hang = hang
        self.connect = connect


class MemoryReply:
    """A reply that follows a script."""

    def __init__(self, script: Script, closed: Callable[[], None]) -> None:
        self.status = script.status
        self.headers: Mapping[str, str] = script.headers
        self.header_names = frozenset(name.lower().encode() for name in script.headers)
        self.connect = script.connect
        self._steps = list(script.steps)
        self._hang = script.hang
        self._closed = closed
        self._aborted = asyncio.Event()

    async def read_any(self) -> bytes:
        if not self._steps and not self._hang:
            self._closed()
            return b""
        delay, what = self._steps.pop(0) if self._steps else (1e9, b"")
        try:
            await asyncio.wait_for(self._aborted.wait(), delay)
        except TimeoutError:
            if isinstance(what, Exception):
                self._closed()
                raise what from None
            if self.at_end():
                self._closed()
            return what
        raise UpstreamError("protocol", "aborted")

    async def read_all(self, limit: int) -> bytes:
        found = b""
        while piece := await self.read_any():
            found += piece
            if len(found) > limit:
                raise UpstreamError("protocol", "too long")
        return found

    def at_end(self) -> bool:
        return not self._steps and not self._hang

    def abort(self) -> None:
        self._aborted.set()
        self._closed()


class MemoryUpstream:
    """An upstream without a network: answers with the given scripts in turn, the last one for ever.

    `open` counts requests that were sent and neither finished nor hung up on; `bodies` and `headers` keep what
    was posted.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.open = 0

    async def send(self, body: bytes, headers: Mapping[str, str]) -> MemoryReply:
        self.bodies.append(body)
        self.headers.append(headers)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.open += 1
        closed = False

        def close() -> None:
            nonlocal closed
            if not closed:
                closed = True
                self.open -= 1

        try:
            await asyncio.sleep(script.after)
        except BaseException:
            close()
            raise
        return MemoryReply(script, close)

    async def aclose(self) -> None:
        return None


def plan(
    tiers: Sequence[Sequence[str]],
    *,
    limits: Mapping[str, Limits] | None = None,
    queue: QueueRules | None = None,
    timeouts: Timeouts | None = None,
    model: str = "r2",
) -> Plan:
    """A plan of one model: tiers of backend names, each with an account of its own."""
    names = [name for tier in tiers for name in tier]
    policy = Policy("p", tuple(Tier(tuple(tier)) for tier in tiers), queue or QueueRules(), timeouts or Timeouts())
    return Plan(
        models={model: Model(model, "p")},
        backends={name: Backend(name, name, {model: f"{name}-id"}) for name in names},
        accounts={name: Account(name, (limits or {}).get(name, Limits())) for name in names},
        policies={"p": policy},
    )
