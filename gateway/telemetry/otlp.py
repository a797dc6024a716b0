"""Traces to an OpenTelemetry collector, over OTLP/HTTP, from a thread of its own.

The request path appends to a bounded queue. Spans are made, encoded and sent in the thread, which imports the SDK when
the first trace comes; a collector that is down holds up nobody, and what the queue cannot take is counted. Which
address, headers, time-out, certificate and compression, say the standard variables (`OTEL_EXPORTER_OTLP_…`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.service import Context
from gateway.telemetry.context import attempt_span
from gateway.telemetry.spans import Place, Span, tree
from gateway.telemetry.story import OutcomeName, Story

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

MOST_WAITING = 2000
"""Traces."""
BATCH = 64
DELAY = 1.0
"""Seconds that a trace waits for others, unless there is nothing else to do."""
CLOSING = 2.0
_OWN_SPANS = 1 << 20
"""Where the ids of a request's own phases begin; those of attempts lie below."""
log = logging.getLogger("spillgate.traces")


@dataclass(frozen=True, slots=True)
class CollectorHealth:
    """Traces since start: `exported`, `dropped` for want of room or of a collector, `waiting`. `trouble`: of now."""

    exported: int
    dropped: int
    waiting: int
    trouble: str


class Collector:
    """Where traces go. `endpoint` empty: as the environment says. `wall` gives Unix time less the monotonic one.

    `places` is asked for every batch: where the backends are by then.
    """

    def __init__(
        self,
        endpoint: str,
        outcome_name: OutcomeName,
        places: Callable[[], Mapping[str, Place]],
        wall: Callable[[], float],
    ) -> None:
        self.endpoint = endpoint
        self._outcome_name = outcome_name
        self._places = places
        self._wall = wall
        self._queue: deque[Story] = deque()
        self._more = threading.Condition()
        self._thread: threading.Thread | None = None
        self._exporter: SpanExporter | None = None
        self._hurry = self._closing = False
        self._exported = self._dropped = self._sending = 0
        self._trouble = ""

    def put(self, story: Story, *, hurry: bool = False) -> None:
        """Queue a request's trace. `hurry`: send what there is, nothing else is going on. Never blocks for long."""
        with self._more:
            if len(self._queue) >= MOST_WAITING or self._closing:
                self._dropped += 1
                return
            self._queue.append(story)
            self._hurry = self._hurry or hurry
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spillgate-traces", daemon=True)
                self._thread.start()
            if hurry or len(self._queue) >= BATCH:
                self._more.notify()

    def health(self) -> CollectorHealth:
        return CollectorHealth(self._exported, self._dropped, len(self._queue) + self._sending, self._trouble)

    async def aclose(self, within: float = CLOSING) -> None:
        """Send what waits, for so long at most. A thread that hangs at a dead collector is left to itself."""
        with self._more:
            self._closing = True
            self._more.notify()
        if self._thread is None:
            return
        await asyncio.to_thread(self._thread.join, within)
        if self._thread.is_alive():
            self._dropped += len(self._queue)
            self._queue.clear()
            log.error("traces could not be sent before the end: %s", self._trouble or "the collector is too slow")
            if self._exporter is not None:
                self._exporter.shutdown()

    # --- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            exporter = self._exporter = _exporter(self.endpoint)
            origin = resource()
        except Exception as error:  # whatever a library says of a variable it does not like
            log.exception("traces cannot be exported")
            self._trouble = f"{type(error).__name__}: {error}"
            with self._more:
                self._closing = True
                self._dropped += len(self._queue)
                self._queue.clear()
            return
        while batch := self._next():
            self._tell(self._send(batch, exporter, origin), len(batch))
        exporter.shutdown()

    def _send(self, batch: list[Story], exporter: SpanExporter, resource: Resource) -> bool:
        places, wall = self._places(), self._wall()
        try:
            spans = [span for story in batch for span in self._spans(story, places, wall, resource)]
            return exporter.export(spans).name == "SUCCESS"
        except Exception:  # the thread goes on: one batch is lost, not all that come
            log.exception("a batch of traces was lost")
            return False

    def _next(self) -> list[Story]:
        """The next batch; empty when it is time to stop."""
        with self._more:
            self._sending = 0
            while not self._queue and not self._closing:
                self._more.wait()
            if len(self._queue) < BATCH and not self._hurry and not self._closing:
                self._more.wait(DELAY)
            found = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            self._hurry = self._hurry and bool(self._queue)
            self._sending = len(found)
            return found

    def _tell(self, done: bool, count: int) -> None:
        if done:
            self._exported += count
            if self._trouble:
                log.warning("traces are exported again")
            self._trouble = ""
            return
        self._dropped += count
        if not self._trouble:
            log.error("traces cannot be exported: the collector is out of reach, or refuses them")
        self._trouble = "the collector is out of reach, or refuses them"

    def _spans(self, story: Story, places: Mapping[str, Place], wall: float, resource: Resource) -> list[ReadableSpan]:
        return readable(story, tree(story, places, self._outcome_name), wall, resource)


def readable(story: Story, root: Span, wall: float, resource: Resource) -> list[ReadableSpan]:
    """A tree as spans of the SDK. `wall` is Unix time less the gateway's monotonic time."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

    context = story.context
    assert context is not None
    zero = wall + story.received
    state = TraceState.from_header([context.state]) if context.state else TraceState()
    found: list[ReadableSpan] = []

    def place(id_: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(context.trace, id_, remote, TraceFlags(TraceFlags.SAMPLED), state)

    def add(span: Span, id_: int, parent: SpanContext | None, kind: SpanKind) -> None:
        here = place(id_)
        found.append(
            ReadableSpan(
                span.name,
                here,
                parent,
                resource,
                attributes=span.attributes,
                kind=kind,
                status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
                start_time=round((zero + span.start) * 1e9),
                end_time=round((zero + span.end) * 1e9),
                instrumentation_scope=_scope(),
            )
        )
        for number, below in enumerate(span.spans, 1):
            its = _id(context, below, id_, number)
            add(below, its, here, SpanKind.CLIENT if below.attempt else SpanKind.INTERNAL)

    add(root, context.span, place(context.parent, remote=True) if context.parent else None, SpanKind.SERVER)
    return found


def _id(context: Context, span: Span, parent: int, number: int) -> int:
    """The id of a span below another: an attempt's is the one that its cloud was told."""
    if span.attempt:
        return attempt_span(context, span.attempt)
    return parent ^ (_OWN_SPANS | number if parent == context.span else number) or 1


def _scope() -> InstrumentationScope:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    return InstrumentationScope("spillgate", __version__)


def _exporter(endpoint: str) -> SpanExporter:
    """OTLP over HTTP; over gRPC where that is asked for and installed."""
    said = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if said == "grpc" and not endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        found: SpanExporter = OverGrpc()
        return found
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces" if endpoint else None)


def resource() -> Resource:
    from opentelemetry.sdk.resources import Resource

    environment = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in environment
    ours = {"service.version": __version__, "service.instance.id": f"{os.uname().nodename}-{os.getpid()}"}
    if not named:
        ours["service.name"] = "spillgate"
    return Resource.create({name: value for name, value in ours.items() if f"{name}=" not in environment})
