"""Every replica in step with the registry, in virtual time: how soon, and what happens when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.errors import Conflict, StoreAway
from gateway.pipeline.enrolment import EVERY, Enrolment
from gateway.policy import enrol
from gateway.policy.keys import digest, key_id
from gateway.store.base import StoreDown
from gateway.store.registry import Changes, MemoryRegistry, Registry, Stored, Token
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
NOW = 1.8e9


class Wire:
    """A way to a registry that can be cut, that counts, and that may do something just before a commit."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.cut = False
        self.reads = 0
        self.before_commit: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def token(self) -> Token:
        self._pass()
        return await self._registry.token()

    async def read(self) -> Stored:
        self._pass()
        self.reads += 1
        return await self._registry.read()

    async def commit(self, seen: Token, changes: Changes) -> Token | None:
        self._pass()
        if self.before_commit is not None:
            await self.before_commit()
        return await self._registry.commit(seen, changes)

    async def restore(self, stored: Stored) -> bool:
        self._pass()
        return await self._registry.restore(stored)

    async def aclose(self) -> None:
        """Nothing to close."""

    def _pass(self) -> None:
        if self.cut:
            raise StoreDown("the wire is cut")


class Replica:
    def __init__(self, house: Any, registry: Registry) -> None:
        self.live = house({"one": MemoryUpstream(Script()), "two": MemoryUpstream(Script())}).live
        self.wire = Wire(registry)
        self.enrolment = Enrolment(self.live, self.wire, lambda: NOW)

    async def create(self, name: str) -> None:
        await self.enrolment.change(lambda roster, given, now: enrol.create(roster, given, name, {}, now))

    async def issue(self, name: str, key: str) -> None:
        await self.enrolment.change(
            lambda roster, given, now: enrol.issue(roster, given, name, {}, digest(key), now)
        )  # fmt: skip

    async def revoke(self, key: str) -> None:
        await self.enrolment.change(lambda roster, given, now: enrol.revoke(roster, given, key_id(digest(key)), now))

    def opens(self, key: str) -> bool:
        return digest(key) in self.live.index.accesses


async def started(house: Any, registry: Registry, count: int) -> list[Replica]:
    replicas = [Replica(house, registry) for _ in range(count)]
    for replica in replicas:
        await replica.enrolment.start()
    return replicas


def test_a_change_holds_here_at_once_and_everywhere_within_a_second(run: Run, house: Any) -> None:
    async def scenario() -> None:
        first, second = await started(house, MemoryRegistry(), 2)
        await first.create("acme")
        await first.issue("acme", "sk-1")
        assert first.opens("sk-1")
        await asyncio.sleep(1.0)
        assert second.opens("sk-1")
        await second.revoke("sk-1")
        assert not second.opens("sk-1")
        await asyncio.sleep(1.0)
        assert not first.opens("sk-1")
        assert digest("sk-1") in first.live.index.revoked
        for replica in (first, second):
            await replica.enrolment.aclose()

    run(scenario())


def test_the_registry_is_read_only_when_its_state_is_another(run: Run, house: Any) -> None:
    async def scenario() -> None:
        first, second = await started(house, MemoryRegistry(), 2)
        await first.create("acme")
        await asyncio.sleep(20 * EVERY)
        assert second.wire.reads == 2
        for replica in (first, second):
            await replica.enrolment.aclose()

    run(scenario())


def test_a_registry_that_goes_away_leaves_what_was_known(run: Run, house: Any) -> None:
    async def scenario() -> None:
        (replica,) = await started(house, MemoryRegistry(), 1)
        await replica.create("acme")
        await replica.issue("acme", "sk-1")
        replica.wire.cut = True
        await asyncio.sleep(60)
        assert replica.opens("sk-1")
        touch = replica.enrolment.touch()
        assert (touch.reachable, touch.known, touch.tenants, touch.keys) == (False, True, 1, 1)
        with pytest.raises(StoreAway) as caught:
            await replica.create("beta")
        assert (caught.value.http_status, caught.value.code) == (503, "registry_unreachable")
        replica.wire.cut = False
        await asyncio.sleep(1)
        assert replica.enrolment.touch().reachable
        await replica.enrolment.aclose()

    run(scenario())


