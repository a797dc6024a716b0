"""One pretend cloud: what it admits, how long it takes, what it breaks. No clock, no loop, no socket.

A request *arrives* and is admitted with a ticket or refused. A ticket waits (in the cloud's own queue), is prefilled
(one FIFO), then decodes; a step's length depends on how many run at that moment. All tickets share one heap, so the
shell needs one timer per cloud: `next_due` says when, `due` says what happened. `leave` is the client's going.

Rules. Every ticket ends exactly once: by an event that `ends` or by `leave`. It has left the cloud's books *before*
its last event is handed out, so that whoever sees the end of an answer finds the slot free. Times handed in never go
backwards; a late caller of `due` gets events with the times at which they happened.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from random import Random

from gateway.clouds import laws
from gateway.clouds.counts import Stats, Tally, Windows, declared
from gateway.clouds.profiles import Fate, Profile
from gateway.clouds.tickets import Admitted, Ask, Event, Kind, Refused, Ticket

_KINDS: dict[str, Kind] = {
    "streams": "concurrency", "rps": "rpm", "rpm": "rpm", "tps": "tpm", "tpm": "tpm", "ramp": "burst", "daily": "quota",
}  # fmt: skip
_UNITS_KEPT = 10_000


class Cloud:
    """The behaviour of one `Profile`. `rng` is its only source of chance."""

    def __init__(self, profile: Profile, rng: Random) -> None:
        self.profile = profile
        self._rng = rng
        self._tickets: dict[int, Ticket] = {}
        self._waiting: OrderedDict[int, Ticket] = OrderedDict()
        self._running = 0
        self._heap: list[tuple[float, int, Ticket]] = []
        self._serial = 0
        self._prefill_free = 0.0
        self._seen = Windows()
        self._taken = Windows()
        self._tally = Tally()
        self._units: OrderedDict[int, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Cloud {self.profile.name}: {self._running} running, {len(self._waiting)} waiting>"

    @property
    def in_flight(self) -> int:
        return len(self._tickets)

    # --- requests come and go -----------------------------------------------------------------------------

    def arrive(self, ask: Ask, now: float) -> Admitted | Refused:
        """A request comes in. An admitted one must be driven by `due` until it ends, or `leave`."""
        tally, limits = self._tally, self.profile.limits
        tally.requests += 1
        tally.peak_streams = max(tally.peak_streams, len(self._tickets) + 1)
        self._seen.request(now)
        over = self._taken.exceeded(limits, self.profile.daily, now)
        if limits.streams is not None and len(self._tickets) >= limits.streams:
            over.insert(0, "streams")
        tally.overruns.update(over)
        refusal = self._refusal(over, now)
        if refusal is not None:
            tally.refused[refusal.kind] += 1
            return refusal
        return Admitted(self._admit(ask, now))

    def turn_away(self, kind: Kind, now: float) -> Refused:
        """The shell refuses for a reason of its own (a wrong key, an unknown model): count it."""
        self._tally.requests += 1
        self._tally.refused[kind] += 1
        self._seen.request(now)
        return Refused(kind)

    def leave(self, ticket: Ticket, now: float) -> None:
        """The client is gone; its slot is free at once. Nothing happens to a ticket that has ended."""
        if ticket.phase != "ended":
            self._tally.disconnects += 1
            self._end(ticket, now)

    def tell(self, ticket: Ticket) -> None:
        """An answer leaves together with its usage."""
        tally = self._tally
        tally.told += 1
        tally.told_in += ticket.ask.prompt
        tally.told_cached += ticket.cached
        tally.told_out += ticket.produced * ticket.ask.n

    # --- time ---------------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `due` will have something to do, if nothing else happens; None: never."""
        heap = self._heap
        while heap and heap[0][1] != heap[0][2].serial:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[Event]:
        """Everything that has happened up to `now`, in order."""
        events: list[Event] = []
        while (at := self.next_due()) is not None and at <= now:
            ticket = heappop(self._heap)[2]
            ticket.serial = 0
            if ticket.phase in {"waiting", "prefill"} and at < ticket.first_due:
                self._still_waiting(ticket, at, events)
            elif ticket.phase == "waiting":
                self._tally.cut += 1
                self._end(ticket, at)
                events.append(Event(ticket, at, "cut"))
            elif ticket.phase == "stalled":
                events.append(Event(ticket, at, "keepalive"))
                self._speak_on(ticket, at)
            else:
                self._step(ticket, at, events)
        return events

    def change(self, profile: Profile, now: float) -> list[Event]:
        """The cloud is different from now on. Returns what that did to running tickets at once (a crash cuts all)."""
        before, self.profile = self.profile, profile
        if profile.fail == "crash":
            lost = list(self._tickets.values())
            self._waiting.clear()
            for ticket in lost:
                self._tally.cut += 1
                self._end(ticket, now)
            self._units.clear()
            self._prefill_free = now
            return [Event(ticket, now, "cut") for ticket in lost]
        if before.fail == "stall" != profile.fail:
            for ticket in self._tickets.values():
                if ticket.held:
                    ticket.held = False
                    self._schedule(ticket, now + self._pace(ticket))
        self._fill(now)
        return []

    def stats(self, now: float) -> Stats:
        """What it has seen so far."""
        seen, tally = self._seen, self._tally
        peak = {
            "streams": tally.peak_streams, "rpm": seen.rpm.peak, "rps": seen.rps.peak, "ramp": seen.ramp.peak,
            "tpm": self._taken.tpm.peak, "tps": self._taken.tps.peak, "daily": seen.day.peak,
            "running": tally.peak_running, "waiting": tally.peak_waiting,
        }  # fmt: skip
        return Stats(
            name=self.profile.name,
            fail=self.profile.fail,
            requests=tally.requests,
            admitted=tally.admitted,
            completed=tally.completed,
            cut=tally.cut,
            disconnects=tally.disconnects,
            in_flight=len(self._tickets),
            running=self._running,
            waiting=len(self._waiting),
            tokens_in=tally.tokens_in,
            tokens_cached=tally.tokens_cached,
            tokens_out=tally.tokens_out,
            told=tally.told,
            told_in=tally.told_in,
            told_cached=tally.told_cached,
            told_out=tally.told_out,
            refused=dict(tally.refused),
            overruns=dict(tally.overruns),
            peak=peak,
            used=self._taken.used(now),
            limits=declared(self.profile.limits, self.profile.daily, self.profile.slots),
        )

    def used(self, now: float) -> dict[str, int]:
        """The present filling of every window, by limit."""
        return self._taken.used(now)

    # --- inside -------------------------------------------------------------------------------------------

    def _refusal(self, over: list[str], now: float) -> Refused | None:
        profile = self.profile
        if profile.fail == "crash":
            return Refused("crash")
        if profile.fail == "refuse":
            return Refused("server")
        if profile.fail == "overload":
            return Refused("overloaded", retry_after=5.0)
        if over:
            return self._limited(over[0], now)
        if self._is_full() and profile.queue is not None and len(self._waiting) >= profile.queue:
            return Refused("overloaded", retry_after=1.0)
        mishap = laws.pick(profile.faults.chances, self._rng)
        return Refused(mishap) if mishap is not None else None

    def _limited(self, limit: str, now: float) -> Refused:
        number = declared(self.profile.limits, self.profile.daily, None)[limit]
        seen = len(self._tickets) if limit == "streams" else self._taken.used(now)[limit]
        return Refused(_KINDS[limit], limit, number, seen, self._taken.wait(limit, now))

    def _is_full(self) -> bool:
        return self.profile.slots is not None and self._running >= self.profile.slots

    def _admit(self, ask: Ask, now: float) -> Ticket:
        tally, profile = self._tally, self.profile
        tally.admitted += 1
        length, truncated = laws.length(profile.answer, ask.max_tokens, self._rng)
        ticket = Ticket(tally.admitted, ask, now, length, truncated, laws.thoughts(profile.answer, length))
        ticket.cached = self._recall(ask)
        ticket.fate = laws.pick(profile.faults.fates, self._rng)
        if ticket.fate not in {None, "error_first", "only_done"}:
            ticket.fate_at = self._rng.randrange(length)
        ticket.first_due = float("inf") if profile.give_up is None else now + profile.give_up
        ticket.alive_due = now + (profile.style.keep_alive or float("inf"))
        tally.tokens_in += ask.prompt
        tally.tokens_cached += ticket.cached
        self._taken.request(now)
        self._taken.tokens(ask.prompt, now)
        self._tickets[ticket.id] = ticket
        self._waiting[ticket.id] = ticket
        self._schedule(ticket, min(ticket.first_due, ticket.alive_due))
        self._fill(now)
        tally.peak_waiting = max(tally.peak_waiting, len(self._waiting))
        return ticket

    def _recall(self, ask: Ask) -> int:
        """Prompt tokens whose prefix this cloud computed before; remembers this prompt's units."""
        if not self.profile.prefix_cache:
            return 0
        hit = 0
        for unit, upto in ask.units:
            if unit in self._units:
                hit = max(hit, upto)
            self._units[unit] = None
            self._units.move_to_end(unit)
        while len(self._units) > _UNITS_KEPT:
            self._units.popitem(last=False)
        return min(hit, ask.prompt)

    def _fill(self, now: float) -> None:
        """Give free slots to who waits longest."""
        while self._waiting and not self._is_full():
            _, ticket = self._waiting.popitem(last=False)
            self._running += 1
            ticket.phase = "prefill"
            rules, drag = self.profile.laws, self._drag()
            ticket.pace = laws.spread(rules, self._rng)
            self._prefill_free = max(self._prefill_free, now)
            self._prefill_free += drag * laws.prefill(rules, ticket.ask.prompt - ticket.cached)
            ticket.first_due = (
                self._prefill_free
                + rules.net * laws.spread(rules, self._rng)
                + drag * ticket.pace * laws.per_token(rules, self._running)
            )
            self._schedule(ticket, min(ticket.first_due, ticket.alive_due))
        self._tally.peak_running = max(self._tally.peak_running, self._running)

    def _drag(self) -> float:
        return self.profile.drag if self.profile.fail == "slow" else 1.0

    def _pace(self, ticket: Ticket) -> float:
        """Seconds until this stream's next event, at the batch of this moment."""
        rules = self.profile.laws
        tokens = max(1, min(self.profile.style.tokens_per_event, ticket.length - ticket.produced))
        return tokens * self._drag() * ticket.pace * laws.per_token(rules, self._running)

    def _schedule(self, ticket: Ticket, at: float) -> None:
        """Replaces whatever was scheduled for this ticket. `inf`: nothing."""
        self._serial += 1
        ticket.serial = self._serial
        if at != float("inf"):
            heappush(self._heap, (at, self._serial, ticket))

    def _still_waiting(self, ticket: Ticket, at: float, events: list[Event]) -> None:
        if self.profile.fail != "stall" or self.profile.style.stall_speaks:
            events.append(Event(ticket, at, "keepalive"))
        ticket.alive_due = at + (self.profile.style.keep_alive or float("inf"))
        self._schedule(ticket, min(ticket.first_due, ticket.alive_due))

    def _step(self, ticket: Ticket, at: float, events: list[Event]) -> None:
        """The next tokens of a stream are ready, or its fate is."""
        if self.profile.fail == "stall":
            ticket.held = True
            return
        if ticket.fate is not None and ticket.produced >= ticket.fate_at:
            self._meet(ticket, ticket.fate, at, events)
            return
        # the first event is one token: that is what TTFT means
        want = 1 if ticket.phase == "prefill" else self.profile.style.tokens_per_event
        last = ticket.length if ticket.fate is None else min(ticket.length, ticket.fate_at)
        count = min(want, last - ticket.produced)
        start = ticket.produced
        ticket.phase = "decoding"
        ticket.produced += count
        self._tally.tokens_out += count * ticket.ask.n
        self._taken.tokens(count * ticket.ask.n, at)
        done = ticket.fate is None and ticket.produced >= ticket.length
        if done:
            self._tally.completed += 1
            self._end(ticket, at)
        else:
            self._schedule(ticket, at + self._pace(ticket))
        events.append(Event(ticket, at, "tokens", start, count))
        if done:
            events.append(Event(ticket, at, "finish", reason="length" if ticket.truncated else "stop"))

    def _meet(self, ticket: Ticket, fate: Fate, at: float, events: list[Event]) -> None:
        if fate == "stall":
            ticket.phase = "stalled"
            events.append(Event(ticket, at, "stall"))
            self._speak_on(ticket, at)
            return
        self._tally.cut += 1
        self._end(ticket, at)
        if fate == "cut":
            events.append(Event(ticket, at, "cut"))
        elif fate in {"error_frame", "error_first"}:
            events.append(Event(ticket, at, "error"))
        else:
            events.append(
                Event(ticket, at, "finish", reason="" if fate == "only_done" else "insufficient_system_resource")
            )

    def _speak_on(self, ticket: Ticket, at: float) -> None:
        every = self.profile.style.keep_alive
        if every is not None and self.profile.style.stall_speaks:
            self._schedule(ticket, at + every)

    def _end(self, ticket: Ticket, now: float) -> None:
        if ticket.phase != "waiting":
            self._running -= 1
        self._waiting.pop(ticket.id, None)
        del self._tickets[ticket.id]
        ticket.phase = "ended"
        ticket.serial = 0
        self._fill(now)
