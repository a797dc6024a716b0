"""Which requests are remembered, and where they are told: in memory, in Redis, to a collector, in the log.

Times are always taken; spans are made after the request has ended, and only for those that were sampled, or that were
slow, failed, spilled or hedged. On the request path a finished call costs one small record and two appends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import msgspec

from gateway.core.nouns import Served
from gateway.policy.compiled import TelemetryRules
from gateway.service import Call
from gateway.telemetry.context import begin
from gateway.telemetry.logs import Kind, line
from gateway.telemetry.otlp import Collector
from gateway.telemetry.recent import Pick, Recent
from gateway.telemetry.recorder import Batch, Feed, Sink
from gateway.telemetry.spans import Place, Told, told
from gateway.telemetry.story import OutcomeName, Story, why_kept

FLUSH = 0.25
BATCH = 50
"""Requests per turn of the event loop."""
MOST_FRESH = 10_000
MOST_WAITING = 5000
"""Traces, or lines, that wait for a sink that is slow."""
SAMPLE = 0.1
CLOSING = 2.0
"""Seconds; a trace is not worth more of a restart."""
_WHERE = {"traces": "stream of traces", "lines": "standard output"}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Ways:
    """Where stories go besides memory. `stream` keeps traces where every replica sees them; `lines` is the log."""

    collector: str | None = None
    stream: Callable[[], Sink] | None = None
    lines: Callable[[], Sink] | None = None


class Tracing:
    """One per process. `wall` and `clock` return Unix and monotonic seconds; `idle` whether nothing else goes on."""

    def __init__(
        self,
        outcome_name: OutcomeName,
        wall: Callable[[], float],
        clock: Callable[[], float],
        idle: Callable[[], bool] = lambda: True,
        kind: Kind = "human",
        chance: Random | None = None,
    ) -> None:
        self._outcome_name = outcome_name
        self._wall = wall
        self._clock = clock
        self._idle = idle
        self._kind = kind
        self._chance = chance or Random()
        self._rules = TelemetryRules()
        self._sample = 0.0
        self._next = 0.0
        self._fresh: deque[tuple[Story, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._numbers = 0
        self._left_out = 0
        self._feeds: dict[str, Feed] = {}
        self._collector: Collector | None = None
        self._places: Mapping[str, Place] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self.recent = Recent()

    def use(self, rules: TelemetryRules, ways: Ways, places: Mapping[str, Place]) -> None:
        """Go by these from now on. What was open and still is wanted stays open."""
        self._rules = rules
        self._places = places
        self._sample = (SAMPLE if rules.sample is None else rules.sample) if ways.collector is not None else 0.0
        old = self._collector
        if ways.collector is None or old is None or old.endpoint != ways.collector:
            self._collector = self._collecting(ways.collector)
            if old is not None:
                self._retire(old.aclose())
        self._feed("traces", ways.stream)
        self._feed("lines", ways.lines)

    def begin(self, call: Call) -> None:
        """Give a call that is about to be dispatched its place in a trace, where there are traces."""
        if self._sample or self._collector is not None or b"traceparent" in call.headers:
            call.context = begin(call, self._sample, self._chance)

    def fold(self, call: Call) -> None:
        """Take note of a call that has ended. Strangers leave no trace: they could fill every one."""
        caller = call.caller
        if caller is None:
            return
        story = Story(call, caller.name, caller.class_)
        if not self._is_plain(story):
            story.kept = why_kept(story, self._rules.slow)
        self.recent.add(story)
        context = story.context
        wanted = context is not None and context.sampled
        if story.kept and not wanted and (self._collector is not None or "traces" in self._feeds):
            wanted = self._affordable(call.ended)
        if wanted or "lines" in self._feeds:
            if story.context is None:
                story.context = begin(call, 0.0, self._chance)
            self._keep(story, wanted)

    def _is_plain(self, story: Story) -> bool:
        """The common case, quickly: one attempt in the first tier that was served in time."""
        attempts = story.attempts
        if len(attempts) != 1 or story.waited > self._rules.slow:
            return False
        return type(attempts[0].outcome) is Served and not attempts[0].lease.tier

    def find(self, name: str) -> Told | None:
        """A request of this process, by its id or its trace's."""
        story = self.recent.find(name)
        return None if story is None else self._told(story)

    def pick(self, pick: Pick, count: int) -> list[Told]:
        """Requests of this process; see `recent`."""
        return [self._told(story) for story in self.recent.pick(pick, count, self._clock())]

    def health(self) -> dict[str, Any]:
        """How it is doing, as plain data: what was exported, dropped, left out by `most`, and what troubles."""
        return {
            "left_out": self._left_out,
            "collector": None if self._collector is None else asdict(self._collector.health()),
            "sinks": [asdict(feed.health()) for feed in self._feeds.values()],
        }

    async def aclose(self, within: float = CLOSING) -> None:
        """Tell what is left, for `within` seconds at most."""
        while self._fresh:
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
        closing = [feed.aclose(within) for feed in self._feeds.values()]
        self._feeds = {}
        if self._collector is not None:
            closing.append(self._collector.aclose(within))
        await asyncio.gather(*closing, *self._retiring)

    # --- what is told, and to whom ----------------------------------------------------------------------

    def _affordable(self, now: float) -> bool:
        """Whether another trace may be had for what happened to its request: `most` a second, a second's in hand."""
        most = self._rules.most
        if not most or now < self._next - 1.0:
            self._left_out += 1
            return False
        self._next = max(self._next, now) + 1.0 / most
        return True

    def _keep(self, story: Story, wanted: bool) -> None:
        if len(self._fresh) >= MOST_FRESH:
            self._left_out += 1
            return
        self._fresh.append((story, wanted))
        if self._idle():  # a platform may freeze us as soon as nothing goes on
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH, self._flush)

    def _flush(self) -> None:
        fresh = [self._fresh.popleft() for _ in range(min(BATCH, len(self._fresh)))]
        traces, lines = [], []
        idle = self._idle()
        for story, wanted in fresh:
            if "lines" in self._feeds:
                lines.append(line(story, self._kind, self._outcome_name, self._offset()))
            if wanted and "traces" in self._feeds:
                traces.append(_encode(self._told(story)))
            if wanted and self._collector is not None:
                self._collector.put(story, hurry=idle)
        self._send("lines", lines)
        self._send("traces", traces)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(0.0, self._flush) if self._fresh else None

    def _send(self, name: str, lines: list[bytes]) -> None:
        feed = self._feeds.get(name)
        if feed is None or not lines:
            return
        self._numbers += 1
        if feed.waiting + len(lines) > MOST_WAITING:
            feed.drop(len(lines))
        else:
            feed.put(Batch(self._numbers, tuple(lines), sum(map(len, lines))))

    def _told(self, story: Story) -> Told:
        return told(story, self._places, self._outcome_name, self._offset())

    def _offset(self) -> float:
        return self._wall() - self._clock()

    def _collecting(self, endpoint: str | None) -> Collector | None:
        if endpoint is None:
            return None
        return Collector(endpoint, self._outcome_name, lambda: self._places, self._offset)

    def _feed(self, name: str, make: Callable[[], Sink] | None) -> None:
        old = self._feeds.get(name)
        if make is None and old is not None:
            self._retire(self._feeds.pop(name).aclose(CLOSING))
        elif make is not None and old is None:
            self._feeds[name] = Feed(_WHERE[name], make(), self._clock, name)

    def _retire(self, closing: Any) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