def test_a_replica_that_starts_without_it_knows_the_documents_tenants_until_it_is_back(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        (first,) = await started(house, registry, 1)
        await first.create("acme")
        await first.issue("acme", "sk-1")
        second = Replica(house, registry)
        second.wire.cut = True
        await second.enrolment.start()
        assert (second.opens("sk-1"), second.enrolment.touch().known) == (False, False)
        second.wire.cut = False
        await asyncio.sleep(1.0)
        assert (second.opens("sk-1"), second.enrolment.touch().known) == (True, True)
        for replica in (first, second):
            await replica.enrolment.aclose()

    run(scenario())


def test_what_a_registry_loses_a_replica_puts_back(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        replicas = await started(house, registry, 3)
        await replicas[0].create("acme")
        await replicas[0].issue("acme", "sk-1")
        await replicas[0].issue("acme", "sk-2")
        await replicas[0].revoke("sk-2")
        await asyncio.sleep(1.0)
        before = await registry.read()
        registry.lose()
        await asyncio.sleep(1.0)
        assert await registry.read() == before
        (newcomer,) = await started(house, registry, 1)
        for replica in (*replicas, newcomer):
            assert (replica.opens("sk-1"), replica.opens("sk-2")) == (True, False)
            await replica.enrolment.aclose()

    run(scenario())


def test_a_change_just_after_a_loss_is_made_on_top_of_what_was_lost(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        (replica,) = await started(house, registry, 1)
        await replica.create("acme")
        registry.lose()
        await replica.create("beta")
        assert set(replica.live.index.tenants) == {"acme", "beta"}
        assert set((await registry.read()).fields) == {"t:acme", "t:beta"}
        await replica.enrolment.aclose()

    run(scenario())


def test_two_who_change_at_once_both_get_through(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        first, second = await started(house, registry, 2)

        async def intrude() -> None:
            first.wire.before_commit = None
            await second.create("intruder")

        first.wire.before_commit = intrude
        await first.create("acme")
        assert set(first.live.index.tenants) == {"acme", "intruder"}
        first.wire.before_commit = lambda: second.create("acme2")
        with pytest.raises(Conflict):
            await first.create("acme2")
        for replica in (first, second):
            await replica.enrolment.aclose()

    run(scenario())


def test_who_is_never_let_through_is_told_so(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        first, second = await started(house, registry, 2)
        names = iter(range(100))

        async def intrude() -> None:
            await second.create(f"intruder-{next(names)}")

        first.wire.before_commit = intrude
        with pytest.raises(Conflict) as caught:
            await first.create("acme")
        assert caught.value.code == "registry_busy"
        for replica in (first, second):
            await replica.enrolment.aclose()

    run(scenario())


def test_what_changes_nothing_is_not_written(run: Run, house: Any) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        (replica,) = await started(house, registry, 1)
        await replica.create("acme")
        await replica.issue("acme", "sk-1")
        await replica.revoke("sk-1")
        before = await registry.token()
        await replica.revoke("sk-1")
        assert await registry.token() == before
        await replica.enrolment.aclose()

    run(scenario())


def test_records_that_cannot_be_read_are_told_and_stay(run: Run, house: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        await registry.commit(Token(), {"t:new": b'{"created": 1, "terms": {"word_of_tomorrow": 1}}'})
        (replica,) = await started(house, registry, 1)
        await replica.create("acme")
        assert replica.enrolment.touch().unread == 1
        assert "t:new" in (await registry.read()).fields
        await replica.enrolment.aclose()

    run(scenario())
    assert [record.message for record in caplog.records if "cannot be read" in record.message] == [
        "1 records of the tenants' registry cannot be read, and open nothing"
    ]
