"""Keeps this replica's tenants and keys in step with the registry. No request ever waits for it.

Every `EVERY` seconds the registry is asked which state it is in, and read when that is another one; what is found
replaces the live roster as a whole. While it cannot be reached, what was known last goes on. A registry that has lost
its state (an emptied server, a failover to an older copy) gets back the newest that a running replica knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gateway.background import begin, end
from gateway.errors import Conflict, StoreAway
from gateway.pipeline.faults import why
from gateway.pipeline.live import Live
from gateway.policy import roster
from gateway.policy.enrol import Changes, Given
from gateway.policy.roster import Roster
from gateway.store.base import StoreDown
from gateway.store.registry import Registry, Stored

EVERY = 0.4
"""Seconds between two looks: with the time of reading, all replicas have seen a change within one second."""

_TRIES = 8
log = logging.getLogger("spillgate.tenants")


@dataclass(frozen=True, slots=True)
class Touch:
    """How the registry is doing, as this replica sees it. `known`: it has been read at least once."""

    reachable: bool
    known: bool
    state: str
    tenants: int
    keys: int
    unread: int
    reason: str = ""


class Enrolment:
    """One per process. `wall` returns Unix seconds."""

    def __init__(self, live: Live, registry: Registry, wall: Callable[[], float]) -> None:
        self._live = live
        self._registry = registry
        self._wall = wall
        self._stored = Stored()
        self._known = False
        self._trouble = ""
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, for no longer than the registry's hard time-out, and go on looking in the background."""
        await self._look()
        self._task = begin(self._follow(), log, "looking after the tenants' registry has ended")

    async def aclose(self) -> None:
        """Stop looking. Takes the registry's time-out at most, rarely a second."""
        if self._task is not None:
            await end([self._task])
        await self._registry.aclose()

    def touch(self) -> Touch:
        """How it stands, for `/readyz` and `/status`."""
        found = self._live.roster
        return Touch(
            not self._trouble,
            self._known,
            str(self._stored.token),
            len(found.tenants),
            len(found.keys),
            len(found.unread),
            self._trouble,
        )

    async def change(self, decide: Callable[[Roster, Given, float], Changes]) -> None:
        """Let `decide` say what to write, and write it, on top of the newest state; it is asked again if that changes.

        When this returns the change is kept, holds here at once, and everywhere within a second. Raises what `decide`
        raises; `StoreAway` when it is not known whether the change was made; `Conflict` when others never cease to
        change things. Cancelled: the change is made or not.
        """
        async with self._lock:
            try:
                for _ in range(_TRIES):
                    await self._refresh(await self._registry.read())
                    changes = decide(self._live.roster, self.given(), self._wall())
                    if await self._commit(changes):
                        return
            except StoreDown as error:
                self._lost(error)
                raise StoreAway(
                    "The tenants' registry is out of reach; it is not known whether this was done.",
                    code="registry_unreachable",
                    retry_after=1.0,
                    details=why("registry", wait=1.0),
                ) from None
        raise Conflict("Others change the registry all the time; try again.", code="registry_busy", retry_after=1.0)

    def given(self) -> Given:
        """What the running document says."""
        compiled = self._live.compiled
        assert compiled is not None
        return Given({tenant.name: tenant for tenant in compiled.tenants}, self._live.names)

    async def _commit(self, changes: Changes) -> bool:
        if not changes:
            return True
        seen = self._stored
        token = await self._registry.commit(seen.token, changes)
        if token is None:
            return False
        merged = {**seen.fields, **changes}
        self._install(Stored(token, {name: raw for name, raw in merged.items() if raw is not None}))
        return True

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            await self._look()

    async def _look(self) -> None:
        async with self._lock:
            try:
                if not self._known or await self._registry.token() != self._stored.token:
                    await self._refresh(await self._registry.read())
            except StoreDown as error:
                self._lost(error)
                return
            if self._trouble:
                log.warning("the tenants' registry is in reach again")
            self._trouble = ""

    async def _refresh(self, found: Stored) -> None:
        """Take what was found, or put back what we know if that is newer."""
        if found.token.count < self._stored.token.count:
            log.error(
                "the tenants' registry has lost %s (it is at '%s' now): putting it back",
                self._stored.token, found.token,
            )  # fmt: skip
            if await self._registry.restore(self._stored):
                return
            found = await self._registry.read()
        self._known = True
        if found.token != self._stored.token:
            self._install(found)

    def _install(self, stored: Stored) -> None:
        before = self._live.roster
        self._stored = stored
        self._live.enrol(roster.read(stored.fields, before))
        now = self._live.roster
        if now.unread and now.unread != before.unread:
            log.warning("%d records of the tenants' registry cannot be read, and open nothing", len(now.unread))

    def _lost(self, error: StoreDown) -> None:
        if not self._trouble:
            what = "what was known last goes on" if self._known else "the document's tenants only"
            log.warning("the tenants' registry is out of reach, %s: %s", what, error)
        self._trouble = str(error)
