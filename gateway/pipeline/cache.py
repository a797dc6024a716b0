"""Answers given again. After `limit`: the rate of requests protects us, and tokens no cloud is asked for cost none.

A request that its policy lets share is given an answer that is at hand, or joins the same request that is under way, or
is the first of its kind: then the store is asked, and after it the clouds, once for all who come meanwhile. Complete
answers are kept. See `pipeline.flight` for those who share a call, `store.answers` for what is kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from math import inf

from gateway.core.ladder import Form
from gateway.errors import BadRequest
from gateway.pipeline.behalf import MOST_BUFFERED, Stock
from gateway.pipeline.crossing import Crossing
from gateway.pipeline.flight import Flight
from gateway.pipeline.live import Live
from gateway.pipeline.replay import given
from gateway.policy.compiled import CacheRules
from gateway.service import Call, Response, Reuse, Service
from gateway.store.answers import Answer, Answers, Bounds, Look
from gateway.telemetry.cache import CacheView
from gateway.wire.answer import as_cached, storable
from gateway.wire.canonical import canonical, key

SWITCH = "x-spillgate-cache"
PACE = "x-spillgate-cache-pace"
MOST_PACE = 10_000.0
_SWITCH, _PACE, _CONTROL = SWITCH.encode(), PACE.encode(), b"cache-control"
_VERSION = "1"
_TURNS = 3
"""how often who calls may be lost, or refused for a reason of his own, before one calls for oneself"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of caches. `most_age` in seconds; `pace` in tokens per second, 0: at once."""

    opt_in: bool = False
    store: bool = True
    most_age: float = inf
    pace: float = 0.0

    @property
    def fresh(self) -> bool:
        """Whether nothing that began before will do."""
        return self.most_age <= 0


