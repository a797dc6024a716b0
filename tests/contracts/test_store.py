"""What every store promises, told step by step on a clock that the test moves. A new store adds itself to `STORES`."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.nouns import LimitKind
from gateway.store.base import Grant, Need, Report, Store, StoreDown, Terms
from gateway.store.memory import MemoryStore
from gateway.store.redis import RedisStore, key_of

TERMS = Terms(ttl=3.0, margin=0.75, ghost=10.0)
NUMBERS = itertools.count()


def redis_server(folder: Path) -> Any:
    """The server that tests/store uses."""
    path = Path(__file__).parents[1] / "store" / "conftest.py"
    spec = importlib.util.spec_from_file_location("store_conftest", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.RedisServer(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = redis_server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


class Desk:
    """A store, a clock, and one account. `say` speaks for a replica as an obedient one would."""

    def __init__(self, make: str, server: Any) -> None:
        self.now = 1_000_000.0
        self.account = f"account-{next(NUMBERS)}"
        self.seqs: dict[str, int] = {}
        self.last: dict[str, Grant] = {}
        self._loop = asyncio.new_event_loop()
        self._server = server
        self._redis = RedisStore(server.url, TERMS, timeout=5.0) if make == "redis" else None
        self._memory = MemoryStore(lambda: self.now, TERMS)

    @property
    def store(self) -> Store:
        return self._redis or self._memory

    def exchange(self, *reports: Report) -> list[Grant]:
        if self._redis is None:
            return self._memory.tell(reports)
        return list(self._loop.run_until_complete(self._redis.exchange_at(reports, str(int(self.now * 1000)))))

    def flush(self) -> None:
        self._memory.flush()
        self._server.cli("DEL", key_of(self.account))

    def close(self) -> None:
        self._loop.run_until_complete(self.store.aclose())
        self._loop.close()

    def report(self, name: str, used: int = 0, want: int = 0, *, limit: int = 100, unit: int = 1,
               kind: LimitKind = "streams", **more: Any) -> Report:  # fmt: skip
        self.seqs[name] = self.seqs.get(name, 0) + 1
        last = self.last.get(name, Grant(self.account))
        share = more.pop("share", last.shares.get(kind, 0))
        needs: dict[LimitKind, Need] = {kind: Need(limit, share, used, want, unit)}
        return Report(self.account, name, self.seqs[name], needs, last.epoch, last.joins, last.members, **more)

    def say(self, name: str, used: int = 0, want: int = 0, **more: Any) -> int:
        (grant,) = self.exchange(self.report(name, used, want, **more))
        self.last[name] = grant
        (share,) = grant.shares.values()
        return share

    def wait(self, seconds: float, *others: str, limit: int = 100) -> None:
        """Time passes, in which `others` go on reporting that they use what they have."""
        for _ in range(round(seconds / 0.25)):
            self.now += 0.25
            for name in others:
                share = self.last[name].shares["streams"]
                self.say(name, share, share, limit=limit)

    def settled(self, *names: str, limit: int = 100) -> None:
        """Everybody has joined, and the time of learning is over."""
        for _ in range(16):
            for name in names:
                self.say(name, limit=limit)
            self.now += 0.25


@pytest.fixture(params=["memory", "redis"])
def desk(request: pytest.FixtureRequest, server: Any) -> Iterator[Desk]:
    desk = Desk(request.param, server)
    yield desk
    desk.close()


def test_a_newborn_store_grants_nothing_before_every_living_replica_could_have_spoken(desk: Desk) -> None:
    assert desk.say("a", 0, 50) == 0
    desk.now += 0.4
    assert desk.say("a", 0, 50) == 0
    for _ in range(7):
        desk.now += 0.4
        share = desk.say("a", 0, 50)
    assert share >= 50


def test_a_first_start_is_granted_at_its_second_word_when_the_operator_says_it_is_alone(desk: Desk) -> None:
    assert desk.say("a", 0, 50, crowd=1) == 0
    desk.now += 0.02
    assert desk.say("a", 0, 50, crowd=1) >= 50
    assert not desk.last["a"].learning


def test_a_first_start_of_several_is_granted_when_each_has_been_told_of_all(desk: Desk) -> None:
    for name in "aba":
        assert desk.say(name, 0, 50, crowd=3) == 0, "one may be running that nobody has heard of"
    for _ in range(2):
        for name in "cab":
            desk.say(name, 0, 33, crowd=3)
    assert [desk.say(name, 0, 33, crowd=3) for name in "abc"] == [33, 33, 33]


def test_the_operators_word_counts_only_if_everybody_gives_it_and_the_largest_does(desk: Desk) -> None:
    for _ in range(5):
        assert [desk.say("a", 0, 50, crowd=2), desk.say("b", 0, 50)] == [0, 0]
        assert [desk.say("c", 0, 50, crowd=2), desk.say("d", 0, 50, crowd=9)] == [0, 0]
        desk.now += 0.05


def test_one_that_died_at_its_first_word_is_no_proof_that_everybody_is_there(desk: Desk) -> None:
    desk.settled("holder")
    assert desk.say("holder", 90, 100, crowd=2) >= 90
    desk.flush()
    desk.say("b", 0, 50, crowd=2)
    desk.say("late", 0, 50, crowd=2)  # sent before its process died; "b2" takes its place
    for _ in range(3):
        assert desk.say("b", 0, 50, crowd=2) == 0
        desk.now += 0.2


def test_whoever_is_missing_is_waited_for_whatever_the_operator_says(desk: Desk) -> None:
    for _ in range(3):
        desk.say("a", 80, 80, crowd=2)
        desk.say("b", 20, 20, crowd=2)
        desk.now += 0.2
    desk.flush()  # and "a" is dead
    for _ in range(4):
        assert desk.say("b", 20, 100, crowd=2) <= 25
        desk.say("c", 0, 50, crowd=2)
        desk.now += 0.2


def test_shares_never_add_up_to_more_than_the_limit(desk: Desk) -> None:
    desk.settled("a", "b", "c")
    for _ in range(5):
        shares = [desk.say(name, 0, 80) for name in "abc"]
        assert sum(shares) <= 100
    assert min(shares) >= 33


def test_what_is_taken_from_one_reaches_others_only_as_far_as_its_use_has_fallen(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b")
        desk.say("a", 98, 98)
    desk.say("b", 0, 50)
    assert desk.say("a", 98, 98) == 50, "it is lowered at once"
    assert desk.say("b", 0, 50) <= 2, "but 98 are still in flight"
    desk.say("a", 80, 98)
    assert desk.say("b", 0, 50) <= 20
    desk.say("a", 40, 98)
    assert desk.say("b", 0, 50) == 50


def test_a_lowered_share_that_was_not_confirmed_stays_held(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b")
        desk.say("a", 90, 90)
    desk.say("b", 0, 50)
    desk.exchange(desk.report("a", 10, 10))  # the answer is lost: "a" still works with its old share
    assert desk.say("b", 0, 95) <= 10
    assert desk.say("a", 90, 90) <= 90


def test_a_late_report_cannot_undo_a_younger_one(desk: Desk) -> None:
    desk.settled("a", "b")
    late = desk.report("a", 0, 0, share=0)
    for _ in range(3):
        desk.say("b")
        desk.say("a", 90, 90)
    (grant,) = desk.exchange(late)
    assert grant.stale
    assert desk.say("b", 0, 95) <= 10


def test_a_dead_replicas_part_is_back_when_lease_and_ghosts_are_over_and_not_before(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    at = desk.now
    while desk.now < at + 12.7:
        desk.now += 0.25
        assert desk.say("b", 20, 100) <= 25
    desk.now += 0.5
    assert desk.say("b", 20, 100) == 100


def test_a_dead_replicas_minute_is_remembered_for_a_minute(desk: Desk) -> None:
    for _ in range(16):
        desk.say("a", 0, 80, kind="rpm")
        desk.say("b", 0, 20, kind="rpm")
        desk.now += 0.25
    desk.say("a", 80, 80, kind="rpm")
    at = desk.now
    while desk.now < at + 63:
        desk.now += 0.5
        assert desk.say("b", 20, 100, kind="rpm") <= 30
    desk.now += 0.5
    desk.say("b", 20, 100, kind="rpm")
    desk.now += 0.5
    assert desk.say("b", 20, 100, kind="rpm") == 100


def test_a_silent_replica_that_a_peer_has_seen_running_keeps_its_part(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    for _ in range(100):
        desk.now += 0.4
        assert desk.say("b", 20, 100, alive=desk.last["b"].silent) <= 25
    assert desk.last["b"].silent == ("a",)


def test_one_that_leaves_gives_back_at_once_what_it_does_not_use(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("a", 80, 80)
        desk.say("b", 0, 20)
    desk.say("a", 0, 0, share=0, leaving=True)
    assert desk.say("b", 20, 100) == 100


def test_after_a_loss_of_data_nobody_gets_what_an_unseen_replica_may_hold(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    desk.say("b", 20, 20)
    desk.flush()  # and "a" is dead, or cut off; nobody but "b" remembers it
    at = desk.now
    while desk.now < at + 12.6:
        assert desk.say("b", 20, 100) <= 25
        desk.now += 0.25
    desk.now += 0.5
    desk.say("b", 20, 100)
    desk.now += 0.5
    assert desk.say("b", 20, 100) == 100


def test_after_a_loss_of_data_shares_move_between_those_who_have_spoken(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    desk.flush()
    assert desk.say("a", 80, 80) == 80
    assert desk.say("b", 20, 80) == 20
    for _ in range(3):
        desk.say("a", 40, 40)
        desk.say("b", 20, 60)
    assert desk.last["b"].shares["streams"] >= 40
    desk.wait(3.0, "a", "b")
    assert not desk.last["b"].learning


def test_one_seen_running_after_a_loss_of_data_prolongs_the_wait_for_it(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    desk.say("b", 20, 20)
    desk.flush()
    for _ in range(100):
        desk.now += 0.4
        silent = desk.last["b"].silent
        assert desk.say("b", 20, 100, alive=silent) <= 25
    assert silent == ("a",)


def test_a_newcomer_gets_nothing_before_every_living_peer_knows_it(desk: Desk) -> None:
    desk.settled("a", "b")
    assert desk.say("c", 0, 10) == 0
    assert desk.say("a") >= 0
    assert desk.say("c", 0, 10) == 0
    for _ in range(3):
        for name in "ab":
            desk.say(name)
    assert desk.say("c", 0, 10) >= 10


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_a_jump_of_the_servers_clock_ends_no_lease(desk: Desk, jump: float) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("b", 20, 20)
        desk.say("a", 80, 80)
    desk.now += jump
    assert desk.say("b", 20, 100) <= 25
    assert desk.say("a", 80, 80) == 50, "its even part: it is alive"
    assert desk.say("b", 20, 100) <= 25


def test_one_stream_among_three_is_had_by_each_in_turn(desk: Desk) -> None:
    desk.settled("a", "b", "c", limit=1)
    had: set[str] = set()
    for _ in range(40):
        for name in "abc":
            share = desk.say(name, 0, 5, limit=1)
            had |= {name} if share else set()
        desk.now += 0.25
        assert sum(desk.last[n].shares["streams"] for n in "abc") <= 1
    assert had == {"a", "b", "c"}


def test_a_long_prompt_gets_the_room_that_it_needs_in_turn(desk: Desk) -> None:
    for _ in range(80):
        for name in "abcd":
            share = desk.say(name, 0, 8000, limit=10_000, unit=8000, kind="tps")
            if share >= 8000:
                return
        desk.now += 0.25
    pytest.fail("nobody ever got enough for a single request")


def test_an_idle_holder_yields_the_only_stream(desk: Desk) -> None:
    desk.settled("a", "b", limit=1)
    for _ in range(3):
        desk.say("b", limit=1)
        desk.say("a", 0, 1, limit=1)
    desk.say("b", 0, 1, limit=1)
    desk.say("a", limit=1)
    desk.say("a", limit=1)
    assert desk.say("b", 0, 1, limit=1) == 1


def test_a_lowered_limit_holds_as_soon_as_one_replica_knows_it(desk: Desk) -> None:
    desk.settled("a", "b")
    for _ in range(3):
        desk.say("a", 60, 60)
        desk.say("b", 40, 40)
    assert desk.say("a", 60, 60, limit=20) <= 20
    assert desk.say("b", 40, 40) <= 20


def test_reports_of_many_accounts_are_answered_in_their_order(desk: Desk) -> None:
    names = [f"{desk.account}-{i}" for i in range(30)]
    reports = [Report(name, "a", 1, {"streams": Need(5, 0, 0, 1), "rpm": Need(9, 0, 0, 1)}) for name in names]
    grants = desk.exchange(*reports)
    assert [grant.account for grant in grants] == names
    assert all(set(grant.shares) == {"streams", "rpm"} for grant in grants)
    assert desk.exchange() == [] or desk.exchange() == ()


def test_a_store_that_cannot_be_reached_says_so_and_hides_the_password() -> None:
    store = RedisStore("redis://user:sesame@127.0.0.1:1/0", TERMS)

    async def ask() -> None:
        with pytest.raises(StoreDown) as caught:
            await store.exchange([Report("x", "a", 1, {})])
        assert "sesame" not in f"{caught.value!r} {caught.value} {store!r}"
        assert "127.0.0.1:1" in repr(store)
        await store.aclose()

    asyncio.run(ask())
