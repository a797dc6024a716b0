"""The log: lines for people, or JSON for machines; one line per request where that is wanted; no flood of warnings.

Nothing that a client or a cloud said is written, and no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import BinaryIO, Literal

import msgspec

from gateway.telemetry.story import OutcomeName, Story, at_clouds

Kind = Literal["human", "json"]
SAME = 5
"""Messages of one kind in `EVERY` seconds; further ones are counted."""
EVERY = 10.0
_MOST_KINDS = 1000
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """One request's line. Times in seconds; `first_token` counts from the arrival, `gateway` is our own part until the
    answer began. `upstream` + `queued` + `read` + `gateway` are `answered`, as `server-timing` has them."""

    at: str
    id: str
    status: int
    level: str = "info"
    event: str = "request"
    trace: str = ""
    tenant: str = ""
    key: str = ""
    class_: str = msgspec.field(default="", name="class")
    model: str = ""
    policy: str = ""
    backend: str = ""
    outcome: str = ""
    attempts: int = 0
    stream: bool = False
    read: float = 0.0
    queued: float = 0.0
    upstream: float = 0.0
    gateway: float = 0.0
    answered: float = 0.0
    total: float = 0.0
    input: int = 0
    output: int = 0
    kept: Sequence[str] = ()


def request(story: Story, outcome_name: OutcomeName, wall: float) -> Request:
    """A finished request in a line. `wall` is Unix time less the gateway's monotonic time."""
    last = story.attempts[-1] if story.attempts else None
    usage = last.usage if last else None
    read, upstream = story.got - story.reading, at_clouds(story.attempts, story.responded)
    return Request(
        at=_moment(story.received + wall),
        id=story.id,
        status=story.status,
        trace=f"{story.context.trace:032x}" if story.context is not None else "",
        tenant=story.tenant,
        key=story.key,
        class_=story.class_,
        model=story.model,
        policy=story.policy,
        backend=last.lease.backend if last else "",
        outcome=outcome_name(last.outcome) if last else "",
        attempts=len(story.attempts),
        stream=story.stream,
        read=round(read, 6),
        queued=round(story.queued, 6),
        upstream=round(upstream, 6),
        gateway=round(max(0.0, story.waited - read - story.queued - upstream), 6),
        answered=round(story.waited, 6),
        total=round(story.total, 6),
        input=usage.prompt if usage else 0,
        output=usage.completion if usage else (last.tokens if last else 0),
        kept=story.kept,
    )


def line(story: Story, kind: Kind, outcome_name: OutcomeName, wall: float) -> bytes:
    """The same as text, without its end."""
    found = request(story, outcome_name, wall)
    if kind == "json":
        return _encode(found)
    where = f" -> {found.backend} {found.outcome}" if found.backend else ""
    times = f"queue {found.queued:.3f} upstream {found.upstream:.3f} gateway {found.gateway:.4f}"
    tries = f" attempts {found.attempts}" if found.attempts > 1 else ""
    marks = f" [{' '.join(found.kept)}]" if found.kept else ""
    text = (
        f"{found.at} {found.id} {found.status} {found.tenant or '-'} {found.model or '-'}{where} "
        f"{found.total:.3f} s ({times}){tries} trace {found.trace or '-'}{marks}"
    )
    return text.encode("utf-8", "replace")


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Console:
    """A sink of lines: standard output, written by a thread, so that a slow reader of it holds up nobody."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        """Write lines. Raises `OSError`. Not cut short when cancelled."""
        del number
        await asyncio.to_thread(self._write, b"\n".join(lines) + b"\n")

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()

    async def aclose(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Json(logging.Formatter):
    """A record of the log as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        found = {
            "at": _moment(record.created),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (id_ := getattr(record, "request_id", None)) is not None:
            found["id"] = str(id_)
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return _encode(found).decode()


class Calm(logging.Filter):
    """Lets so many messages of a kind through, and tells with the next one how many were left out.

    Of a kind are those that one line of code wrote with the same words, whatever it put into them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, str], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """[when its period began, how many there were in it]"""
        now = self._clock()
        if len(self._seen) >= _MOST_KINDS:
            self._seen.clear()
        seen = self._seen.setdefault((record.name, str(record.msg)), [now, 0])
        if now - seen[0] >= EVERY:
            left_out = int(seen[1]) - SAME
            seen[0], seen[1] = now, 0
            if left_out > 0:
                record.msg, record.args = f"{record.getMessage()} ({left_out} more like it were left out)", None
        seen[1] += 1
        return seen[1] <= SAME


def setup(kind: Kind) -> None:
    """What the process logs from now on goes to standard error: warnings and worse."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        Json() if kind == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(Calm())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
