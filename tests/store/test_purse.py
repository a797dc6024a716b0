"""Where budgets are kept: the reference in memory and the script in Redis say the same, number for number."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.money import Ask, Told
from gateway.store.base import StoreDown
from gateway.store.purse import GONE, KEEP, LATE, MOST, TTL, MemoryPurses
from gateway.store.purse_redis import RedisPurses

NUMBERS = itertools.count()


class Both:
    """One history told to both. They must agree on every word."""

    def __init__(self, url: str) -> None:
        self.now = 1_000_000
        self.key = f"spillgate:{{budget:tenant:{next(NUMBERS)}}}:CNY:2026-11"
        self._memory = MemoryPurses(lambda: self.now / 1000)
        self._redis = RedisPurses(url, timeout=5.0)
        self._seqs: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self.url = url

    def __call__(self, member: str, **words: Any) -> Told:
        self._seqs[member] = seq = words.pop("seq", self._seqs.get(member, 0) + 1)
        given = {"amount": 1000, "total": 0, "cap": 0, **words}
        return self.say(Ask(self.key, member, seq, **given))

    def say(self, ask: Ask) -> Told:
        (mine,) = self._loop.run_until_complete(self._memory.exchange([ask]))
        (found,) = self._loop.run_until_complete(self._redis.exchange_at([ask], str(self.now)))
        assert found == mine
        return mine

    def lose(self) -> None:
        self._memory.lose()
        self._loop.run_until_complete(self._redis._line.say(lambda client: client.delete(self.key)))

    def life(self) -> int:
        found: int = self._loop.run_until_complete(self._redis._line.say(lambda client: client.pttl(self.key)))
        return found

    def close(self) -> None:
        self._loop.run_until_complete(self._redis.aclose())
        self._loop.run_until_complete(self._memory.aclose())
        self._loop.close()


@pytest.fixture
def both(shared_redis: Any) -> Any:
    found = Both(shared_redis.url)
    yield found
    found.close()


def test_slices_are_granted_until_the_amount_is_held_and_shrink_near_its_end(both: Both) -> None:
    assert both("a", want=100) == Told(100, 900, 1, 0, {"a": 0})
    assert both("b", want=100) == Told(100, 800, 2, 0, {"a": 0, "b": 0})
    assert both("a", total=90, cap=100, need=600, least=300, want=100).cap == 700
    told = both("b", total=80, cap=100, want=100)
    assert (told.cap, told.free) == (150, 150)  # half of an even part of 200
    assert both("b", total=150, cap=150, want=100).cap == 187
    assert both("b", total=187, cap=187, need=500, least=200).cap == 187  # not even the least of it can be had
    told = both("b", total=187, cap=187, need=500, least=113)
    assert (told.cap, told.free) == (300, 0)
    assert both("a", total=700, cap=700, need=1, least=1).cap == 700


def test_what_is_given_back_is_free_for_others(both: Both) -> None:
    both("a", need=1000, least=1)
    assert both("b", need=10, least=10).cap == 0
    assert both("a", total=100, cap=100).free == 900
    assert both("b", need=10, least=10) == Told(10, 890, 1, 0, {"a": 100, "b": 0})


def test_a_call_that_comes_twice_or_late_counts_once(both: Both) -> None:
    first = Ask(both.key, "a", 1, 1000, 0, 0, want=100)
    later = replace(first, seq=2, total=60, cap=100)
    assert both.say(first).cap == 100
    assert both.say(later).members == {"a": 60}
    assert both.say(first).stale
    assert both.say(later).stale
    assert both("b").members == {"a": 60}


def test_who_is_silent_holds_nothing_after_a_while_and_what_he_spent_stays(both: Both) -> None:
    both("a", need=1000, least=1, total=10, cap=10)
    both.now += TTL
    assert both("b", need=10, least=10).cap == 0
    both.now += 1
    assert both("b", need=990, least=990).cap == 990
    told = both("a", total=700, cap=1000)  # it was only cut off: more is spent than there was
    assert (told.cap, told.free, told.members) == (1000, 0, {"a": 700, "b": 0})
    assert both("b", total=300, cap=990, need=1, least=1).cap == 990


def test_a_store_that_lost_everything_learns_it_from_any_who_remember(both: Both) -> None:
    both("a", total=10, cap=10)
    known = both("b", total=20, cap=20).members
    both.lose()
    assert both("b", total=25, cap=25, members=known).members == {"a": 10, "b": 25}
    assert both("a", total=9, cap=9, members={"b": 20}).members == {"a": 10, "b": 25}


def test_members_that_have_gone_are_added_up_when_there_are_many(both: Both) -> None:
    for number in range(MOST):
        both(f"m{number}", total=number + 1, cap=number + 1, leaving=number % 2 == 0)
    known = both("m1", total=2, cap=2).members
    assert len(known) == MOST
    both.now += LATE
    told = both("new", total=5, cap=5)
    spent = MOST * (MOST + 1) // 2 + 5
    assert (told.gen, sum(told.members.values()), len(told.members)) == (1, spent, 2 + MOST // 2)
    # Who remembers them one by one brings nothing back; who remembers the sum restores it.
    assert sum(both("m1", total=2, cap=2, members=known, gen=0).members.values()) == spent
    now = both("m1", total=2, cap=2, gen=1).members
    both.lose()
    assert both("m3", total=4, cap=4, members={"x": 999}, gen=0).members == {"x": 999, "m3": 4}
    told = both("m1", total=2, cap=2, members=now, gen=1)
    assert (told.gen, told.members) == (1, now)
    assert GONE in told.members


def test_a_long_silence_ends_a_member_only_after_a_day(both: Both) -> None:
    for number in range(MOST + 1):
        both(f"m{number}", total=1, cap=1, amount=10**15)
    both.now += KEEP - 1
    assert both("m0", total=1, cap=1).gen == 0
    both.now += 1
    assert both("m0", total=1, cap=1).members == {"m0": 1, GONE: MOST}


def test_amounts_are_exact_up_to_a_thousand_million(both: Both) -> None:
    most = 10**15
    assert both("a", amount=most, total=most - 3, cap=most - 3, need=2, least=2).cap == most - 1
    assert both("b", amount=most).free == 1


def test_it_is_forgotten_some_time_after_its_end(both: Both) -> None:
    both("a", total=1, cap=1, life=100.0)
    assert 0 < both.life() <= 100_000
    both.now += 100_000
    both.lose()  # the server's own clock did not move
    assert both("b").members == {}


@pytest.mark.parametrize("seed", range(4))
def test_both_agree_on_random_histories(both: Both, seed: int) -> None:
    rng = random.Random(seed)
    caps, totals, known = [0] * 5, [0] * 5, (0, {})
    for _ in range(200):
        who = rng.randrange(5)
        totals[who] = rng.randint(totals[who], max(totals[who], caps[who]))
        caps[who] = rng.randint(totals[who], max(totals[who], caps[who]))
        need = rng.choice([0, 0, rng.randrange(1, 500)])
        said = {"need": need, "least": rng.randint(1, need) if need else 0, "want": rng.choice([0, 50])}
        seq = {"seq": 1} if rng.random() < 0.05 else {}
        known = known if rng.random() < 0.9 else (0, {})
        told = both(
            f"m{who}", amount=3000, total=totals[who], cap=caps[who], gen=known[0], members=known[1],
            leaving=rng.random() < 0.02, **said, **seq,
        )  # fmt: skip
        if not told.stale:
            caps[who], known = told.cap, (told.gen, dict(told.members))
        both.now += rng.choice([0, 10, 2000, 40_000])
        if rng.random() < 0.02:
            both.lose()


def test_many_asks_are_answered_in_their_order(shared_redis: Any) -> None:
    async def scenario() -> None:
        purses = RedisPurses(shared_redis.url, timeout=5.0)
        asks = [Ask(f"spillgate:{{budget:order:{n}}}:x", "a", 1, n, 0, 0, need=n, least=1) for n in range(250)]
        assert [told.cap for told in await purses.exchange(asks)] == list(range(250))
        assert await purses.exchange([]) == []
        await purses.aclose()

    asyncio.run(scenario())


def test_a_redis_that_is_away_or_holds_something_else_is_said_to_be_down(own_redis: Any) -> None:
    async def scenario() -> None:
        purses = RedisPurses(own_redis.url.replace("redis://", "redis://:hidden@"), timeout=0.3)
        assert "hidden" not in repr(purses)
        plain = RedisPurses(own_redis.url, timeout=0.3)
        ask = Ask("spillgate:{budget:x}:y", "a", 1, 10, 0, 0)
        own_redis.cli("SET", "spillgate:{budget:x}:y", "something")
        with pytest.raises(StoreDown, match="WRONGTYPE"):
            await plain.exchange([ask])
        own_redis.kill()
        with pytest.raises(StoreDown) as caught:
            await purses.exchange([ask])
        assert "hidden" not in str(caught.value)
        await purses.aclose()
        await plain.aclose()

    asyncio.run(scenario())


def test_memory_forgets_what_is_over() -> None:
    now = [0.0]
    purses = MemoryPurses(lambda: now[0])

    async def scenario(told: Callable[[], Any]) -> None:
        del told
        await purses.exchange([Ask("k", "a", 1, 10, 1, 1, life=5.0)])
        assert "1 books" in repr(purses)
        now[0] = 5.0
        await purses.exchange([])
        assert "0 books" in repr(purses)
        await purses.aclose()

    asyncio.run(scenario(lambda: None))
