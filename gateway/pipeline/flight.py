"""One call to a cloud for all who ask the same at the same time.

The call runs in a task of its own: whoever asked first may leave. Its blocks are held as they come; every listener has
a place in them and goes at its own pace, late ones from the beginning. The call goes as fast as the fastest listener;
one that falls `MOST_HELD` behind is cut off.

    asked ─┬─ begun, settled        all of it came at once, or it was found in the store
           ├─ begun ─ settled       a stream: `settled` when it has ended and it is known whether it makes a whole
           └─ begun, settled, error   nothing came, and everybody is told the same

Rules
- Exactly one of those who listen carries the call's attempts, for records, limits and costs: the first, and when it
  leaves before the end, the one who has listened longest.
- When nobody listens any more the call is cancelled, and who left last waits until it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from copy import copy
from typing import Any

from gateway.core.nouns import Served
from gateway.core.tariff import cost
from gateway.errors import BudgetSpent, RequestError, UpstreamFailed
from gateway.pipeline.behalf import MOST_BUFFERED, Paid, Stock, end, hand_over, on_behalf
from gateway.pipeline.replay import STREAM, given
from gateway.service import Attempt, Call, Headers, Response
from gateway.store.answers import Answer
from gateway.wire import sse
from gateway.wire.answer import Folder
from gateway.wire.easing import Easing
from gateway.wire.envelope import envelope

HIGH_WATER = 1024 * 1024
"""bytes that the fastest listener may be behind before the cloud is told to wait"""
MOST_HELD = 16 * 1024 * 1024
"""bytes of one call; what is longer is not joined any more, and not kept"""
_AT_ONCE = 256 * 1024
_FOLD = 32
"""blocks folded before others may go on"""
log = logging.getLogger("spillgate.cache")

Work = Callable[["Flight"], Coroutine[Any, Any, None]]


class Flight:
    """One call and those who listen to it. `work` brings the answer by `begin`, `add` and `end`, or by what it raises.

    `gone` is called when nobody may join it any more; perhaps more than once.
    """

    def __init__(
        self, founder: Call, work: Work, gone: Callable[[Flight], None], stock: Stock, clock: Callable[[], float]
    ) -> None:
        self.call = on_behalf(founder)
        self.asked = founder.received
        self.begun = self.settled = self.streams = self.sealed = False
        self.found: Answer | None = None
        self.whole: bytes | None = None
        self.error: RequestError | None = None
        self.broken = self.over = self.finished = False
        self.held = self.base = 0
        self.blocks: list[tuple[bytes, bytes]] = []
        """as they came, and for those who want no usage"""
        self.listeners: list[Listener] = []
        self.carrier = founder
        self.keep_on: Callable[[], bool] = lambda: False
        """whether somebody elsewhere listens"""
        self.abroad = False
        """whether another replica makes the call"""
        self.notes: Headers = []
        """what the first asker is told beside the answer"""
        self._told: Paid | None = None
        self._came = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._gone = gone
        self._stock = stock
        self._clock = clock
        self._task = asyncio.get_running_loop().create_task(self._run(work))
        self._task.add_done_callback(self._done)

    def __repr__(self) -> str:
        return f"<Flight {self.call.id} [Listeners: {len(self.listeners)} | Bytes: {self.held}]>"

    @property
    def served(self) -> Attempt | None:
        """The attempt that brought the whole answer, once it has."""
        attempts = self.call.attempts
        return attempts[-1] if attempts and isinstance(attempts[-1].outcome, Served) else None

    @property
    def paid(self) -> Paid | None:
        """What the whole answer took, once it is there."""
        served = self.served
        if served is None:
            return self._told
        usage, price = served.usage, served.lease.price
        if usage is None or price is None:
            return Paid(usage, None, "" if price is None else price.currency)
        return Paid(usage, cost(price, usage), price.currency)

    @property
    def is_personal(self) -> bool:
        """Whether it was refused for a reason that is the first asker's alone, and says nothing to others."""
        return isinstance(self.error, BudgetSpent)

    @property
    def easing(self) -> Easing | None:
        """What the answer gave up, for those who had no attempt of their own that could tell."""
        easing, attempts = self.call.easing, self.call.attempts
        if easing is not None and attempts:
            easing.told[""] = easing.told.get(attempts[-1].lease.backend, ())
        return easing

    @property
    def joinable(self) -> bool:
        """Whether what has come so far may still become an answer."""
        attempts = self.call.attempts
        failed = self.begun and attempts and attempts[-1].outcome is not None and self.served is None
        return not (failed or self.call.status)

    # --- what the work brings -------------------------------------------------------------------------------

    def begin(self, whole: bytes | None = None, found: Answer | None = None) -> None:
        """The answer begins: a stream, or all of it at once."""
        self.whole, self.found = whole if found is None else found.body, found
        self.begun = True
        self.streams = self.whole is None
        self.settled = self.over = not self.streams
        self._hold(len(self.whole or b""))
        self.pulse()

    def told(self, paid: Paid) -> None:
        """Another replica says that the whole answer is there, and what it took."""
        self._told = paid

    def add(self, block: bytes) -> None:
        """More of a stream: whole frames."""
        plain = block
        if sse.needs_reading(block, sse.count(block)):
            plain = b"".join(raw for raw in sse.frames(block) if sse.read(raw).kind != "usage")
        self.blocks.append((block, plain))
        self._hold(len(block))
        self._came += len(block)
        if self.held > MOST_HELD or self._stock.bytes > MOST_BUFFERED or self.sealed:
            self._seal()
        self.pulse()

    async def room(self) -> None:
        """Wait while even the fastest listener is far behind."""
        while self.listeners and self._came - max(one.taken for one in self.listeners) > HIGH_WATER:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    async def end(self) -> None:
        """The last block has come. Makes the whole of it, if one can be made; others run meanwhile."""
        self.over = True
        self.pulse()
        if self.paid is not None and not self.sealed:
            folder = Folder()
            for start in range(0, len(self.blocks), _FOLD):
                folder.feed(b"".join(block for block, _ in self.blocks[start : start + _FOLD]))
                await asyncio.sleep(0)
            self.whole = folder.whole()
        self.settled = True
        self.pulse()

    def close(self) -> None:
        """Nobody joins any more."""
        self._gone(self)

    async def _run(self, work: Work) -> None:
        try:
            await work(self)
        except RequestError as error:
            self.error = error
        except Exception:
            log.exception("a shared call failed inside the gateway", extra={"request_id": self.call.id})

    def _done(self, task: asyncio.Task[None]) -> None:
        """The call is over, however it ended, also before it began."""
        del task
        if not self.begun and self.error is None:
            self.error = RequestError("The gateway failed to handle this request.", code="internal_error")
        self.broken = not self.over
        self.begun = self.settled = self.over = self.finished = True
        end(self.call, self._clock())
        self._gone(self)
        self._let_go()
        self.pulse()

    def _hold(self, size: int) -> None:
        self.held += size
        self._stock.bytes += size

    def _let_go(self) -> None:
        """Nobody will read it any more."""
        if self.finished and not self.listeners:
            self._hold(-self.held)

    def _seal(self) -> None:
        """Too much to be held: nobody joins any more, and what all have read goes, or what came first."""
        if not self.sealed:
            self.sealed = True
            self.close()
        read = min((one.at for one in self.listeners), default=self.base) - self.base
        gone, held = 0, self.held
        while gone < len(self.blocks) - 1 and (gone < read or held > MOST_HELD):
            held -= len(self.blocks[gone][0])
            gone += 1
        del self.blocks[:gone]
        self.base += gone
        self._hold(held - self.held)

    # --- who listens ----------------------------------------------------------------------------------------

    def pulse(self) -> None:
        """Something has changed."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def change(self) -> None:
        """Wait until something has changed. Cancelling it disturbs nobody else."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def wait(self, seconds: float, *, early: bool) -> None:
        """Wait so long, or until it is over; and, `early`, after that until something has changed."""
        await asyncio.wait({self._task}, timeout=seconds)
        if early and not self.finished:
            change = asyncio.ensure_future(self.change())
            await asyncio.wait({change, self._task}, timeout=seconds * 8, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()

    def abandon(self) -> None:
        """End the call: nobody listens any more."""
        if not self.over:
            self.close()
            self._task.cancel()

    def moved(self) -> None:
        """A listener has read, or left."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def serve(self, call: Call, pace: float) -> Response | None:
        """The answer for one who asks. None: he must ask for himself; it is not to be had in his form, or it was not
        he who was refused.

        Raises what the call raised. Cancelled: it has left, and the call has ended if nobody else listens.
        """
        chat = call.chat
        assert chat is not None
        if call is self.carrier:
            call.attempts = self.call.attempts
        listener = Listener(self, call, usage=chat.include_usage)
        self.listeners.append(listener)
        try:
            while not (self.begun if chat.stream else self.settled):
                await self.change()
            response = self._response(listener, chat.stream, pace)
        except BaseException:
            await listener.aclose()
            raise
        if response is None or response.body is not listener:
            await listener.aclose()
        if response is None and call is self.carrier:
            call.attempts = []
        return response

    def _response(self, listener: Listener, stream: bool, pace: float) -> Response | None:
        call = listener.call
        if call is self.carrier:
            self._hand(call)
        if self.abroad and call.cache is not None:
            call.cache.result = "joined"
        if self.error is not None:
            if self.is_personal and call.id != self.call.id:
                return None
            raise copy(self.error)
        if self.streams and stream:
            return Response(200, [*STREAM, *(self.notes if call.id == self.call.id else ())], listener)
        if self.whole is not None:
            assert call.chat is not None
            response = given(call.chat, self.whole, pace)
            if response is not None and call.id == self.call.id:
                response.headers = [*response.headers, *self.notes]
            return response
        if self.paid is None:
            raise UpstreamFailed("The answer broke off before its end.", code="upstream_cut")
        return None

    def _hand(self, call: Call) -> None:
        """Whose the attempts are."""
        self.carrier = call
        hand_over(self.call, call)

    async def leave(self, listener: Listener) -> None:
        """One has heard enough. The last one to leave ends the call and waits until it has ended."""
        self.listeners.remove(listener)
        self._let_go()
        self.moved()
        call = listener.call
        if self.over or self.paid is not None:
            self._tell(call)
        elif self.listeners:
            if call is self.carrier:
                call.attempts = []
                self._hand(self.listeners[0].call)
        else:
            if not self.keep_on():
                self.abandon()
            await asyncio.wait({self._task})

    def _tell(self, call: Call) -> None:
        """What became of it; and what a listener got that it did not ask the cloud for."""
        if self.call.status:  # the answer turned out to be a refusal after it had begun with comments
            call.status = self.call.status
        reuse = call.cache
        if reuse is None or (call is self.carrier and not self.abroad) or (paid := self.paid) is None:
            return
        reuse.usage, reuse.cost, reuse.currency = paid.usage, paid.cost, paid.currency

    def cancel(self) -> asyncio.Task[None]:
        """End the call, whoever listens: the gateway stops."""
        self._task.cancel()
        return self._task


class Listener:
    """One reader's place in a stream. The body of its response: iterate it, then `aclose`."""

    __slots__ = ("_left", "_told", "_usage", "at", "call", "flight", "taken")

    def __init__(self, flight: Flight, call: Call, *, usage: bool) -> None:
        self.flight = flight
        self.call = call
        self.taken = 0
        self._usage = usage
        self.at = 0
        self._left = self._told = False

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> bytes:
        flight = self.flight
        while True:
            if self.at < flight.base:
                self.at = flight.base + len(flight.blocks)
                return _broken("The answer came faster than it was read.", "too_slow")
            if block := self._next():
                return block
            if flight.over and self.at >= flight.base + len(flight.blocks):
                break
            if self.at >= flight.base + len(flight.blocks):
                await flight.change()
        if flight.broken and not self._told:
            self._told = True
            return _broken("The gateway stopped in the middle of the answer.", "upstream_cut")
        raise StopAsyncIteration

    def _next(self) -> bytes:
        """What has come since, or a good part of it."""
        flight = self.flight
        found: list[bytes] = []
        size = 0
        place = self.at - flight.base
        while place < len(flight.blocks) and size < _AT_ONCE:
            block, plain = flight.blocks[place]
            found.append(block if self._usage else plain)
            size += len(block)
            place += 1
        self.at = flight.base + place
        self.taken += size
        flight.moved()
        return found[0] if len(found) == 1 else b"".join(found)

    async def aclose(self) -> None:
        """Leave. Safe at any time, any number of times."""
        if not self._left:
            self._left = True
            await self.flight.leave(self)


def _broken(message: str, code: str) -> bytes:
    return sse.error_event(envelope(message, "upstream_error", code, None, {}))
