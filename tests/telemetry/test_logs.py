"""One line per request, no floods, and nothing that must not be there."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable

from gateway.core.nouns import Limited, Usage
from gateway.pipeline.faults import outcome_name
from gateway.service import Attempt, Call, Context
from gateway.telemetry.logs import EVERY, SAME, Calm, Console, Json, line
from gateway.telemetry.story import Story

Made = Callable[..., Call]
Tried = Callable[..., Attempt]


def finished(made: Made, tried: Tried) -> Story:
    lost = tried(1, 101.0, ended=102.0, outcome=Limited("rpm"))
    won = tried(2, 104.0, backend="two", first_byte=105.0, first_token=106.0, ended=110.0)
    won.usage = Usage(10, 200)
    call = made(
        reading=100.1, got=100.3, responded=106.1, ended=110.5, attempts=[lost, won], waits=((102.5, 103.5),),
        context=Context(0xABC, 1),
    )  # fmt: skip
    call.key, call.credential = "1f0c5d9a7be2", "sk-secret"
    found = Story(call, "acme", "interactive")
    found.kept = ("failed", "spilled")
    return found


def test_a_machine_reads_all_of_it_and_the_parts_are_the_whole(made: Made, tried: Tried) -> None:
    found = json.loads(line(finished(made, tried), "json", outcome_name, 1.8e9 - 100.0))
    assert found["at"] == "2027-01-15T08:00:00.000Z"
    assert (found["level"], found["event"], found["trace"]) == ("info", "request", f"{0xABC:032x}")
    assert (found["backend"], found["outcome"], found["attempts"]) == ("two", "served", 2)
    assert (found["input"], found["output"], found["kept"]) == (10, 200, ["failed", "spilled"])
    assert (found["read"], found["queued"], found["upstream"], found["answered"]) == (0.2, 1.0, 3.0, 6.1)
    assert abs(found["read"] + found["queued"] + found["upstream"] + found["gateway"] - found["answered"]) < 1e-5
    assert "sk-secret" not in json.dumps(found)


def test_people_read_one_line(made: Made, tried: Tried) -> None:
    text = line(finished(made, tried), "human", outcome_name, 1.8e9 - 100.0).decode()
    assert text.startswith("2027-01-15T08:00:00.000Z req-1 200 acme r2 -> two served 10.500 s (queue 1.000 ")
    assert text.endswith(f"attempts 2 trace {0xABC:032x} [failed spilled]")
    assert "\n" not in text


def test_a_request_that_came_to_nothing_has_a_line_too(made: Made) -> None:
    text = line(Story(made(status=400), "acme", "batch"), "human", outcome_name, 0.0).decode()
    assert " 400 acme r2 0.000 s " in text


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def heard(*filters: logging.Filter) -> tuple[logging.Logger, list[str]]:
    logger = logging.Logger("spillgate.test")  # noqa: LOG001
    handler = Heard()
    for calm in filters:
        handler.addFilter(calm)
    logger.addHandler(handler)
    return logger, handler.lines


def test_a_flood_of_one_warning_is_a_few_lines_and_a_count() -> None:
    now = 0.0
    logger, lines = heard(Calm(lambda: now))
    for number in range(1000):
        logger.warning("cloud %d is away", number)
    logger.warning("something else")
    assert len(lines) == SAME + 1
    now = EVERY
    logger.warning("cloud %d is away", 7)
    assert lines[-1] == f"cloud 7 is away ({1000 - SAME} more like it were left out)"
    now = 3 * EVERY
    logger.warning("cloud %d is away", 8)
    assert lines[-1] == "cloud 8 is away"


def test_what_is_counted_is_bounded() -> None:
    calm = Calm(lambda: 0.0)
    logger, _ = heard(calm)
    for number in range(5000):
        logger.warning(f"made of {number}")  # noqa: G004
    assert len(calm._seen) <= 1000


def test_a_machine_reads_warnings_and_exceptions_too() -> None:
    logger = logging.Logger("spillgate.test")  # noqa: LOG001
    handler = Heard()
    handler.setFormatter(Json())
    logger.addHandler(handler)
    try:
        raise ValueError("ü")
    except ValueError:
        logger.exception("it %s", "broke", extra={"request_id": "req-9"})
    found = json.loads(handler.lines[0])
    assert (found["level"], found["logger"], found["message"]) == ("error", "spillgate.test", "it broke")
    assert found["id"] == "req-9"
    assert found["exception"].endswith("ValueError: ü")
    assert "\n" not in handler.lines[0]


def test_lines_go_out_whole() -> None:
    async def scenario() -> None:
        out = io.BytesIO()
        console = Console(out)
        await console.write(1, [b"one", b"two"])
        await console.aclose()
        assert out.getvalue() == b"one\ntwo\n"

    asyncio.run(scenario())
