"""What a replica makes of shared counters: real pools at several replicas over one store that can be lost or away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.fair import GRACE, SAVED, Pool, Share
from gateway.core.nouns import Request
from gateway.store.fairness import AT_ONCE, FairBook, MemoryCounters, Telling


class Replica:
    """A pool, whose shares the test charges by hand, and its book."""

    def __init__(self, name: str, store: MemoryCounters) -> None:
        self.pool = Pool("ark")
        self.book = FairBook(name)
        self.band = self.pool.bands[1]
        self._store = store
        self.now = 0.0

    def share(self, tenant: str) -> Share:
        return self.pool.of(Request("q", tenant, "m", "standard", 1, 1, True, 0.0))

    def charge(self, tenant: str, tokens: float) -> None:
        """As when a request is dispatched that did not wait."""
        share = self.share(tenant)
        share.lift(self.band.clock - SAVED)
        self.band.clock = max(self.band.clock, share.counter)
        share.counter += tokens

    def wait(self, *tenants: str) -> None:
        for tenant in tenants:
            self.share(tenant).waiting = 1

    def tell(self) -> Sequence[Telling]:
        return self.book.tell([self.pool], self.now)

    def talk(self) -> bool:
        """One exchange; whether there was anything to say."""
        said = self.tell()
        if said:
            self.book.told(asyncio.run(self._store.exchange(said)))
        return bool(said)

    def __getitem__(self, tenant: str) -> float:
        return self.band.shares[tenant].counter


@pytest.fixture
def store() -> MemoryCounters:
    return MemoryCounters()


@pytest.fixture
def pair(store: MemoryCounters) -> tuple[Replica, Replica]:
    """Two replicas on one scale."""
    one, two = Replica("one", store), Replica("two", store)
    one.charge("t", 100.0)
    two.charge("t", 10.0)
    for replica in (one, two, two, one):
        replica.wait("t")
        assert replica.talk()
    assert one["t"] == two["t"] == 110.0
    return one, two


def test_nothing_is_told_when_nobody_waits_and_nobody_was_charged(store: MemoryCounters) -> None:
    one = Replica("one", store)
    assert not one.talk()
    one.charge("t", 5.0)
    assert one.talk()
    assert not one.talk()
    one.charge("t", 0.4)
    assert not one.talk(), "less than a token"
    one.charge("t", 0.6)
    assert one.talk()
    one.wait("t")
    assert one.talk()
    assert repr(one.book) == "<FairBook one: 1 pools>"
    assert repr(store) == "<MemoryCounters: 1 pools>"


def test_what_was_charged_while_the_answer_was_on_its_way_is_told_next_time(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.charge("t", 50.0)
    said = one.tell()
    one.charge("t", 7.0)
    two.charge("t", 1000.0)
    two.talk()
    one.book.told(asyncio.run(one._store.exchange(said)))
    assert one["t"] == 110 + 50 + 7 + 1000
    one.talk()
    two.talk()
    assert two["t"] == one["t"]


def test_a_lift_at_one_replica_holds_at_all_and_is_not_added_up(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for replica in pair:
        replica.charge("busy", 5 * SAVED)
        replica.charge("busy", 5.0)
    for replica in (one, two, one):
        replica.wait("busy")
        replica.talk()
    for replica in pair:
        replica.share("t").lift(replica.band.clock - SAVED)
        replica.share("t").counter += 1.0
        replica.talk()
    one.talk()
    assert one["t"] == two["t"] == one.band.clock - SAVED + 2.0


def test_a_lift_while_the_answer_is_on_its_way_stands(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    said = one.tell()
    one.share("t").lift(5000.0)
    one.book.told(asyncio.run(one._store.exchange(said)))
    assert one["t"] == 5000.0
    for replica in (one, two):
        replica.talk()
    assert two["t"] == 5000.0


def test_who_spent_elsewhere_does_not_come_here_with_clean_hands(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.charge("heavy", 9000.0)
    one.talk()
    two.wait("heavy")
    assert two["heavy"] == 0.0
    two.talk()
    assert two["heavy"] == 9000.0


def test_who_was_idle_for_long_is_lifted_though_nobody_looked_at_the_clock_here(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for _ in range(5):
        one.charge("busy", SAVED)
        one.talk()
    two.share("t").waiting = 0
    two.wait("new")
    two.talk()
    assert two.band.clock == one.band.clock
    assert two["new"] == two.band.clock - SAVED


def test_nobody_is_lifted_above_those_who_have_waited_here_all_the_time(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    for _ in range(5):
        one.charge("busy", SAVED)
        one.talk()
    two.wait("new")
    two.talk()
    assert two["new"] == two["t"] == 110.0
    assert two.band.clock >= 4 * SAVED


@pytest.mark.parametrize("first", [0, 1])
def test_an_emptied_store_makes_no_counter_jump(
    store: MemoryCounters, pair: tuple[Replica, Replica], first: int
) -> None:
    for turn in range(1, 20):
        for replica in (pair[first], pair[1 - first]):
            replica.charge("t", 100.0)
            replica.charge("u", 40.0)
        for replica in (pair[first], pair[1 - first]):
            before = replica["t"], replica["u"]
            if turn % 5 == 0:
                store.lose()
            replica.talk()
            assert 0 <= replica["t"] - before[0] <= 200
            assert 0 <= replica["u"] - before[1] <= 80
    assert pair[first]["t"] <= pair[1 - first]["t"] <= 110 + 19 * 200


def test_a_newcomer_is_put_on_the_scale_of_the_others(store: MemoryCounters, pair: tuple[Replica, Replica]) -> None:
    one, _ = pair
    for _ in range(4):
        one.charge("t", 10 * SAVED)
        one.talk()
    new = Replica("new", store)
    new.charge("t", 30.0)
    new.charge("own", 20.0)
    new.charge("own", 20.0)
    assert new.band.clock == 20.0
    new.talk()
    assert new.band.clock == one.band.clock
    assert new["t"] == one["t"] + 30.0
    assert new["own"] == one.band.clock + 20.0
    new.talk()
    one.wait("t", "own")
    one.talk()
    assert (one["t"], one["own"]) == (new["t"], new["own"])


def test_what_is_told_and_not_answered_is_told_again_and_added_once(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.charge("t", 50.0)
    asyncio.run(one._store.exchange(one.tell()))  # the answer is lost
    one.book.failed(one.now)
    one.charge("t", 5.0)
    one.now += 1.0
    for replica in (one, one, two):
        replica.talk()
    assert one["t"] == two["t"] == 165.0


def test_who_was_out_of_touch_for_long_begins_anew_and_is_not_sent_a_bill(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.tell()
    one.book.failed(one.now)
    one.charge("t", 10 * SAVED)
    one.charge("t", 10.0)
    one.charge("here", 500.0)
    two.charge("t", 50.0)
    two.talk()
    clock = two.band.clock
    one.now += GRACE + 1.0
    one.charge("t", 1.0)
    one.wait("here")
    lead = one["here"] - one.band.clock
    assert one.talk()
    assert one.band.clock == clock
    assert (one["t"], one["here"]) == (160.0, clock + lead), "what others know, and the same lead as before"
    one.charge("t", 2.0)
    for replica in (one, two):
        replica.talk()
    assert one["t"] == two["t"] == 162.0


def test_a_tenant_who_was_forgotten_comes_back_without_a_debt(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    del one.band.shares["t"]  # as `Band.join` does when tenants are very many
    one.charge("t", 7.0)
    for replica in (one, two):
        replica.talk()
    assert one["t"] == two["t"] == 117.0


def test_one_exchange_is_bounded_and_those_who_wait_come_first(store: MemoryCounters) -> None:
    one = Replica("one", store)
    for band in one.pool.bands:
        for number in range(350):
            one.pool.of(Request("q", f"t{number}", "m", band.name, 1, 1, True, 0.0)).counter += 10.0 + number
    one.wait("t0")
    (said,) = one.tell()
    told = {(word.class_, word.tenant) for word in said.words}
    assert len(told) == AT_ONCE
    assert ("standard", "t0") in told
    assert ("standard", "t1") not in told, "charged least"
    one.talk()
    (said,) = one.tell()
    assert len(said.words) == 3 * 350 - AT_ONCE + 1


def test_a_pool_that_a_reload_replaces_begins_anew(pair: tuple[Replica, Replica]) -> None:
    one, two = pair
    one.pool = Pool("ark")
    one.band = one.pool.bands[1]
    one.charge("t", 3.0)
    one.talk()
    assert one["t"] == 113.0
    for replica in (one, two):
        replica.talk()
    assert two["t"] == 113.0
    one.pool.name = "ark,own"
    one.charge("t", 4.0)
    (said,) = one.tell()
    assert (said.pool, [word.spent for word in said.words]) == ("ark,own", [4.0])


TENANTS = ("a", "b", "c")
Deed = tuple[str, int, str, int]


def deeds(*kinds: str) -> st.SearchStrategy[list[Deed]]:
    deed = st.tuples(st.sampled_from(kinds), st.integers(0, 2), st.sampled_from(TENANTS), st.integers(1, 50_000))
    return st.lists(deed, max_size=40)


def lived(story: list[Deed]) -> list[Replica]:
    """Three replicas, to whom all that happens; then calm, until everybody has heard everything."""
    store = MemoryCounters()
    replicas = [Replica(name, store) for name in ("one", "two", "three")]
    for replica in replicas:
        replica.wait(*TENANTS)
        replica.talk()
        replica.talk()
    for kind, number, tenant, tokens in story:
        replica = replicas[number]
        if kind == "charge":
            replica.share(tenant).counter += tokens
            replica.band.clock = max(replica.band.clock, replica[tenant] - tokens)
        elif kind == "lift":
            replica.share(tenant).lift(replica.band.clock + tokens)
        elif kind == "talk":
            replica.talk()
        elif kind == "deaf":
            asyncio.run(store.exchange(replica.tell()))
            replica.book.failed(replica.now)
        elif kind == "away":
            replica.tell()
            replica.book.failed(replica.now)
        elif kind == "later":
            replica.now += tokens / 10_000
        else:
            store.lose()
    for replica in replicas * 4:
        replica.talk()
    return replicas


@given(story=deeds("charge", "charge", "talk", "deaf", "away"))
def test_every_token_counts_once_at_every_replica_whatever_is_lost_on_the_way(story: list[Deed]) -> None:
    charged = {name: sum(d[3] for d in story if d[0] == "charge" and d[2] == name) for name in TENANTS}
    for replica in lived(story):
        assert {name: replica[name] for name in TENANTS} == charged


@given(story=deeds("charge", "charge", "lift", "talk", "deaf", "away", "later", "lose"))
def test_after_whatever_has_happened_all_replicas_stand_alike(story: list[Deed]) -> None:
    one, *others = lived(story)
    for other in others:
        assert {n: other[n] for n in TENANTS} == pytest.approx({n: one[n] for n in TENANTS})
        assert other.band.clock == pytest.approx(one.band.clock)