NO_WISH = Wish()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: its key, the policy in whose space the answer is, the model; and how light the answer may be."""

    key: bytes
    space: str
    model: str
    form: Form | None


Name = tuple[Question, str, float | None, float]
"""What joins what: the same question, from the same class, with the same patience."""


class Cache:
    """The filter, and what is under way. `answers` may be set to another keeper before the first call."""

    def __init__(self, live: Live, clock: Callable[[], float], wall: Callable[[], float], answers: Answers) -> None:
        self._live = live
        self._clock = clock
        self._wall = wall
        self.answers = answers
        self.crossing: Crossing | None = None
        """to other replicas, where there is a Redis"""
        self.flights: dict[Name, Flight] = {}
        self.running: set[Flight] = set()
        self.stock = Stock()
        self.kept: Counter[str] = Counter()
        """answers kept, by model"""

    def __repr__(self) -> str:
        return f"<Cache {self.answers!r} [Under way: {len(self.running)}]>"

    def __call__(self, call: Call, service: Service) -> Awaitable[Response]:
        """Raises what the call raises, and `BadRequest` for a header that is not understood."""
        easing = call.easing
        model = call.model if easing is None else easing.asked or call.model
        rules = self._live.caching.get(call.policy if easing is None else self._live.policy_of[model])
        return service(call) if rules is None else self._serve(call, service, rules, model)

    def view(self) -> CacheView:
        """How it stands, for metrics."""
        held, kept = self.answers.standing(), sum(self.kept.values())
        listeners = sum(len(flight.listeners) for flight in self.running)
        return CacheView(held.entries, held.bytes, len(self.running), listeners, held.failures, kept)

    async def aclose(self) -> None:
        """End what is under way, and let go of the store."""
        if tasks := {flight.cancel() for flight in self.running}:
            await asyncio.wait(tasks)
        if self.crossing is not None:
            await self.crossing.aclose()
        await self.answers.aclose()

    async def _serve(self, call: Call, service: Service, rules: CacheRules, model: str) -> Response:
        wish = wishes(call)
        question = self._question(call, rules, wish, model)
        if question is None:
            call.cache = Reuse("bypass")
            return await service(call)
        if not wish.fresh and (answer := self.answers.peek(question.space, question.key)) is not None:
            response = self._again(call, answer, rules, wish)
            if response is not None:
                _in_full(call, question)
                return response
        for _ in range(_TURNS):
            flight = self._flight(call, service, rules, wish, question)
            response = await flight.serve(call, wish.pace)
            if response is not None:
                self._given(call, flight, question)
                return response
            if not flight.is_personal:
                break
        call.cache = Reuse("miss")
        return await service(call)

    def _flight(self, call: Call, service: Service, rules: CacheRules, wish: Wish, question: Question) -> Flight:
        """The one under way, or a new one."""
        assert call.caller is not None
        name = (question, call.caller.class_, call.max_wait, wish.most_age)
        flight = None if wish.fresh or rules.join == "never" else self.flights.get(name)
        if flight is not None and flight.joinable:
            call.cache = Reuse("joined", self._clock() - flight.asked)
        else:
            call.cache = Reuse("miss")
            flight = self._found(call, service, rules, wish, name)
        call.cache.charged = rules.account == "each"
        return flight

    def _given(self, call: Call, flight: Flight, question: Question) -> None:
        """How it was served."""
        if flight.found is not None:
            call.cache = _reuse(flight.found, max(0.0, self._wall() - flight.found.at))
            _in_full(call, question)
        elif call.cache is not None and call.cache.result == "joined":
            call.cache.waited = max(0.0, self._clock() - flight.asked - call.cache.age)
            call.easing = flight.easing

    def _question(self, call: Call, rules: CacheRules, wish: Wish, model: str) -> Question | None:
        """What is asked, in full; None when it is not to be shared."""
        chat, caller, easing = call.chat, call.caller, call.easing
        assert chat is not None
        assert caller is not None
        if not wish.store or (rules.when == "opt_in" and not wish.opt_in):
            return None
        fields = (chat.full or chat).fields()
        chosen = rules.when != "deterministic" or wish.opt_in
        if not chosen and b'"temperature"' not in fields:  # most requests, told without reading them
            return None
        found = canonical(fields)
        if found is None or not (chosen or found.deterministic):
            return None
        scope = "all" if rules.share == "all" else f"tenant {caller.name}"
        digest = key(_VERSION, scope, self._live.stands_for[model], found.text)
        return Question(digest, self._live.policy_of[model], model, None if easing is None else easing.form)

    def _again(self, call: Call, answer: Answer, rules: CacheRules, wish: Wish) -> Response | None:
        """A stored answer, unless it is too old."""
        age = max(0.0, self._wall() - answer.at)
        if age > min(rules.ttl, wish.most_age):
            return None
        assert call.chat is not None
        response = given(call.chat, answer.body, wish.pace)
        if response is not None:
            call.cache = _reuse(answer, age)
        return response

    # --- the first of its kind ------------------------------------------------------------------------------

    def _found(self, call: Call, service: Service, rules: CacheRules, wish: Wish, name: Name) -> Flight:
        async def work(flight: Flight) -> None:
            await self._work(flight, service, rules, wish, name)

        def gone(flight: Flight) -> None:
            if self.flights.get(name) is flight:
                del self.flights[name]
            if flight.finished:
                self.running.discard(flight)

        flight = Flight(call, work, gone, self.stock, self._clock)
        self.running.add(flight)
        if rules.join != "never" and self.stock.bytes < MOST_BUFFERED:
            self.flights[name] = flight
        return flight

    async def _work(self, flight: Flight, service: Service, rules: CacheRules, wish: Wish, name: Name) -> None:
        question = name[0]
        bounds = Bounds(rules.ttl, rules.max_entries, rules.max_bytes)
        look = await self._look(flight, rules, wish, question, bounds)
        meets = rules.join == "fleet" and not wish.fresh and self.flights.get(name) is flight
        if meets and look.mark is not None and not flight.begun:
            look = await self._cross(flight, rules, wish, name, bounds) or look
        if flight.begun:
            return
        await self._call(flight, service)
        answer = self._worth_keeping(flight, rules)
        mark = look.late() if look.mark is None else look.mark
        if mark is None or answer is None or question.form is not None:  # a lighter answer is not kept
            flight.close()
        else:
            self.kept[question.model] += 1
            await self.answers.keep(question.space, question.key, answer, bounds, mark)

    async def _look(self, flight: Flight, rules: CacheRules, wish: Wish, question: Question, bounds: Bounds) -> Look:
        """Ask the store, and begin with what it has."""
        look = await self.answers.look(question.space, question.key, bounds)
        found = look.answer
        if found is not None and self._wall() - found.at <= min(rules.ttl, wish.most_age) and not wish.fresh:
            flight.begin(found=found)
        return look

    async def _cross(self, flight: Flight, rules: CacheRules, wish: Wish, name: Name, bounds: Bounds) -> Look | None:
        """Listen to another replica that asks the same, or else be the one who calls for all."""
        crossing = self.crossing
        for _ in range(_TURNS if crossing is not None else 0):
            assert crossing is not None
            post = await crossing.claim(name)
            if post is None:
                break
            if post.leads:
                crossing.lead(flight, post)
                return await self._look(flight, rules, wish, name[0], bounds)  # it may just have been kept
            flight.abroad = True
            over = await crossing.follow(flight, post)
            flight.abroad = flight.begun
            if over:
                break
        return None

    async def _call(self, flight: Flight, service: Service) -> None:
        """Ask the clouds."""
        response = await service(flight.call)
        flight.notes = [(name, value) for name, value in response.headers if name.startswith(b"x-")]
        if isinstance(response.body, bytes):
            flight.begin(response.body)
            return
        flight.begin()
        try:
            async for block in response.body:
                flight.add(block)
                await flight.room()
        finally:
            await response.body.aclose()
        await flight.end()

    def _worth_keeping(self, flight: Flight, rules: CacheRules) -> Answer | None:
        """The answer, if it is whole, not too large, and nobody cut it short or filtered it."""
        whole, served = flight.whole, flight.served
        if whole is None or served is None or len(whole) > rules.max_entry or not storable(whole):
            return None
        paid = flight.paid
        assert paid is not None
        return Answer(
            at=self._wall(),
            model=flight.call.model,
            tenant=served.lease.request.tenant,
            body=as_cached(whole, paid.usage),
            usage=paid.usage,
            cost="" if paid.cost is None else str(paid.cost),
            currency=paid.currency,
        )


def _in_full(call: Call, question: Question) -> None:
    """A stored answer is that of the model that was asked for, and gives nothing up."""
    call.model, call.policy, call.easing = question.model, question.space, None


def _reuse(answer: Answer, age: float) -> Reuse:
    reuse = Reuse("hit", age)
    reuse.usage = answer.usage
    reuse.size = len(answer.body)
    if answer.cost:
        reuse.cost, reuse.currency = Decimal(answer.cost), answer.currency
    return reuse


def wishes(call: Call) -> Wish:
    """What the request's headers say. Raises `BadRequest` for one of ours that is not understood."""
    headers = call.headers
    switch, control, pace = headers.get(_SWITCH), headers.get(_CONTROL), headers.get(_PACE)
    if switch is None and control is None and pace is None:
        return NO_WISH
    said = "" if switch is None else switch.decode("latin-1").strip().lower()
    if said not in {"", "on", "off"}:
        raise BadRequest(f"The header {SWITCH} must be on or off.", code="invalid_header", param=SWITCH)
    words = {word.strip().lower() for word in (control or b"").decode("latin-1").split(",")}
    ages = [float(word[8:]) for word in words if word.startswith("max-age=") and word[8:].isdecimal()]
    if "no-cache" in words:
        ages.append(0.0)
    store = said != "off" and "no-store" not in words
    return Wish(said == "on", store, min(ages, default=inf), _pace(pace))


def _pace(said: bytes | None) -> float:
    if said is None:
        return 0.0
    try:
        pace = float(said)
    except ValueError:
        pace = inf
    if not 1 <= pace <= MOST_PACE:
        raise BadRequest(f"The header {PACE} must be a number from 1 to 10000.", code="invalid_header", param=PACE)
    return pace
