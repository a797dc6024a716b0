"""What a replica holds, without a store."""

from __future__ import annotations

import pytest

from gateway.core.nouns import Limits
from gateway.store.base import Grant, Terms
from gateway.store.shares import HURRY, TICK, ShareBook, Usage

TERMS = Terms(ttl=3.0, margin=0.75, ghost=10.0)


def demand(used: int = 0, waiting: int = 0, limit: int = 10) -> dict[str, dict[object, Usage]]:
    return {"ark": {"streams": Usage(limit, used, waiting)}}


def give(book: ShareBook, share: int, now: float, *, asked: float | None = None, **more: object) -> None:
    book.reports(demand(), now if asked is None else asked)  # type: ignore[arg-type]
    book.granted([Grant("ark", {"streams": share}, **{"replicas": 2, **more})], now)  # type: ignore[arg-type]


def streams(book: ShareBook, now: float) -> int | None:
    return book.standing("ark").at(now).streams


def opened(now: float = 100.0, replicas: int = 4) -> ShareBook:
    return ShareBook("me", TERMS, now, replicas)


def ticked(book: ShareBook, since: float, until: float) -> None:
    while since < until:
        since += 0.2
        book.tick(demand(), since)  # type: ignore[arg-type]


def test_a_share_ends_a_margin_before_its_lease_which_counts_from_the_sending() -> None:
    book = opened()
    give(book, 8, 100.4, asked=100.0)
    assert streams(book, 102.24) == 8
    assert streams(book, 102.25) == 5, "ten by two replicas"


def test_a_safe_share_is_never_more_than_what_was_held() -> None:
    book = opened()
    give(book, 3, 100.0)
    assert streams(book, 102.3) == 3


def test_a_safe_share_lasts_as_long_as_the_process_ticks() -> None:
    book = opened()
    give(book, 8, 100.0)
    ticked(book, 100.0, 400.0)
    assert streams(book, 400.1) == 5
    assert book.health(400.0).degraded


def test_a_process_that_was_stopped_has_nothing_when_it_wakes() -> None:
    book = opened()
    give(book, 8, 100.0)
    assert streams(book, 103.1) == 0, "whoever asks first"
    book.tick(demand(), 103.1)  # type: ignore[arg-type]
    assert streams(book, 103.1) == 0
    give(book, 6, 103.3)
    assert streams(book, 103.3) == 6


def test_an_answer_that_was_slept_through_gives_nothing() -> None:
    book = opened()
    give(book, 8, 104.0, asked=100.0)
    assert streams(book, 104.0) == 0


def test_an_answer_to_an_exchange_that_was_given_up_is_ignored() -> None:
    book = opened()
    book.reports(demand(), 100.0)  # type: ignore[arg-type]
    book.failed("slow", 100.5)
    book.granted([Grant("ark", {"streams": 9})], 100.6)
    assert streams(book, 100.6) == 0
    assert book.health(100.6).reason == "slow"


def test_without_ever_a_store_the_operators_number_counts_after_a_lease() -> None:
    book = opened(replicas=4)
    book.reports(demand(), 100.0)  # type: ignore[arg-type]
    book.failed("refused", 100.0)
    assert streams(book, 102.0) == 0
    ticked(book, 100.0, 103.1)
    assert streams(book, 103.2) == 2
    (report,) = book.reports(demand(), 103.3)  # type: ignore[arg-type]
    assert report.needs["streams"].share == 2, "what is guessed is held, and told"


def test_a_lowered_limit_lowers_the_share_before_it_is_reported() -> None:
    book = opened()
    give(book, 8, 100.0)
    (report,) = book.reports(demand(limit=3), 100.2)  # type: ignore[arg-type]
    assert report.needs["streams"].share == 3
    assert streams(book, 100.2) == 3


def test_wants_follow_a_peak_at_once_and_forget_it_slowly() -> None:
    book = opened()
    wants = []
    for now, waiting in ((100.0, 50), (100.2, 0), (101.2, 0), (110.0, 0), (130.0, 0)):
        book.tick(demand(limit=100), now)  # type: ignore[arg-type]
        (report,) = book.reports(demand(0, waiting, 100), now)  # type: ignore[arg-type]
        wants.append(report.needs["streams"].want)
    assert wants[0] == 55
    assert 40 <= wants[1] < 55
    assert wants[2] < 30
    assert wants[-1] == 0


def test_exchanges_hurry_while_shares_move_and_slow_down_when_asking_is_vain() -> None:
    book = opened()
    now, gaps = 100.0, []
    for share in (4, 4, 4, 4, 4, 4):
        book.reports(demand(4, 20), now)  # type: ignore[arg-type]
        book.granted([Grant("ark", {"streams": share})], now)
        book.nudge("ark")
        gaps.append(round(book.next_at() - now, 3))
        now = book.next_at()
    assert gaps[0] == HURRY
    assert gaps == sorted(gaps)
    assert gaps[-1] == TICK


def test_leaving_reports_no_share_and_enforces_none() -> None:
    book = opened()
    give(book, 8, 100.0)
    (report,) = book.reports(demand(2), 100.1, leaving=True)  # type: ignore[arg-type]
    assert report.leaving
    assert (report.needs["streams"].share, report.needs["streams"].want) == (0, 0)
    assert streams(book, 100.1) == 0


def test_forgotten_accounts_and_kinds_are_no_longer_reported() -> None:
    book = opened()
    give(book, 8, 100.0)
    assert book.reports({}, 100.3) == ()
    assert book.standings() == {}
    with pytest.raises(KeyError):
        book.standing("ark")


def test_suspects_are_named_once_and_never_oneself() -> None:
    book = opened()
    give(book, 8, 100.0, silent=("me", "other"))
    assert book.suspects() == ("other",)
    book.attest(["other"])
    (report,) = book.reports(demand(), 100.01)  # type: ignore[arg-type]
    assert report.alive == ("other",), "at once, although no exchange was due"


def test_kinds_without_a_limit_stay_without_one() -> None:
    book = opened()
    give(book, 8, 100.0)
    assert book.standing("ark").at(1e9) == Limits(streams=0)


def test_terms_must_make_sense() -> None:
    with pytest.raises(ValueError, match="margin"):
        Terms(ttl=1.0, margin=1.0)
