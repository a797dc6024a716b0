"""Hedges, carried out in virtual time: who answers, what becomes of the other, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from gateway.core.nouns import Abandoned, Beaten, Failed, Overloaded, Served
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.observe import overhead
from gateway.service import Response
from gateway.telemetry.exposition import expose, families
from gateway.telemetry.metrics import Metrics
from gateway.testing import MemoryReply, MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]

DOCUMENT = """
models: {r2: {policy: p}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: one-id}, limits: {streams: 2}}
  two: {preset: vllm, base_url: "http://two/v1", serves: {r2: two-id}, limits: {streams: 2}}
  three: {preset: vllm, base_url: "http://three/v1", serves: {r2: three-id}, limits: {streams: 2}}
policies:
  p:
    tiers: [{backends: [one]}, {backends: [two]}, {backends: [three]}]
    queue: {max_wait: 10s}
    first_token_timeout: 5s
    total_timeout: 20s
    hedge: {budget: 1, after: 1s}
"""


def chunk(text: str = "", finish: str | None = None) -> bytes:
    delta = {"content": text} if text else {}
    return (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"
    )


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"engine dead","code":500}}\n\n'
REST = ((0.1, chunk("b")), (0.1, chunk("", "stop")), (0.0, DONE))

ANSWER = ROLE + chunk("a") + b"".join(block for _, block in REST)


def good(first: float) -> Script:
    """A stream whose first token comes after so many seconds; until then keep-alives and a role."""
    return Script((first / 2, b": keep-alive\n\n"), (0.0, ROLE), (first / 2, chunk("a")), *REST)


HANGS = Script((0.1, ROLE), hang=True)
SILENT = Script(after=1e6)
BREAKS = Script((0.5, ERROR))
REFUSES = Script((0.0, b"{}"), status=503)


def build(house: Any, one: Script, two: Script, three: Script | None = None, document: str = DOCUMENT) -> Any:
    scripts = {"one": one, "two": two, "three": three or good(1.0)}
    return house({name: MemoryUpstream(script) for name, script in scripts.items()}, document)


async def quiet(h: Any) -> None:
    h.assert_quiet()
    await asyncio.sleep(0)
    races = h.dispatch._races
    assert (races.running, races.tasks) == ({}, set())


def ends(call: Any) -> list[tuple[str, str]]:
    return [(attempt.lease.backend, outcome_name(attempt.outcome)) for attempt in call.attempts]


@pytest.mark.parametrize("slow", [HANGS, SILENT, good(4.0)], ids=["hangs", "no head", "slow"])
def test_the_second_answers_when_the_first_is_slow_and_the_first_is_hung_up_on(
    run: Run, house: Any, header_of: Head, slow: Script
) -> None:
    async def scenario() -> None:
        h = build(house, slow, good(0.5))
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(1.5)
        assert h.clouds["one"].open == 0, "at once"
        assert h.in_flight() == 1
        assert [header_of(response, f"x-spillgate-{name}") for name in ("backend", "model", "attempts")] == [
            "two", "two-id", "2",
        ]  # fmt: skip
        assert float(header_of(response, "x-spillgate-overhead-ms")) == 0.0
        assert await h.drain(response, call) == ANSWER
        assert ends(call) == [("one", "beaten"), ("two", "served")]
        totals = h.desk.dispatcher.snapshot(h.loop.time()).totals
        assert (totals.hedged, totals.hedges_won, totals.retried) == (1, 1, 0)
        await quiet(h)

    run(scenario())


def test_the_first_may_still_win_and_is_named(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        h = build(house, good(1.5), good(2.0))
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(1.5)
        assert header_of(response, "x-spillgate-backend") == "one"
        assert header_of(response, "x-spillgate-attempts") == "2"
        await asyncio.sleep(0.001)
        assert (h.clouds["two"].open, h.in_flight()) == (0, 1)
        assert (await h.drain(response, call)).endswith(DONE)
        assert ends(call) == [("two", "beaten"), ("one", "served")]
        assert overhead(call) == 0.0
        totals = h.desk.dispatcher.snapshot(h.loop.time()).totals
        assert (totals.hedged, totals.hedges_won) == (1, 0)
        await quiet(h)

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_who_is_in_time_or_cannot_show_it_is_not_hedged(run: Run, house: Any, stream: bool) -> None:
    whole = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()

    async def scenario() -> None:
        h = build(house, good(0.9) if stream else Script((3.0, whole)), good(0.5))
        await h.text(stream=stream)
        assert h.clouds["two"].bodies == []
        await quiet(h)

    run(scenario())


def test_without_room_or_anybody_else_the_first_is_waited_for(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = build(house, good(4.0), good(0.5), document=DOCUMENT.replace("budget: 1,", "budget: 0.5,"))
        response, call = await h.ask(stream=True)
        assert (h.loop.time(), len(call.attempts)) == (pytest.approx(4.0), 1)
        await h.drain(response, call)
        await quiet(h)

    run(scenario())


@pytest.mark.parametrize(
    ("one", "two", "backend", "at"),
    [
        (Script((1.2, ERROR)), good(1.0), "two", 2.0),
        (Script((1.2, b"")), good(1.0), "two", 2.0),
        (good(3.0), BREAKS, "one", 3.0),
        (good(3.0), REFUSES, "one", 3.0),
        (HANGS, good(4.9), "two", 5.9),
    ],
    ids=["first breaks", "first is cut", "second breaks", "second refuses", "first times out"],
)
def test_if_one_fails_the_other_goes_on_and_nothing_is_tried_again(
    run: Run, house: Any, header_of: Head, one: Script, two: Script, backend: str, at: float
) -> None:
    async def scenario() -> None:
        h = build(house, one, two)
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(at)
        assert header_of(response, "x-spillgate-backend") == backend
        assert header_of(response, "x-spillgate-attempts") == "2"
        assert (await h.drain(response, call)).endswith(DONE)
        assert (ends(call)[1], len(call.attempts)) == ((backend, "served"), 2)
        assert h.clouds["three"].bodies == []
        await quiet(h)

    run(scenario())


@pytest.mark.parametrize(
    ("one", "two", "at"),
    [
        (Script((2.0, ERROR)), BREAKS, 2.0),
        (Script((1.2, ERROR)), BREAKS, 1.5),
        (Script((1.5, ERROR)), BREAKS, 1.5),
        (HANGS, HANGS, 6.0),
        (SILENT, BREAKS, 5.0),
    ],
    ids=["second, first", "first, second", "at once", "both time out, each after its own time", "silent"],
)
def test_only_when_both_have_failed_the_next_is_asked(
    run: Run, house: Any, header_of: Head, one: Script, two: Script, at: float
) -> None:
    async def scenario() -> None:
        h = build(house, one, two, good(0.5))
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(at + 0.5)
        assert header_of(response, "x-spillgate-backend") == "three"
        assert header_of(response, "x-spillgate-attempts") == "3"
        await h.drain(response, call)
        assert h.desk.dispatcher.snapshot(h.loop.time()).totals.retried == 1
        await quiet(h)

    run(scenario())


def test_an_error_names_both_when_nobody_is_left(run: Run, house: Any) -> None:
    document = DOCUMENT.replace("hedge:", "retry: {attempts: 2}\n    hedge:")

    async def scenario() -> None:
        h = build(house, Script((2.0, ERROR)), REFUSES, document=document)
        response, _ = await h.ask(stream=True)
        error = json.loads(response.body)["error"]
        assert (response.status, error["code"]) == (502, "upstream_failed")
        assert [attempt["backend"] for attempt in error["attempts"]] == ["one", "two"]
        await quiet(h)

    run(scenario())


def test_the_total_time_counts_from_the_arrival_for_both(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = build(house, HANGS, HANGS, document=DOCUMENT.replace("total_timeout: 20s", "total_timeout: 3s"))
        response, call = await h.ask(stream=True)
        assert h.loop.time() == pytest.approx(3.0)
        assert (response.status, json.loads(response.body)["error"]["code"]) == (504, "total_timeout")
        assert len(call.attempts) == 2
        await quiet(h)

    run(scenario())


@pytest.mark.parametrize("two", [HANGS, SILENT, BREAKS, good(0.5)], ids=["hangs", "silent", "breaks", "good"])
@pytest.mark.parametrize(
    "one", [HANGS, SILENT, Script((1.2, ERROR)), good(1.5)], ids=["hangs", "silent", "breaks", "good"]
)
@pytest.mark.parametrize("after", [0.5, 1.0, 1.1, 1.2, 1.3, 1.5])
@pytest.mark.parametrize("early", [True, False])
def test_a_client_who_leaves_at_any_moment_ends_both(
    run: Run, house: Any, one: Script, two: Script, after: float, early: bool
) -> None:
    """`early`: his leaving is heard of before whatever else happens in the same instant; else after it."""

    async def scenario() -> None:
        h = build(house, one, two, HANGS)
        found: list[Any] = []

        async def serve() -> None:
            response, call = await h.ask(stream=True)
            found.append(call)
            await h.drain(response, call)

        task = h.loop.create_task(serve())
        if not early:
            await asyncio.sleep(after - 1e-9)
        h.loop.call_at(after, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert h.loop.time() == pytest.approx(after)
        await quiet(h)
        call = h.ended[0]
        assert all(isinstance(a.outcome, Abandoned | Beaten | Failed) for a in call.attempts)

    run(scenario())


@pytest.mark.parametrize("first", [2.0, 2.0 + 1e-12, 2.0 - 1e-12])
def test_of_two_first_tokens_in_one_instant_one_counts(run: Run, house: Any, first: float) -> None:
    async def scenario() -> None:
        h = build(house, good(first), good(1.0))
        response, call = await h.ask(stream=True)
        answer = await h.drain(response, call)
        assert answer == ANSWER
        assert sorted(type(a.outcome).__name__ for a in call.attempts) == ["Beaten", "Served"]
        assert call.attempts[-1].outcome == Served(None)
        await quiet(h)

    run(scenario())


class Faulty(MemoryUpstream):
    """A client of ours that has a bug."""

    async def send(self, body: bytes, headers: Mapping[str, str]) -> MemoryReply:
        await asyncio.sleep(0.5)
        raise ZeroDivisionError(len(body), headers)


def test_a_fault_of_ours_in_the_second_is_told_and_the_first_goes_on(
    run: Run, house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        h = build(house, good(3.0), good(1.0))
        h.clouds["two"] = Faulty(HANGS)
        h.live.lines["two"].upstream = h.clouds["two"]
        with caplog.at_level(logging.ERROR, "spillgate"):
            assert (await h.text(stream=True)).endswith(DONE)
        await quiet(h)

    run(scenario())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert record.__dict__["request_id"] == "req-1"


@pytest.mark.parametrize("one", [Script((1.2, ERROR)), HANGS], ids=["after the first has failed", "while it runs"])
def test_a_fault_of_ours_is_not_lost(run: Run, house: Any, one: Script) -> None:
    async def scenario() -> None:
        h = build(house, one, HANGS)
        name = "two" if one is not HANGS else "one"
        h.clouds[name] = h.live.lines[name].upstream = Faulty(HANGS)
        if name == "one":
            h.clouds["one"].send = slow_fault
        with pytest.raises(ZeroDivisionError):
            await h.ask(stream=True)
        await quiet(h)

    async def slow_fault(body: bytes, headers: Mapping[str, str]) -> MemoryReply:
        await asyncio.sleep(2.0)
        raise ZeroDivisionError(len(body), headers)

    run(scenario())


def test_a_reload_that_ends_hedging_leaves_what_runs_alone(run: Run, house: Any) -> None:
    from gateway.core.nouns import Reloaded
    from gateway.policy.load import load_text
    from gateway.upstream import presets

    async def scenario() -> None:
        h = build(house, good(3.0), good(0.5))
        task = asyncio.create_task(h.ask(stream=True))
        await asyncio.sleep(0.5)
        after = load_text(DOCUMENT.replace("    hedge: {budget: 1, after: 1s}\n", ""), {}, presets.infos())
        h.live.install(after)
        h.desk.apply(Reloaded(after.plan))
        response, call = await task
        assert (h.loop.time(), len(call.attempts)) == (pytest.approx(3.0), 1)
        await h.drain(response, call)
        await quiet(h)

    run(scenario())


def test_a_share_that_ran_out_is_looked_at_before_a_hedge(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = build(house, HANGS, good(0.5))
        task = asyncio.create_task(h.ask(stream=True))
        await asyncio.sleep(0.5)
        told: list[float] = []
        h.desk.fence, h.desk.refresh = 0.9, told.append
        response, call = await task
        assert told == [pytest.approx(1.0)]
        await h.drain(response, call)
        await quiet(h)

    run(scenario())


def test_metrics_tell_hedges_from_spills(run: Run, house: Any) -> None:
    metrics = Metrics(outcome_name, overhead)

    async def scenario() -> bytes:
        h = build(house, HANGS, good(0.5))
        await h.text(stream=True)
        metrics.fold(h.ended[0])
        await quiet(h)
        return expose(families(metrics, h.desk.dispatcher.snapshot(h.loop.time())))

    text = run(scenario()).decode()
    assert "spillgate_hedges_total 1.0" in text
    assert "spillgate_hedges_won_total 1.0" in text
    assert 'spillgate_attempts_total{backend="one",outcome="beaten"} 1.0' in text
    assert not metrics.spilled


def test_overloads_are_remembered_of_each_that_had_one(run: Run, house: Any) -> None:
    async def scenario() -> None:
        h = build(house, Script((1.2, chunk("", "insufficient_system_resource"))), REFUSES, good(0.5))
        response, call = await h.ask(stream=True)
        await h.drain(response, call)
        assert [type(a.outcome) for a in call.attempts] == [Overloaded, Overloaded, Served]
        views = {b.name: b.available for b in h.desk.dispatcher.snapshot(1.3).backends}
        assert views == {"one": False, "two": False, "three": True}
        await quiet(h)

    run(scenario())
