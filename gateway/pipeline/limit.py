"""Callers' own limits: refused with the limit's name, and told of on every answer.

Tokens are taken by estimate when a request is let in (its prompt by its bytes, its answer as three of four answers
of this tenant and model are, never `max_tokens`), taken further as they flow beyond that, and settled at the end by
what the cloud counted. `gateway.core.stock` says how each limit is kept and shared between replicas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from gateway.core.caps import ANSWER, ONE, PROMPT, TOTAL, Needs
from gateway.core.estimate import Estimates, Own
from gateway.core.nouns import Usage
from gateway.core.stock import Stock
from gateway.errors import LimitReached
from gateway.pipeline.faults import why
from gateway.pipeline.live import Live
from gateway.pipeline.pooling import PRICE, Pooling
from gateway.pipeline.scopes import Scope, Scopes
from gateway.service import Call, Headers, Response, Service
from gateway.wire import quota

TRIES = 3
"""Exchanges with the pool that one request waits for at most."""

_PER = {
    "streams": "requests at a time", "rps": "requests per second", "rpm": "requests per minute",
    "tpm": "tokens per minute", "tpm_in": "prompt tokens per minute", "tpm_out": "answer tokens per minute",
}  # fmt: skip


class Limit:
    """Raises `LimitReached` (429, named, with Retry-After); otherwise holds the room until the call has ended."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._estimates = Estimates()
        self.scopes = Scopes(live)
        self.pooling = Pooling(self.scopes, clock)
        self.refused: dict[str, int] = {}
        """refusals by whose limit and which, such as "tenant rpm" """

    async def __call__(self, call: Call, service: Service) -> Response:
        scopes = self.scopes.of(call)
        if scopes:
            await self._enter(call, scopes)
        return await service(call)

    async def _enter(self, call: Call, scopes: tuple[Scope, ...]) -> None:
        chat, caller = call.chat, call.caller
        assert chat is not None
        assert caller is not None
        estimate = self._estimates.of(caller.name, call.model)
        prompt, answer = estimate.prompt(chat), estimate.answer(chat)
        needs = (1, prompt + answer, prompt, answer)
        call.tab = tab = Tab(self, scopes, estimate, needs)
        self.pooling.touch(scopes, PRICE)
        now = self._clock()
        for scope in scopes:
            for stock in scope.stocks.values():
                if not stock.has(needs[stock.weighs], now):
                    now = await self._wait(call, scopes, needs)
                    break
        tab.open(now)
        call.on_end.append(tab.close)

    async def _wait(self, call: Call, scopes: tuple[Scope, ...], needs: Needs) -> float:
        """No room in hand: ask the pool if it may have some, else refuse. Returns the time at which there is room.

        Cancelled: nothing was taken.
        """
        for _ in range(TRIES):
            now = self._clock()
            short = [stock for scope in scopes for stock in scope.short(needs, now)]
            if not short:
                return now
            if any(not stock.shared or now < stock.closed for stock in short):
                break
            await self._turn(call, scopes, needs, urgent=all(stock.closed == -inf for stock in short))
        now = self._clock()
        full = [(scope, stock) for scope in scopes for stock in scope.short(needs, now)]
        if not full:
            return now
        for scope, stock in full:
            stock.missed(needs[stock.weighs])
            name = f"{scope.who} {stock.kind}"
            self.refused[name] = self.refused.get(name, 0) + 1
        raise _refusal(full, needs, now)

    async def _turn(self, call: Call, scopes: tuple[Scope, ...], needs: Needs, *, urgent: bool) -> None:
        stocks = [stock for scope in scopes for stock in scope.stocks.values()]
        for stock in stocks:
            stock.wait(needs[stock.weighs])
        began = self._clock()
        try:
            await self.pooling.turn(urgent=urgent)
        finally:
            now = self._clock()
            call.queued += now - began
            call.waits = (*call.waits, (began, now))
            for stock in stocks:
                stock.waited(needs[stock.weighs])

    def now(self) -> float:
        return self._clock()


def _charged(call: Call) -> Usage | None:
    """Tokens of an answer that another's call brought, where they count for each who got it."""
    return call.cache.usage if call.cache is not None and call.cache.charged else None


