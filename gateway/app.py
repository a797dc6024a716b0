"""The composition root: a compiled document becomes one service behind ASGI.

The order of the filters is written here, once:

    observe       outermost: refusals are traffic too, and every answer leaves with the routing headers
    authenticate  before anything is read: a stranger cannot make us buffer, parse or queue
    understand    before limit: a limit needs to know the model, the size of the prompt, and what is given up
    limit         before dispatch: a tenant over its limit never takes a place in the queue
    cache         after limit: a hit is a request, though no tokens; before dispatch: what is kept takes no place
    budgets       after limit, and next to what costs money: what is answered before it costs none
    dispatch      the endpoint: where the request goes, and what next if it cannot
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.core.dispatcher import Dispatcher
from gateway.core.nouns import Reloaded
from gateway.edge import admin, console
from gateway.edge.chat import ChatDoor
from gateway.edge.drain import ClosedDoor, Drain, Patience, Phase
from gateway.edge.routes import Inside, build
from gateway.errors import DocumentError, Draining
from gateway.pipeline.authenticate import Authenticate
from gateway.pipeline.budgets import Budgets, told
from gateway.pipeline.cache import Cache
from gateway.pipeline.crossing import Crossing
from gateway.pipeline.desk import Desk
from gateway.pipeline.dispatch import Dispatch
from gateway.pipeline.enrolment import Enrolment
from gateway.pipeline.fairness import Fairness
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.limit import Limit
from gateway.pipeline.live import Live
from gateway.pipeline.lookup import TRACES, Lookup
from gateway.pipeline.observe import Observe, overhead
from gateway.pipeline.purser import Purser
from gateway.pipeline.sharing import Sharing
from gateway.pipeline.tariffs import PriceClock
from gateway.pipeline.understand import Understand
from gateway.policy.compiled import Compiled, UsageRules
from gateway.policy.reload import changes
from gateway.service import Call, Service, stack
from gateway.settings import Settings
from gateway.store.answers import Answers, MemoryAnswers
from gateway.store.base import Store
from gateway.store.fairness import Counters
from gateway.store.pool import Pool
from gateway.store.purse import MemoryPurses, Purses
from gateway.store.registry import Registry
from gateway.telemetry import environment
from gateway.telemetry.journal import Journal
from gateway.telemetry.lag import Lag
from gateway.telemetry.logs import Console
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.otlp_metrics import MetricsPush
from gateway.telemetry.recorder import CLOSING, Recorder, Sink
from gateway.telemetry.spans import places
from gateway.telemetry.traces import CLOSING as TRACES_CLOSING
from gateway.telemetry.traces import Tracing, Ways
from gateway.upstream.dial import Dialler

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

CHAT_PATHS = frozenset({"/v1/chat/completions", "/chat/completions"})
HURRIED = 1.0
"""Seconds for records to be written when a second signal came; `CLOSING` otherwise."""
log = logging.getLogger("spillgate")

Message = MutableMapping[str, Any]


class Gateway:
    """One gateway: an ASGI application that owns its dispatcher, its lines to the clouds and its counters.

    Build it anywhere; it opens its clients when the server starts it (ASGI lifespan) and closes them when it stops.
    """

    def __init__(self, compiled: Compiled, settings: Settings, *, seed: int | None = None) -> None:
        self.clock = time.monotonic
        self.settings = settings
        self.live = Live(Dialler(), closed=settings.enrols)
        self.desk = Desk(Dispatcher(compiled.plan, random.Random(seed)), self.clock)
        self.metrics = Metrics(outcome_name, overhead)
        self.recorder = Recorder(outcome_name, time.time, self.clock)
        self.lag = Lag(self.metrics.lag.add)
        self.push = MetricsPush(self.families)
        self.tracing = Tracing(outcome_name, time.time, self.clock, lambda: self.door.active == 0, settings.log)
        self.lookup = Lookup(self.tracing, settings.redis_url)
        self.price_clock = PriceClock(self.desk, time.time)
        self.purser = Purser(self.live, self.clock, time.time, settings.replicas)
        self.budgets = Budgets(self.live, self.purser, lambda: self.price_clock.holds)
        self.reload_error = ""
        self.sharing: Sharing | None = None
        self.enrolment: Enrolment | None = None
        self.fairness: Fairness | None = None
        self.admin_port: int | None = None
        """the port of the admin's own listener, told by who opened it: /admin/v1 is there alone then, and no chat"""
        self._first = compiled
        self.limit = Limit(self.live, self.clock)
        self.cache = Cache(self.live, self.clock, time.time, MemoryAnswers(time.time))
        service = stack(
            Observe(self.clock, self._ended),
            Authenticate(self.live),
            Understand(self.live, self.desk.form),
            self.limit,
            self.cache,
            self.budgets,
            endpoint=Dispatch(self.live, self.desk, time.time, self.tracing.begin),
        )
        self.door = self._entrance = ChatDoor(service, self.live, self.clock)
        self.drain = Drain(Patience(settings.drain_notice, settings.drain_seconds), self.clock, self._drains)
        inside = Inside(
            self.live, self.clock, self.ready, self.exposition, self.status, self.door.new_id, settings.admin_key,
            lambda: self.enrolment, lookup=self.lookup,
            explain=lambda request: self.desk.dispatcher.explain(request, self.clock()),
            spending=lambda: {view.name: told(view, self.live) for view in self.purser.views()},
        )  # fmt: skip
        self._routes = build(inside)
        self._admin = admin.build(inside)
        self._console = console.build(inside)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "http":
            if scope["path"] in CHAT_PATHS and (self.admin_port is None or not self._is_admins(scope)):
                await self._entrance(scope, receive, send)
            elif scope["path"].startswith(admin.PATH) and (self.admin_port is None or self._is_admins(scope)):
                await self._admin(scope, receive, send)
            elif scope["path"].startswith(console.PATH) and (self.admin_port is None or self._is_admins(scope)):
                await self._console(scope, receive, send)
            else:
                await self._routes(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise ValueError(f"no {scope['type']} here")

    def _is_admins(self, scope: MutableMapping[str, Any]) -> bool:
        """Whether a request came in by the admin's own listener: told by the socket, not by what the request says."""
        return bool(scope["server"][1] == self.admin_port)

    async def _lifespan(
        self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        await receive()
        self.live.install(self._first)
        self.desk.apply(self.price_clock.use(self._first.tariffs))
        self.recorder.use(self._sinks(self._first))
        self._trace(self._first)
        if self.settings.redis_url:
            self.sharing = Sharing(
                self.desk, self.live, _store(self.settings.redis_url), replicas=self.settings.replicas
            )
            self.sharing.start()
            self.fairness = Fairness(self.desk, _counters(self.settings.redis_url), self.sharing.replica)
            self.fairness.start()
            self.limit.pooling.start(_pool(self.settings.redis_url))
            self.enrolment = Enrolment(self.live, _registry(self.settings.redis_url), time.time)
            await self.enrolment.start()
            self.cache.answers = _answers(self.settings.redis_url, self.clock)
            self.cache.crossing = _crossing(self.settings.redis_url, self.clock)
        self.lag.start()
        self.purser.start(_purses(self.settings.redis_url) if self.settings.redis_url else MemoryPurses(self.clock))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close(HURRIED if self.drain.hurried else CLOSING)
        await send({"type": "lifespan.shutdown.complete"})

    async def _close(self, within: float) -> None:
        """Give back and write what there is, side by side: those who stop us may not wait for long."""
        await self.cache.aclose()
        parts = (
            self.purser, self.lookup, self.enrolment, self.fairness, self.sharing, self.limit.pooling, self.push,
        )  # fmt: skip
        closing = [self.recorder.aclose(within), self.tracing.aclose(min(within, TRACES_CLOSING))]
        closing += [part.aclose() for part in parts if part is not None]
        await asyncio.gather(*closing)
        self.lag.close()
        self.price_clock.close()
        self.desk.close()
        await self.live.aclose()
        self.budgets.close()

    def _drains(self, phase: Phase) -> None:
        """What changes with each phase on the way out (see `edge.drain`)."""
        if phase == "draining":

            def around(endpoint: Service) -> Service:
                return stack(Observe(self.clock, self._ended), endpoint=endpoint)

            self._entrance = ClosedDoor(around, self.live, self.clock, self._farewell)
            if self.settings.drain_queue == "refuse":
                self.desk.dismiss(self._farewell)
        elif phase == "cutting":
            self.door.farewell = self._farewell

    def _farewell(self) -> Draining:
        others = self.sharing is not None and self.sharing.health().replicas > 1
        return self.drain.farewell(others)

    def reload(self, load: Callable[[], Compiled]) -> bool:
        """Make a new document the running one, as a whole; a broken one changes nothing and is reported."""
        try:
            compiled = load()
        except DocumentError as error:
            self.reload_error = str(error)
            self.metrics.reloads["rejected"] += 1
            log.error("the new configuration was rejected, the running one stays:\n%s", error)
            return False
        self.reload_error = ""
        told = changes(self.live.compiled or self._first, compiled)
        self.live.install(compiled)
        newcomers = [self.sharing.newcomers(compiled.plan)] if self.sharing is not None else []
        self.desk.apply(Reloaded(compiled.plan), *newcomers, self.price_clock.use(compiled.tariffs))
        self.recorder.use(self._sinks(compiled))
        self._trace(compiled)
        self.metrics.reloads["applied"] += 1
        log.warning("configuration %s is running: %s", compiled.version, "; ".join(told) or "nothing changed")
        return True

    def _ended(self, call: Call) -> None:
        self.metrics.fold(call)
        self.recorder.fold(call)
        self.tracing.fold(call)

    def _trace(self, compiled: Compiled) -> None:
        """Tell of requests what the document and the environment say."""
        rules, collector = environment.resolved(compiled.telemetry, self.settings.variables)
        url = self.settings.redis_url
        stream = (lambda: _stream(url, rules.recent, TRACES)) if url and rules.recent else None
        ways = Ways(collector, stream, Console if rules.requests else None)
        self.tracing.use(rules, ways, places(compiled.connections))
        self.push.use(*environment.metrics(compiled.telemetry, self.settings.variables))

    def _sinks(self, compiled: Compiled) -> dict[str, Callable[[], Sink]]:
        """Where records go, by a name that changes when the place does."""
        rules, url = compiled.usage or UsageRules(), self.settings.redis_url
        found: dict[str, Callable[[], Sink]] = {}
        if rules.file:
            found[f"file {rules.file}"] = lambda: Journal(rules.file)
        if rules.stream and url:
            found[f"stream of {rules.stream}"] = lambda: _stream(url, rules.stream)
        elif rules.stream:
            log.error("usage.stream needs REDIS_URL: no records are written to Redis")
        return found

    def ready(self) -> tuple[bool, dict[str, Any]]:
        if self.live.compiled is None:
            return False, {"reason": "starting"}
        if self.drain.phase != "serving":
            return False, {"reason": "draining", "running": self.door.active}
        detail: dict[str, Any] = {"configuration": self.live.compiled.version}
        if self.reload_error:
            detail["reload"] = "the last reload was rejected; see /status"
        if self.sharing is not None and (health := self.sharing.health()).degraded:
            detail["shared_state"] = f"out of reach, working with safe shares: {health.reason}"
        if why := self.limit.pooling.health().reason:
            detail["limits"] = f"callers' limits are counted by this process alone: {why}"
        if self.enrolment is not None and not (touch := self.enrolment.touch()).reachable:
            what = "those known last go on" if touch.known else "only those of the document are known"
            detail["tenants"] = f"the registry is out of reach, {what}: {touch.reason}"
        if self.live.index.budgets and not self.settings.redis_url:
            detail["budgets"] = "counted by this process alone, and forgotten when it ends: REDIS_URL is not set"
        elif self.live.index.budgets and self.purser.away:
            detail["budgets"] = f"cannot be shared, going on with what was last known: {self.purser.trouble}"
        if troubled := [sink.name for sink in self.recorder.health() if sink.trouble]:
            detail["usage_records"] = f"waiting for the {' and the '.join(troubled)}"
        return True, detail

    def status(self) -> dict[str, Any]:
        """The fleet's standing as plain data, for `spillgate status` and the curious."""
        compiled = self.live.compiled
        return {
            "version": __version__,
            "configuration": compiled.version if compiled else "",
            "reload_error": self.reload_error,
            "active": self.door.active,
            "tenants": asdict(self.enrolment.touch()) if self.enrolment else None,
            "shared_state": asdict(self.sharing.health()) if self.sharing else None,
            "shared_counters": {"trouble": self.fairness.trouble} if self.fairness else None,
            "limits": asdict(self.limit.pooling.health()),
            "usage": [asdict(sink) for sink in self.recorder.health()],
            "traces": self.tracing.health(),
            "budgets": [{"name": view.name, **told(view, self.live)} for view in self.purser.views()],
            "fleet": asdict(self.desk.dispatcher.snapshot(self.clock())),
        }

    def exposition(self) -> bytes:
        """Everything `/metrics` says. prometheus_client is imported at the first scrape, not at start."""
        from gateway.telemetry.exposition import expose

        return expose(self.families())

    def families(self) -> Iterable[Metric]:
        """The same, not yet text."""
        from gateway.telemetry.exposition import Callers, Shared, families

        shared = None
        if self.sharing is not None:
            health, sharer = self.sharing.health(), self.sharing.sharer
            shared = Shared(health.degraded, health.replicas, sharer.exchanges, sharer.failures)
        snapshot = self.desk.dispatcher.snapshot(self.clock())
        pool = self.limit.pooling.health()
        callers = Callers(bool(pool.reason), pool.exchanges, pool.failures, self.limit.refused)
        return families(
            self.metrics, snapshot, shared, self.recorder.health(), self.purser.views(), self.cache.view(), callers
        )


def _store(url: str) -> Store:
    """redis-py is imported only where there is a Redis."""
    from gateway.store.redis import RedisStore

    return RedisStore(url)


def _counters(url: str) -> Counters:
    from gateway.store.fairness_redis import RedisCounters

    return RedisCounters(url)


def _pool(url: str) -> Pool:
    from gateway.store.pool_redis import RedisPool

    return RedisPool(url)


def _stream(url: str, keep: int, name: str = "") -> Sink:
    """The same holds for records."""
    from gateway.store.stream import STREAM, UsageStream

    return UsageStream(url, keep, stream=name or STREAM)


def _answers(url: str, clock: Callable[[], float]) -> Answers:
    from gateway.store.answers_redis import RedisAnswers

    return RedisAnswers(url, time.time, clock)


def _crossing(url: str, clock: Callable[[], float]) -> Crossing:
    from gateway.store.flights_redis import RedisFlights

    return Crossing(RedisFlights(url), clock)


def _registry(url: str) -> Registry:
    from gateway.store.registry_redis import RedisRegistry

    return RedisRegistry(url)


def _purses(url: str) -> Purses:
    from gateway.store.purse_redis import RedisPurses

    return RedisPurses(url)
