"""Budgets as a client meets them, in virtual time: admitted, warned, refused, and charged what the record says."""

from __future__ import annotations

import asyncio
import json
import logging
from decimal import Decimal
from typing import Any

import pytest

from gateway.core.money import MICRO
from gateway.pipeline.budgets import HEADER, LONGEST, moment, told
from gateway.testing import Script

Till = Any


def test_what_is_spent_is_refused_until_it_renews(scenario: Any) -> None:
    async def story(till: Till) -> None:
        assert [await till.answers() for _ in range(10)] == [200] * 10
        response, _ = await till.ask()
        assert response.status == 429
        error = json.loads(response.body)["error"]
        assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
        assert error["budget"] == {
            "of": "tenant", "amount": "1", "currency": "CNY", "per": "hour", "spent": "1", "left": "0",
            "renews_at": "2026-11-27T01:00:00Z",
        }  # fmt: skip
        assert "Your budget is spent: 1 of 1 CNY per hour" in error["message"]
        wait = int(dict(response.headers)[b"retry-after"])
        assert wait == pytest.approx(3600 - till.loop.time(), abs=1)
        assert (till.view.state, till.view.left, till.view.refused) == ("spent", 0, 1)
        await asyncio.sleep(wait)
        assert await till.answers() == 200
        assert (till.view.state, till.view.spent) == ("open", MICRO // 10)

    scenario(story)


def test_what_costs_nothing_is_not_stopped(scenario: Any) -> None:
    async def story(till: Till) -> None:
        assert await till.answers(1100) == 429
        assert [await till.answers(model="free") for _ in range(3)] == [200] * 3
        assert (till.view.spent, till.view.uncounted) == (0, 3)

    scenario(story)


def test_what_runs_is_counted_by_its_estimate_and_ends_as_usual(scenario: Any) -> None:
    async def story(till: Till) -> None:
        running = [asyncio.create_task(till.answers(400)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert till.view.reserved == 800_000
        response, _ = await till.ask(400)
        assert response.status == 429
        assert "taken up by requests under way" in json.loads(response.body)["error"]["message"]
        assert dict(response.headers)[b"retry-after"] == b"5"
        assert sorted([await task for task in running]) == [200, 200, 429]
        assert (till.view.reserved, till.view.spent) == (0, 200_000)
        await asyncio.sleep(2)
        assert await till.answers(400) == 200

    scenario(story)


def test_the_answer_that_goes_beyond_is_the_last(scenario: Any) -> None:
    async def story(till: Till) -> None:
        assert await till.answers(100) == 200
        assert till.view.spent == 5 * MICRO
        assert await till.answers(1) == 429

    scenario(story, tokens=5000)


def test_who_has_spent_most_of_it_is_warned_and_it_is_logged_once(
    scenario: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(till: Till) -> None:
        for number in range(10):
            response, _ = await till.ask()
            said = dict(response.headers).get(HEADER)
            assert said == (None if number < 8 else b"warning; spent=%.2f" % (number / 10)), number

    with caplog.at_level(logging.WARNING):
        scenario(story)
    assert [r.getMessage() for r in caplog.records if "spent" in r.getMessage()] == [
        "tenant:acme has spent 0.80 of its budget for 2026-11-27T00"
    ]


def test_a_budget_agrees_with_the_records_to_the_last_digit(scenario: Any, money: str) -> None:
    odd = money.replace("price: {input: 0, output: 1000}", "price: {input: 0.022, output: 0.33, currency: USD}")

    async def story(till: Till) -> None:
        assert [await till.answers(7) for _ in range(10)] == [200] * 10
        cost = till.recorded()
        assert cost == 10 * (5 * Decimal("0.022") + 101 * Decimal("0.33")) / 10**6
        assert till.view.spent == int(cost * 7 * MICRO)
        purse = till.purser.purse("tenant:acme", till.house.live.index.budgets["tenant:acme"])
        assert purse._picos == int(cost * 7 * MICRO * MICRO)

    scenario(story, odd, tokens=101)


def test_a_hedge_that_was_beaten_is_charged_as_it_is_recorded(scenario: Any, money: str) -> None:
    def chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"

    usage = {"prompt_tokens": 5, "completion_tokens": 9}
    done = chunk("", "stop", usage=usage) + b"data: [DONE]\n\n"
    priced = money.replace("output: 1000}", "output: 1000, cached_input: 0}").replace("{input: 0,", "{input: 1000,")

    async def story(till: Till) -> None:
        till.clouds["two"]._scripts = [Script((0.1, chunk("a") + done))]
        assert await till.answers(50, stream=True) == 200
        (call,) = till.house.ended
        assert [type(attempt.outcome).__name__ for attempt in call.attempts] == ["Beaten", "Served"]
        await asyncio.sleep(0.3)
        assert till.recorded() > 0
        assert (till.view.spent, till.view.reserved) == (int(till.recorded() * MICRO), 0)

    scenario(story, priced, one=Script(after=4.0, hang=True))


def test_who_leaves_pays_for_what_was_sent_and_nothing_stays_reserved(scenario: Any) -> None:
    async def story(till: Till) -> None:
        task = asyncio.create_task(till.ask(100))
        await asyncio.sleep(0.5)
        assert till.view.reserved == 100_000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert till.view.reserved == 0
        early = asyncio.create_task(till.ask(900))  # waits for the store
        await asyncio.sleep(0.001)
        early.cancel()
        await asyncio.gather(early, return_exceptions=True)
        assert till.view.reserved == 0

    scenario(story)


def test_a_key_has_its_own_budget_within_the_tenants(scenario: Any, money: str) -> None:
    both = money.replace('keys: ["${ACME}"]', 'keys: [{key: "${ACME}", budget: {amount: 0.25, per: day}}]')

    async def story(till: Till) -> None:
        assert [await till.answers() for _ in range(3)] == [200, 200, 429]
        response, call = await till.ask()
        error = json.loads(response.body)["error"]
        assert "The budget of this API key is spent: 0.2 of 0.25 CNY per day" in error["message"]
        assert (error["budget"]["of"], call.attempts) == ("key", [])
        key, tenant = till.purser.views()
        assert (key.name, key.spent, key.refused) == (f"key:{call.key}", 200_000, 2)
        assert (tenant.name, tenant.spent, tenant.reserved, tenant.refused) == ("tenant:acme", 200_000, 0, 0)
        assert dict(response.headers)[b"retry-after"] == b"%d" % LONGEST

    scenario(story, both)


def test_others_are_not_held_up(scenario: Any, money: str) -> None:
    async def story(till: Till) -> None:
        assert await till.answers() == 200
        assert (till.purser.views(), till.store.calls) == ([], 0)

    scenario(story, money.replace("budget: {amount: 1, per: hour, zone: UTC}", "class: batch"))


def test_a_request_does_not_wait_for_the_store_while_there_is_a_slice_in_hand(scenario: Any, money: str) -> None:
    async def story(till: Till) -> None:
        assert await till.answers() == 200
        before = till.loop.time()
        tasks = [asyncio.create_task(till.answers()) for _ in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert till.clouds["one"].open == 2
        assert till.loop.time() == before
        assert await asyncio.gather(*tasks) == [200, 200]
        calls = till.store.calls
        await asyncio.sleep(600)
        assert till.store.calls - calls < 40

    scenario(story, money.replace("amount: 1,", "amount: 1000,"))


def test_a_budget_that_is_changed_counts_on(scenario: Any, money: str) -> None:
    async def story(till: Till) -> None:
        assert [await till.answers(500) for _ in range(6)] == [200] * 6
        assert await till.answers(500) == 429
        till.install(money.replace("amount: 1,", "amount: 2,"))
        await asyncio.sleep(1)
        assert await till.answers(500) == 200
        assert till.view.spent == 700_000
        till.install(money.replace("amount: 1, per: hour", "amount: 1, per: day"))
        await asyncio.sleep(1)
        assert (till.view.per, till.view.spent) == ("day", 0)
        till.install(money.replace("budget: {amount: 1, per: hour, zone: UTC}", "class: batch"))
        await asyncio.sleep(1)
        assert (till.purser.views(), till.purser._closing) == ([], [])
        assert await till.answers(5000) == 200

    scenario(story)


def test_an_answer_over_the_end_of_a_period_belongs_to_the_one_it_began_in(scenario: Any) -> None:
    async def story(till: Till) -> None:
        await asyncio.sleep(3599.5)
        assert await till.answers() == 200
        assert till.view.spent == 0
        await asyncio.sleep(1)
        (book,) = till.store.store._books.values()
        assert [member.total for member in book.members.values()] == [100_000]

    scenario(story)


def test_what_is_told_of_a_budget_is_plain(scenario: Any) -> None:
    async def story(till: Till) -> None:
        assert await till.answers() == 200
        assert told(till.view, till.house.live) == {
            "amount": "1", "currency": "CNY", "per": "hour", "state": "open", "spent": "0.1", "left": "0.9",
            "reserved": "0", "renews_at": "2026-11-27T01:00:00Z", "refused": 0, "uncounted": 0,
        }  # fmt: skip
        assert moment(1_795_737_600.0, 480) == "2026-11-27T08:00:00+08:00"

    scenario(story)