class Tab:
    """What one call uses of its limits: taken by estimate, settled at the end. See `gateway.service.Tab`."""

    __slots__ = ("_beyond", "_estimate", "_flowed", "_limit", "_needs", "_scopes", "_stocks", "_then")

    def __init__(self, limit: Limit, scopes: Sequence[Scope], estimate: Own, needs: Needs) -> None:
        self._limit = limit
        self._estimate = estimate
        self._needs = needs
        self._scopes = scopes
        self._stocks = [stock for scope in scopes for stock in scope.stocks.values()]
        self._then = 0.0
        self._flowed = 0
        self._beyond = 0

    def open(self, now: float) -> None:
        """Take what the call needs."""
        self._then = now
        for stock in self._stocks:
            stock.take(self._needs[stock.weighs], now)

    def flow(self, tokens: int, now: float) -> None:
        """So many tokens more of the answer came."""
        self._flowed += tokens
        more = self._flowed - self._needs[ANSWER] - self._beyond
        if more > 0:
            self._beyond += more
            self._take(more, TOTAL, ANSWER, now)

    def close(self, call: Call) -> None:
        """The call has ended: what it used in truth stands, as far as the cloud told."""
        now = self._limit.now()
        last = call.attempts[-1] if call.attempts else None
        prompt, answer = self._needs[PROMPT], self._needs[ANSWER] + self._beyond
        used_prompt, used_answer = prompt, 0
        if last is not None and last.usage is not None:
            used_prompt, used_answer = last.usage.prompt, last.usage.completion
            if call.chat is not None:
                self._estimate.learn(call.chat, last.usage)
        elif last is not None and last.first_token:
            used_answer = last.tokens
        elif last is None and (charged := _charged(call)) is not None:
            used_prompt, used_answer = charged.prompt, charged.completion
        else:
            used_prompt = 0
        changes = (0, used_prompt + used_answer - prompt - answer, used_prompt - prompt, used_answer - answer)
        for stock in self._stocks:
            change = changes[stock.weighs]
            if change > 0:
                stock.more(change, now)
            elif change < 0:
                stock.refund(-change, self._then)
            elif not stock.span:
                stock.end()
        self._limit.pooling.touch(self._scopes)

    def headers(self) -> Headers:
        """`x-ratelimit-*` of the tightest limit on requests and on tokens."""
        now = self._limit.now()
        found: Headers = []
        tightest: dict[bytes, tuple[int, Stock]] = {}
        for stock in self._stocks:
            if stock.span:
                what = b"requests" if stock.weighs == ONE else b"tokens"
                left = stock.left(now)
                if what not in tightest or left < tightest[what][0]:
                    tightest[what] = (left, stock)
        for what, (left, stock) in tightest.items():
            found += quota.headers(what, stock.limit, left, stock.span)
        return found

    def _take(self, more: int, total: int, part: int, now: float) -> None:
        for stock in self._stocks:
            if stock.weighs in (total, part):
                stock.more(more, now)


def _refusal(full: Sequence[tuple[Scope, Stock]], needs: Needs, now: float) -> LimitReached:
    """Names every limit that has no room; the code names the one that opens last."""
    waits = [stock.opening(needs[stock.weighs], now) for _, stock in full]
    wait = max((wait for wait in waits if wait < inf), default=1.0)
    scope, stock = max(zip(full, waits, strict=True), key=lambda pair: pair[1])[0]
    whose = scope.who + ("_model" if scope.model else "")
    named = ", ".join(_named(scope, stock) for scope, stock in full)
    details = {
        **why("tenant-limit", named, wait),
        "limits": [
            {
                "name": stock.kind, "of": scope.who, "model": scope.model or None, "limit": stock.limit,
                "used": stock.limit - stock.left(now), "needed": needs[stock.weighs],
            }
            for scope, stock in full
        ],
    }  # fmt: skip
    message = f"Rate limit reached: {named}. Try again in {quota.duration(max(wait, 0.001)).decode()}."
    return LimitReached(message, code=f"{whose}_{stock.kind}_exceeded", retry_after=max(wait, 0.001), details=details)


def _named(scope: Scope, stock: Stock) -> str:
    model = f" for {scope.model}" if scope.model else ""
    return f"{stock.limit} {_PER[stock.kind]} of your {scope.who}{model} ({stock.kind})"
