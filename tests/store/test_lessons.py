"""What a replica tells and believes of lessons, without a store; and a real server that is emptied or away."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.core.lesson import Lesson, Mark, Others, Use
from gateway.store.base import Grant, Need, Report, Terms, Told
from gateway.store.lessons import RENEW, STIR, LessonBook

TERMS = Terms(ttl=3.0, margin=0.75, ghost=10.0)
NEEDS: Any = {"streams": Need(5, 0, 0, 1)}
EIGHT = Mark(8.0)


class Pupil:
    """A book, and what its dispatcher would say."""

    def __init__(self) -> None:
        self.book = LessonBook("me", TERMS)
        self.lesson = Lesson({"streams": EIGHT}, use=Use(2))
        self.seq = 0

    def tell(self, now: float, **more: Any) -> Report:
        self.seq += 1
        report = Report("ark", "me", self.seq, NEEDS, **more)
        (self.report,) = self.book.tell(
            [
                report,
            ],
            {"ark": self.lesson},
            now,
        )
        return self.report

    def told(self, now: float, prober: str = "me", mark: Mark = EIGHT, **rows: Use) -> Lesson | None:
        grant = Grant("ark", lesson=Told({"streams": mark}, prober, rows))
        return self.book.told([self.report], [grant], now).get("ark")

    def settled(self, now: float = 100.0, prober: str = "me", **rows: Use) -> None:
        """Told once, some time ago, so that nothing stirs."""
        self.tell(now - STIR - 1)
        self.told(now - STIR - 1, prober, **rows)
        self.tell(now)
        self.told(now, prober, **rows)


def test_in_calm_it_tells_now_and_then_and_news_at_once() -> None:
    pupil = Pupil()
    pupil.settled(other=Use(2))
    assert pupil.tell(100.2).lesson is None
    pupil.lesson = Lesson({"streams": EIGHT}, use=Use(2, overdue=1))
    assert pupil.tell(100.3).lesson is not None, "somebody is overdue"
    pupil.lesson = Lesson({"streams": EIGHT}, use=Use(4))
    assert pupil.tell(100.4).lesson is None, "it has only just told"
    assert pupil.tell(100.5).lesson is not None, "not any more"
    pupil.lesson = Lesson({"streams": EIGHT}, use=Use(5))
    assert pupil.tell(100.69).lesson is None, "one stream more is none"
    pupil.lesson = Lesson({"streams": EIGHT}, use=Use(6))
    assert pupil.tell(100.69).lesson is not None
    assert pupil.book.news({"ark": pupil.lesson, "unknown": pupil.lesson}) == []
    pupil.lesson = Lesson({"streams": Mark(5.0, 1)}, use=Use(6))
    assert pupil.book.news({"ark": pupil.lesson}) == ["ark"]
    assert pupil.tell(100.7).lesson is not None
    assert pupil.tell(100.9).lesson is not None, "it stirs"
    assert pupil.tell(100.7 + STIR + 0.1).lesson is not None
    assert pupil.tell(100.7 + STIR + 0.2).lesson is None
    assert pupil.tell(100.7 + STIR + 0.1 + RENEW).lesson is not None


def test_the_right_to_probe_counts_from_the_sending_and_ends_a_margin_early() -> None:
    pupil = Pupil()
    pupil.tell(100.0)
    lesson = pupil.told(100.4)
    assert lesson is not None
    assert (lesson.probe, lesson.prober) == (True, "me")
    held = {"ark": Lesson(use=Use(2), prober="me")}
    assert pupil.book.lapse(held, 102.2) == {}
    assert pupil.book.lapse(held, 102.25) == {"ark": Lesson({}, False)}
    assert pupil.tell(102.3).lesson.probing is False  # type: ignore[union-attr]


def test_nobody_probes_before_the_store_has_said_so() -> None:
    pupil = Pupil()
    assert pupil.book.lapse({"ark": pupil.lesson}, 0.0) == {"ark": Lesson({}, False)}
    pupil.tell(1.0)
    lesson = pupil.told(1.0, "other", other=Use(3))
    assert lesson == Lesson({"streams": EIGHT}, False, others=Others(1, 3), prober="other")


def test_who_has_had_nothing_in_flight_for_a_lease_gives_the_right_up() -> None:
    pupil = Pupil()
    pupil.settled()
    pupil.lesson = Lesson({"streams": EIGHT})
    telling = pupil.tell(102.9).lesson
    assert telling is not None
    assert telling.willing
    pupil.told(102.9)
    telling = pupil.tell(103.6).lesson
    assert telling is not None
    assert (telling.willing, telling.probing) == (False, True)
    assert pupil.book.lapse({"ark": Lesson()}, 103.6) == {"ark": Lesson({}, False)}, "whether or not that arrives"


def test_its_last_word_is_told_in_any_case_and_claims_nothing() -> None:
    pupil = Pupil()
    pupil.settled()
    telling = pupil.tell(100.1, leaving=True).lesson
    assert telling is not None
    assert not telling.willing
    lesson = pupil.told(100.1)
    assert lesson is not None
    assert not lesson.probe


def test_while_the_store_is_away_a_queue_elsewhere_is_forgotten_and_the_rest_stands() -> None:
    pupil = Pupil()
    pupil.settled(prober="other", other=Use(9, 2, 2))
    seen = Lesson(probe=False, others=Others(1, 9, 2, 2), prober="other")
    assert pupil.book.lapse({"ark": seen}, 102.0) == {}
    assert pupil.book.lapse({"ark": seen}, 103.0) == {"ark": Lesson({}, False, others=Others(1, 9, 2), prober="other")}


def test_stale_answers_and_forgotten_accounts_say_nothing() -> None:
    pupil = Pupil()
    pupil.tell(100.0)
    assert pupil.book.told([pupil.report], [Grant("ark", lesson=Told(stale=True))], 100.0) == {}
    assert pupil.book.told([pupil.report], [Grant("ark")], 100.0) == {}
    pupil.book.tell([], {}, 100.1)
    assert pupil.told(100.2) is None
    assert repr(pupil.book) == "<LessonBook me: 0 accounts>"
    bare = Report("ark", "me", 9, NEEDS)
    assert pupil.book.tell([bare], {}, 100.3) == [bare]


def test_a_flushed_server_is_taught_anew(own_redis: Any) -> None:
    from gateway.store.redis import RedisStore

    async def body() -> None:
        store, pupil = RedisStore(own_redis.url, TERMS), Pupil()
        pupil.lesson = Lesson({"streams": Mark(5.5, 3, 1, 5.5)}, use=Use(2))
        (grant,) = await store.exchange([pupil.tell(0.0)])
        own_redis.cli("FLUSHALL")
        own_redis.cli("SCRIPT", "FLUSH")
        (grant,) = await store.exchange([pupil.tell(1.0)])
        assert grant.lesson is not None
        assert grant.lesson.marks == pupil.lesson.marks
        await store.aclose()

    asyncio.run(body())
