"""Answers given again: to whom, for what, how old, and in which form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.pipeline.faults import outcome_name
from gateway.pipeline.observe import overhead
from gateway.service import Response
from gateway.store.answers import Answer, Bounds
from gateway.telemetry.exposition import expose, families
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.usage import Ended, UsageRecord, record
from gateway.testing import MemoryUpstream, Script
from gateway.wire import sse

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Head = Callable[[Response, str], str]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
ENV = {"ACME": "sk-acme-key", "BETA": "sk-beta-key"}
DOCUMENT = """
models: {r2: {aliases: [other]}, r3: {policy: q}}
backends:
  one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, r3: y}, price: {input: 9, output: 27}}
policies:
  p: {tiers: [{backends: [one]}], cache: CACHE}
  q: {tiers: [{backends: [one]}]}
tenants:
  acme: {keys: ["${ACME}"]}
  beta: {keys: ["${BETA}"], class: interactive}
"""


def document(cache: str) -> str:
    return DOCUMENT.replace("CACHE", cache).replace("r2: {a", "r2: {policy: p, a")


def whole(text: str = "hello", finish: str = "stop", usage: object = USAGE) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"id": "1", "model": "x", "choices": [choice], "usage": usage}).encode()


def chunk(text: str = "", finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "1", "choices": [choice], **fields}).encode() + b"\n\n"


COUNTED = b"data: " + json.dumps({"id": "1", "choices": [], "usage": USAGE}).encode() + b"\n\n"
STREAM = Script((0.1, chunk("hel")), (0.1, chunk("lo")), (0.1, chunk(finish="stop")), (0.0, COUNTED), (0.0, sse.DONE))


class Bench:
    """A house with one cloud; `ask` reads the answer whole and tells how the cache served it."""

    def __init__(self, house: Any, *scripts: Script, cache: str = "{}") -> None:
        self.cloud = MemoryUpstream(*scripts)
        self.house = house({"one": self.cloud}, document(cache), **ENV)

    async def ask(self, key: str = "sk-acme-key", headers: dict[str, str] | None = None, **fields: Any) -> Any:
        self.house.headers = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        response, call = await self.house.ask(key=key, **{"temperature": 0, **fields})
        body = await self.house.drain(response, call)
        await asyncio.sleep(0.01)  # for the answer to be kept
        return call.cache.result if call.cache else None, body, call, response

    async def results(self, *asked: dict[str, Any]) -> list[str]:
        return [(await self.ask(**one))[0] for one in asked]

    @property
    def calls(self) -> int:
        return len(self.cloud.bodies)


def text_of(body: bytes) -> str:
    if not body.startswith(b"data: "):
        found: str = json.loads(body)["choices"][0]["message"]["content"]
        return found
    chunks = [json.loads(data) for raw in sse.frames(body) if (data := sse.payload(raw)) and data != b"[DONE]"]
    return "".join(c["delta"].get("content") or "" for found in chunks for c in found["choices"])


def test_the_second_asker_gets_the_first_ones_answer(run: Run, house: Any, header_of: Head) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.5, whole())))
        result, body, _, response = await b.ask()
        assert (result, header_of(response, "x-spillgate-cache")) == ("miss", "miss")
        assert body == whole()
        await asyncio.sleep(12)
        began = b.house.loop.time()
        result, body, _, response = await b.ask(model="other", user="somebody")
        assert (result, header_of(response, "x-spillgate-cache")) == ("hit", "hit; age=12")
        assert header_of(response, "x-spillgate-attempts") == "0"
        assert b.house.loop.time() == pytest.approx(began + 0.01)
        assert text_of(body) == "hello"
        assert json.loads(body)["usage"] == {**USAGE, "prompt_tokens_details": {"cached_tokens": 1000}}
        assert b.calls == 1
        b.house.assert_quiet()

    run(scenario())


def test_streams_and_whole_answers_share_what_is_kept(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, STREAM)
        result, body, _, _ = await b.ask(stream=True)
        assert (result, text_of(body)) == ("miss", "hello")
        assert b"usage" not in body, "it did not ask"
        result, body, _, _ = await b.ask()
        assert (result, text_of(body)) == ("hit", "hello")
        assert json.loads(body)["choices"][0]["finish_reason"] == "stop"
        result, body, _, response = await b.ask(stream=True, stream_options={"include_usage": True})
        assert (result, text_of(body)) == ("hit", "hello")
        assert dict(response.headers)[b"content-type"].startswith(b"text/event-stream")
        last = json.loads(sse.payload(sse.frames(body)[-2]) or b"")
        assert (last["choices"], last["usage"]["prompt_tokens_details"]) == ([], {"cached_tokens": 1000})
        assert body.endswith(sse.DONE)
        assert b"usage" not in (await b.ask(stream=True))[1]
        assert b.calls == 1

    run(scenario())


def test_a_stored_stream_may_be_read_at_a_pace(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole("one two three four five six seven eight nine ten"))))
        await b.ask()
        began = b.house.loop.time()
        result, body, _, _ = await b.ask(stream=True, headers={"x-spillgate-cache-pace": "10"})
        assert (result, text_of(body)) == ("hit", "one two three four five six seven eight nine ten")
        assert b.house.loop.time() - began == pytest.approx(1.2, abs=0.3)

    run(scenario())


def test_nobody_gets_anothers_answer(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, *[Script((0.1, whole(f"answer {n}"))) for n in range(9)])
        assert await b.results({}, {"key": "sk-beta-key"}, {}, {"key": "sk-beta-key"}) == ["miss", "miss", "hit", "hit"]
        assert text_of((await b.ask())[1]) == "answer 0"
        assert text_of((await b.ask(key="sk-beta-key"))[1]) == "answer 1"
        assert (await b.ask(user_id="somebody else"))[0] == "miss"

    run(scenario())


def test_tenants_share_where_the_policy_says_so(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole())), cache="{share: all}")
        assert await b.results({}, {"key": "sk-beta-key"}) == ["miss", "hit"]

    run(scenario())


@pytest.mark.parametrize(
    ("when", "request_", "expected"),
    [
        ("deterministic", {}, "hit"),
        ("deterministic", {"temperature": 0.0}, "hit"),
        ("deterministic", {"temperature": 0.7}, "bypass"),
        ("deterministic", {"temperature": None}, "bypass"),
        ("deterministic", {"temperature": 0.7, "headers": {"x-spillgate-cache": "on"}}, "hit"),
        ("deterministic", {"headers": {"x-spillgate-cache": "off"}}, "bypass"),
        ("deterministic", {"headers": {"cache-control": "private, No-Store"}}, "bypass"),
        ("deterministic", {"headers": {"cache-control": "no-cache"}}, "miss"),
        ("deterministic", {"headers": {"cache-control": "max-age=0"}}, "miss"),
        ("deterministic", {"headers": {"cache-control": "max-age=5"}}, "miss"),
        ("deterministic", {"headers": {"cache-control": "max-age=60, max-age=x"}}, "hit"),
        ("opt_in", {}, "bypass"),
        ("opt_in", {"headers": {"x-spillgate-cache": "On "}}, "hit"),
        ("always", {"temperature": 1.2}, "hit"),
        ("always", {"model": "r3"}, None),
    ],
)
def test_which_requests_are_served(run: Run, house: Any, when: str, request_: dict[str, Any], expected: str) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole())), cache=f"{{when: {when}}}")
        plain = {name: value for name, value in request_.items() if name != "headers"}
        await b.ask(**plain, headers={"x-spillgate-cache": "on"})
        await asyncio.sleep(10)
        assert (await b.ask(**request_))[0] == expected
        b.house.assert_quiet()

    run(scenario())


def test_a_fresh_answer_takes_the_place_of_the_old_one(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole("old"))), Script((0.1, whole("new"))))
        await b.ask()
        assert text_of((await b.ask(headers={"cache-control": "no-cache"}))[1]) == "new"
        assert text_of((await b.ask())[1]) == "new"

    run(scenario())


def test_an_answer_ends_with_its_time(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.0, whole())), cache="{ttl: 1m}")
        assert await b.results({}, {}) == ["miss", "hit"]
        await asyncio.sleep(59)
        assert (await b.ask())[0] == "hit"
        await asyncio.sleep(2)
        assert (await b.ask())[0] == "miss"

    run(scenario())


@pytest.mark.parametrize(
    ("script", "fields"),
    [
        (Script((0.1, whole(finish="length"))), {}),
        (Script((0.1, whole(finish="content_filter"))), {}),
        (Script((0.1, whole("x" * 3000))), {}),
        (Script((0.1, chunk("a")), (0.1, chunk(finish="length")), (0.0, sse.DONE)), {"stream": True}),
        (Script((0.1, chunk("a")), (0.1, b'data: {"error":{"message":"x"}}\n\n')), {"stream": True}),
        (Script((0.1, chunk("a"))), {"stream": True}),
        (Script((0.1, b'{"choices":[{"message":"x","finish_reason":"stop"}]}')), {}),
    ],
    ids=["cut by length", "filtered", "too large", "stream cut by length", "stream error", "broken stream", "odd"],
)
def test_what_is_not_a_whole_good_answer_is_not_kept(run: Run, house: Any, script: Script, fields: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, script, cache="{max_entry: 2kB}")
        assert await b.results(fields, fields) == ["miss", "miss"]
        b.house.assert_quiet()

    run(scenario())


def test_other_ids_at_the_clouds_are_another_model(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole())))
        await b.ask()
        b.house.live.stands_for = {**b.house.live.stands_for, "r2": "r2\nz"}
        assert (await b.ask())[0] == "miss"

    run(scenario())


@pytest.mark.parametrize(
    "headers", [{"x-spillgate-cache": "maybe"}, {"x-spillgate-cache-pace": "0"}, {"x-spillgate-cache-pace": "fast"}]
)
def test_a_header_that_is_not_understood_is_refused(run: Run, house: Any, headers: dict[str, str]) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole())))
        _, body, _, response = await b.ask(headers=headers)
        assert (response.status, json.loads(body)["error"]["param"]) == (400, next(iter(headers)))

    run(scenario())


def test_a_stored_answer_that_is_no_completion_is_asked_for_again(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, STREAM)
        await b.ask(stream=True)
        shelf = b.house.cache.answers.shelf
        (kept,) = shelf.all()
        shelf.put(kept.space, kept.key, Answer(0.0, "r2", "acme", b"{}"), Bounds(1e6, 10, 10**6))
        result, body, _, _ = await b.ask(stream=True)
        assert (result, text_of(body)) == ("miss", "hello")
        b.house.assert_quiet()

    run(scenario())


def test_records_and_metrics_tell_what_was_saved(run: Run, house: Any) -> None:
    async def scenario() -> None:
        b = Bench(house, Script((0.1, whole())))
        for _ in range(3):
            await b.ask()
        records = [record(Ended(call, "acme", "standard"), outcome_name, 0.0) for call in b.house.ended]
        first, second = records[0], records[1]
        assert (first.cache, first.backend, first.cost, first.cached) == ("miss", "one", "0.00927", 0)
        assert isinstance(second, UsageRecord)
        assert (second.cache, second.backend, second.outcome, second.cost) == ("hit", "", "served", "0")
        assert (second.input, second.cached, second.output) == (1000, 1000, 10)
        metrics = Metrics(outcome_name, overhead)
        for call in b.house.ended:
            metrics.fold(call)
        view = b.house.cache.view()
        text = expose(families(metrics, b.house.desk.dispatcher.snapshot(0.0), cache=view)).decode()
        for line in (
            'spillgate_cache_requests_total{model="r2",result="hit"} 2.0',
            'spillgate_cache_requests_total{model="r2",result="miss"} 1.0',
            'spillgate_cache_saved_tokens_total{kind="input",model="r2",result="hit"} 2000.0',
            'spillgate_cache_saved_cost_total{currency="CNY",model="r2"} 0.01854',
            'spillgate_request_duration_seconds_count{model="r2"} 3.0',
            "spillgate_cache_entries 1.0",
            "spillgate_cache_kept_total 1.0",
        ):
            assert line in text, line

    run(scenario())


def test_under_pressure_a_stored_answer_is_given_in_full_and_lighter_ones_are_shared_but_not_kept(
    run: Run, house: Any, header_of: Head
) -> None:
    async def scenario() -> None:
        slow = Script((50.0, whole("slow")))
        cloud = MemoryUpstream(Script((0.1, whole("full"))), slow, Script((2.0, whole("light"))))
        ladder = document("{}").replace("cache:", "degrade: [{at: 0.25, max_tokens: 5}], cache:")
        h = house({"one": cloud}, ladder.replace("price:", "limits: {streams: 4}, price:", 1), **ENV)

        async def ask(**fields: Any) -> tuple[Response, Any]:
            found: tuple[Response, Any] = await h.ask(key="sk-acme-key", **{"temperature": 0, **fields})
            return found

        await ask()
        await asyncio.sleep(1)
        waiting = [h.loop.create_task(ask(seed=seed)) for seed in (7, 8)]
        await asyncio.sleep(1)
        response, call = await ask()
        assert (call.cache.result, text_of(response.body)) == ("hit", "full")  # type: ignore[arg-type]
        assert b"x-spillgate-degraded" not in dict(response.headers)
        for _ in range(2):
            (first, _), (second, joined) = await asyncio.gather(ask(seed=9), ask(seed=9))
            assert first.body == second.body == whole("light")
            assert joined.cache.result == "joined"
            assert header_of(first, "x-spillgate-degraded") == header_of(second, "x-spillgate-degraded")
            assert "max_tokens=5" in header_of(second, "x-spillgate-degraded")
            await asyncio.sleep(1)
        assert len(cloud.bodies) == 5
        await asyncio.gather(*waiting)
        h.assert_quiet()

    run(scenario())
