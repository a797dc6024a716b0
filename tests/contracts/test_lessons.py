"""What every store promises of lessons, told step by step on a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.lesson import LearntKind, Mark, Use, join, ranks
from gateway.store.base import Grant, Need, Report, Telling, Terms, Told
from gateway.store.memory import MemoryStore
from gateway.store.redis import RedisStore
from gateway.testing.processes import Redis

TERMS = Terms(ttl=3.0, margin=0.75, ghost=10.0)
NUMBERS = itertools.count()
TEN = Mark(10.25, 1, 0, 10.25, None, True, why="refused: too many at once")


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.kill()


class Class:
    """A store, a clock, and one account of which replicas speak."""

    def __init__(self, make: str, server: Redis) -> None:
        self.now = 1_000_000.0
        self.account = f"account-{next(NUMBERS)}"
        self.seqs: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._server = server
        self._redis = RedisStore(server.url, TERMS, timeout=5.0) if make == "redis" else None
        self._memory = MemoryStore(lambda: self.now, TERMS)

    def exchange(self, reports: Sequence[Report]) -> Sequence[Grant]:
        if self._redis is None:
            return self._memory.tell(reports)
        return self._loop.run_until_complete(self._redis.exchange_at(reports, str(int(self.now * 1000))))

    def say(self, name: str, streams: Mark | None = None, *, late: int = 0, **more: Any) -> Told:
        self.seqs[name] = self.seqs.get(name, 0) + 1
        marks: dict[LearntKind, Mark] = more.pop("marks", {} if streams is None else {"streams": streams})
        telling = Telling(marks, more.pop("use", Use(1)), more.pop("willing", True), more.pop("probing", False))
        needs = {"streams": Need(5, 0, 0, 1)}
        report = Report(self.account, name, self.seqs[name] - late, needs, lesson=telling, **more)  # type: ignore[arg-type]
        (grant,) = self.exchange([report])
        assert grant.lesson is not None
        return grant.lesson

    def settled(self, *names: str) -> Told:
        """A lease has passed since the board was made."""
        for _ in range(8):
            for name in names:
                told = self.say(name)
            self.now += 0.5
        return told

    def flush(self) -> None:
        self._memory.flush()
        self._server.say("FLUSHALL")

    def close(self) -> None:
        if self._redis is not None:
            self._loop.run_until_complete(self._redis.aclose())
        self._loop.close()


@pytest.fixture(params=["memory", "redis"])
def school(request: pytest.FixtureRequest, server: Redis) -> Iterator[Class]:
    school = Class(request.param, server)
    yield school
    school.close()


def test_what_one_learns_all_are_told_word_for_word(school: Class) -> None:
    marks: dict[LearntKind, Mark] = {"streams": TEN, "tokens": Mark(5e5, 0, 3), "rpm": Mark(59.16, 1, 1)}
    use = Use(4, 1, 1, 900, 7, 6, 5, 30, 8000, 12, 340_000, 80, floors=(("ark 1:北京", 7, 412), ("own", 12, 9)))
    school.say("a", marks=marks, use=use)
    told = school.say("b", use=Use())
    assert told == Told(marks, "", {"a": use, "b": Use()})


def test_the_higher_mark_holds_and_of_equal_ones_the_lower_number(school: Class) -> None:
    school.say("a", TEN)
    assert school.say("b", Mark(8.0, 1)).marks["streams"] == Mark(8.0, 1)
    assert school.say("a", TEN).marks["streams"] == Mark(8.0, 1)
    assert school.say("c", Mark(9.0, 1, 1)).marks["streams"] == Mark(9.0, 1, 1)
    assert school.say("a", Mark(90.0, 0, 50)).marks["streams"] == Mark(9.0, 1, 1)
    assert school.say("b", Mark(20.0, 2)).marks["streams"] == Mark(20.0, 2)


def test_nobody_probes_before_a_lease_has_passed_then_one_and_no_other(school: Class) -> None:
    assert school.say("a").prober == ""
    school.now += 1.4
    assert school.say("b").prober == ""
    school.now += 1.4
    assert school.say("b").prober == ""
    school.now += 0.3
    assert school.say("b").prober == "b"
    assert school.say("a").prober == "b"


def test_a_prober_that_falls_silent_is_followed_by_another_after_a_lease(school: Class) -> None:
    assert school.settled("a", "b").prober == "a"
    at = school.now
    school.say("a")
    while school.say("b").prober == "a":
        school.now += 0.2
    assert TERMS.ttl < school.now - at <= TERMS.ttl + 0.4
    assert school.say("b").prober == "b"
    assert school.say("a").prober == "b", "it does not get it back by coming back"


def test_who_has_no_traffic_yields_and_who_leaves_too(school: Class) -> None:
    school.settled("a", "b")
    assert school.say("a", willing=False).prober == ""
    assert school.say("a", willing=False).prober == ""
    assert school.say("b").prober == "b"
    told = school.say("b", leaving=True)
    assert (told.prober, set(told.rows)) == ("", {"a"})
    assert school.say("b", leaving=True).prober == ""
    assert school.say("a").prober == "a"


def test_rows_end_with_their_lease_and_marks_do_not(school: Class) -> None:
    school.say("a", TEN)
    school.now += 1.4
    school.say("b")
    school.now += 1.4
    assert set(school.say("b").rows) == {"a", "b"}
    school.now += 0.4
    told = school.say("b")
    assert (set(told.rows), told.marks["streams"]) == ({"b"}, TEN)


def test_a_late_word_changes_nothing(school: Class) -> None:
    school.say("a", use=Use(5))
    assert school.say("a", Mark(1.0, 9), use=Use(9), late=1).stale
    told = school.say("b")
    assert (told.rows["a"], dict(told.marks)) == (Use(5), {})


def test_after_a_loss_of_data_those_who_know_teach_it_anew_and_the_prober_stays(school: Class) -> None:
    school.settled("a", "b")
    school.say("a", TEN, probing=True)
    school.flush()
    assert school.say("b", Mark(64.0, 0, 3)).prober == "", "somebody may believe to have it"
    told = school.say("a", TEN, probing=True)
    assert (told.prober, told.marks["streams"]) == ("a", TEN)
    assert school.say("b", Mark(64.0, 0, 3)).marks["streams"] == TEN


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_jump_of_the_servers_clock_is_a_small_step(school: Class, jump: float) -> None:
    school.settled("a", "b")
    school.say("a")
    school.now += jump
    told = school.say("b")
    assert (told.prober, set(told.rows)) == ("a", {"a", "b"})


def test_memory_and_redis_say_the_same_whatever_is_said(server: Redis) -> None:
    rng = random.Random(5)
    one, other = Class("memory", server), Class("redis", server)
    heard: dict[LearntKind, Mark] = {}
    for _ in range(400):
        name, step = rng.choice("abcd"), rng.choice((0.0, 0.2, 1.0, 4.0))
        kinds: tuple[LearntKind, ...] = ("streams", "rpm")
        marks = {
            kind: Mark(rng.choice((3.0, 4.5, 1 / 3)), rng.randint(0, 3), rng.randint(0, 2), why=rng.choice("xy"))
            for kind in kinds
            if rng.random() < 0.3
        }
        more = {key: rng.random() < chance for key, chance in (("willing", 0.7), ("probing", 0.2), ("leaving", 0.1))}
        late, use = int(rng.random() < 0.1), Use(rng.randint(0, 5))
        answers = []
        for school in (one, other):
            school.now += step
            answers.append(school.say(name, marks=marks, use=use, late=late, **more))
        assert replace(answers[0], marks={}) == replace(answers[1], marks={})
        assert dict(answers[0].marks) == dict(answers[1].marks)
        if not answers[0].stale:
            heard = join(heard, marks)
            assert ranks(answers[0].marks) == ranks(heard)
    one.close()
    other.close()


def test_lessons_ride_with_the_reports_and_only_where_there_are_some(server: Redis) -> None:
    async def body() -> None:
        store = RedisStore(server.url, TERMS, timeout=5.0)
        telling = Telling({"streams": TEN}, Use(), False, False)
        reports = [
            Report(f"ride-{i}", "a", 1, {"streams": Need(5, 0, 0, 1)}, lesson=telling if i % 2 else None)
            for i in range(4)
        ]
        await store.exchange(reports)
        before = store.calls
        grants = await store.exchange([replace(report, seq=2) for report in reports])
        assert store.calls - before == 6
        assert [grant.account for grant in grants] == [report.account for report in reports]
        assert [grant.lesson is not None for grant in grants] == [False, True, False, True]
        await store.aclose()

    asyncio.run(body())
