"""What a record says of a call, whatever became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.pipeline.faults import outcome_name
from gateway.service import Call
from gateway.telemetry.usage import Ended, UsageRecord, record
from gateway.testing import MemoryUpstream, Script
from gateway.upstream.base import UpstreamError

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
DOCUMENT = """
models:
  r2: {aliases: [deepseek-r2], policy: p}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, price: {input: 9, cached_input: 0.9, output: 27}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}]
    queue: {max_wait: 10s}
    first_token_timeout: 5s
    token_gap_timeout: 4s
tenants:
  acme: {keys: ["${ACME}"], class: interactive}
"""
KEY = "sk-acme-secret"


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


def whole(usage: object = USAGE, finish: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": finish}
    return json.dumps({"choices": [choice], **({"usage": usage} if usage else {})}).encode()


def streamed(*end: tuple[float, Any]) -> Script:
    return Script((0.5, chunk("a")), (0.5, chunk("b")), *end)


WHOLE_STREAM = streamed((0.5, chunk("", "stop", usage=USAGE) + DONE))
REFUSED = Script((0.0, b'{"error":{"message":"rate limit"}}'), status=429)


def told(call: Call) -> UsageRecord:
    assert call.caller is not None
    return record(Ended(call, call.caller.name, call.caller.class_), outcome_name, 1_795_737_600.0)


class Books:
    """Asks one thing of two clouds and returns the record."""

    def __init__(self, run: Run, house: Any) -> None:
        self._run = run
        self._house = house

    def __call__(
        self, one: Script, two: Script | None = None, leave_after: float | None = None, **fields: Any
    ) -> UsageRecord:
        async def scenario() -> UsageRecord:
            clouds = {"one": MemoryUpstream(one), "two": MemoryUpstream(two or Script((0.1, whole())))}
            house = self._house(clouds, DOCUMENT, ACME=KEY)
            task = asyncio.create_task(house.ask(key=KEY, **fields))
            if leave_after is not None:
                await asyncio.sleep(leave_after)
            if leave_after is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            else:
                response, call = await task
                if leave_after is not None:
                    await anext(aiter(response.body))
                    await response.body.aclose()
                    house.end(call)
                else:
                    await house.drain(response, call)
            house.assert_quiet()
            (ended,) = house.ended
            return told(ended)

        found: UsageRecord = self._run(scenario())
        return found


@pytest.fixture
def books(run: Run, house: Any) -> Books:
    return Books(run, house)


def tokens(part: Any) -> tuple[int, int, int, int, bool]:
    return part.input, part.cached, part.output, part.reasoning, part.estimated


@pytest.mark.parametrize(("script", "stream"), [(WHOLE_STREAM, True), (Script((0.7, whole())), False)])
def test_an_answer_has_the_clouds_own_count_and_its_exact_cost(books: Books, script: Script, stream: bool) -> None:
    found = books(script, stream=stream, model="deepseek-r2")
    assert tokens(found) == (1000, 400, 10, 4, False)
    assert (found.cost, found.currency) == ("0.00603", "CNY")
    assert (found.tenant, found.class_, found.model, found.asked) == ("acme", "interactive", "r2", "deepseek-r2")
    assert (found.backend, found.served, found.outcome, found.policy) == ("one", "one-id", "served", "p")
    assert (found.status, found.stream, found.attempts, found.lost) == (200, stream, 1, ())
    assert found.first_token == pytest.approx(0.5 if stream else 0.7)
    assert found.total == pytest.approx(1.5 if stream else 0.7)
    assert found.at == "2026-11-27T00:00:00.000Z"


def test_a_record_names_the_key_by_an_id_and_never_shows_it(books: Books) -> None:
    found = books(WHOLE_STREAM, stream=True)
    assert len(found.key) == 12
    assert KEY not in str(found)


def test_a_refusal_costs_nothing_and_the_next_backend_has_the_answer(books: Books) -> None:
    found = books(REFUSED)
    assert (found.backend, found.attempts, tokens(found)) == ("two", 2, (1000, 400, 10, 4, False))
    assert (found.cost, found.currency) == (None, ""), "two has no price"
    (lost,) = found.lost
    assert (lost.backend, lost.outcome, tokens(lost)) == ("one", "limited:rpm", (0, 0, 0, 0, False))
    assert lost.cost == "0"


def test_when_nobody_answers_no_backend_is_named_and_every_attempt_is(books: Books) -> None:
    found = books(REFUSED, REFUSED)
    assert (found.status, found.backend, found.outcome, found.cost) == (429, "", "", None)
    assert [part.backend for part in found.lost] == ["one", "two"]


@pytest.mark.parametrize(
    "end",
    [(0.1, UpstreamError("protocol", "cut")), (0.1, b'data: {"error":{"message":"x"}}\n\n'), (99.0, chunk("late"))],
)
def test_a_stream_that_breaks_is_counted_by_us_and_says_so(books: Books, end: tuple[float, Any]) -> None:
    found = books(streamed(end), stream=True)
    assert (found.backend, found.estimated, found.output) == ("one", True, pytest.approx(2, abs=1))
    assert found.input == 6, "the messages have 18 bytes"
    assert found.outcome.startswith("failed")
    assert found.cost not in {None, "0"}


def test_a_client_that_leaves_during_the_answer_is_charged_what_came(books: Books) -> None:
    found = books(streamed((9.0, chunk("c"))), stream=True, leave_after=0.6)
    assert (found.backend, found.outcome, found.estimated, found.output) == ("one", "abandoned", True, 1)


def test_a_client_that_leaves_before_the_answer_has_cost_its_prompt(books: Books) -> None:
    found = books(Script((9.0, chunk("a"))), stream=True, leave_after=0.6)
    assert (found.backend, found.status) == ("", 0)
    (lost,) = found.lost
    assert (lost.outcome, tokens(lost)) == ("abandoned", (6, 0, 0, 0, True))


def test_a_cloud_that_was_too_slow_has_been_at_work(books: Books) -> None:
    found = books(Script((99.0, chunk("a"))), WHOLE_STREAM, stream=True)
    (lost,) = found.lost
    assert (lost.outcome, lost.input, lost.estimated) == ("failed:timeout", 6, True)
    assert (found.backend, found.output, found.sent) == ("two", 10, pytest.approx(5.0))


def test_an_answer_that_would_not_do_is_billed_as_it_says(books: Books) -> None:
    found = books(Script((0.1, whole(finish="insufficient_system_resource"))))
    (lost,) = found.lost
    assert (lost.outcome, tokens(lost), lost.cost) == ("overloaded", (1000, 400, 10, 4, False), "0.00603")
    found = books(Script((0.1, chunk("", "insufficient_system_resource", usage=USAGE))), WHOLE_STREAM, stream=True)
    assert found.lost[0].output == 10


def test_a_plain_answer_without_a_count_is_estimated_by_its_size(books: Books) -> None:
    found = books(Script((0.1, whole(usage=None))))
    assert (found.estimated, found.input) == (True, 6)
    assert 10 < found.output < 60


def test_a_request_nobody_could_take_leaves_a_record_too(books: Books) -> None:
    found = books(WHOLE_STREAM, model="r9" * 500)
    assert (found.status, found.attempts, found.backend, found.model, len(found.asked)) == (404, 0, "", "", 128)
