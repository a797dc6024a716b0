"""Where tenants and keys live that come at run time: a few small records, seen by all replicas, kept over restarts.

The registry knows nothing of what the records say. It keeps them under names, with one `Token` for the state of all:
whoever wants to change something says which state he saw, and is refused when it is no longer so. A replica asks for
the token alone, twice a second or so, and reads the rest only when it is another.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

Changes = Mapping[str, bytes | None]
"""Records to write, by name; None: to remove."""


@dataclass(frozen=True, slots=True, order=True)
class Token:
    """The name of one state: how many changes led to it, and a random mark, since two ways can have equally many."""

    count: int = 0
    mark: str = ""

    def __str__(self) -> str:
        return f"{self.count}:{self.mark}" if self.mark else ""

    def next(self) -> Token:
        """A name for the state after one more change."""
        return Token(self.count + 1, secrets.token_hex(6))


NOTHING = Token()
"""The state of a registry in which nothing was ever written, or which has lost everything."""


def token(text: str) -> Token:
    """The other way round; `NOTHING` for what is no token."""
    count, _, mark = text.partition(":")
    return Token(int(count), mark) if count.isdecimal() and mark else NOTHING


@dataclass(frozen=True, slots=True)
class Stored:
    """All records of one state. They may hold names, never keys; still, they are nobody's business in a log."""

    token: Token = NOTHING
    fields: Mapping[str, bytes] = field(default_factory=dict, repr=False)


class Registry(Protocol):
    """The seam. Every method raises `StoreDown` within the hard time-out when there is no sensible answer.

    After `StoreDown`, or when cancelled, it is not known whether a change was made; the token tells later.
    """

    async def token(self) -> Token:
        """The name of the present state."""

    async def read(self) -> Stored:
        """The present state, all of it as of one moment."""

    async def commit(self, seen: Token, changes: Changes) -> Token | None:
        """Make all changes, or none: None when the state is not the one that was `seen` any more."""

    async def restore(self, stored: Stored) -> bool:
        """Put a state back in place of an older one: what a registry lost, a replica may still know. False: no need."""

    async def aclose(self) -> None:
        """Close connections. Never raises for a registry that is down."""


class MemoryRegistry:
    """The registry in this process: the reference that the one in Redis is measured against, and the one of tests."""

    def __init__(self) -> None:
        self._stored = Stored()

    def __repr__(self) -> str:
        return f"<MemoryRegistry: {len(self._stored.fields)} records>"

    async def token(self) -> Token:
        """See `Registry.token`."""
        return self._stored.token

    async def read(self) -> Stored:
        """See `Registry.read`."""
        return self._stored

    async def commit(self, seen: Token, changes: Changes) -> Token | None:
        """See `Registry.commit`."""
        if seen != self._stored.token:
            return None
        merged = {**self._stored.fields, **changes}
        self._stored = Stored(seen.next(), {name: raw for name, raw in merged.items() if raw is not None})
        return self._stored.token

    async def restore(self, stored: Stored) -> bool:
        """See `Registry.restore`."""
        if stored.token.count <= self._stored.token.count:
            return False
        self._stored = stored
        return True

    def lose(self) -> None:
        """Forget everything, as a flushed server does."""
        self._stored = Stored()

    async def aclose(self) -> None:
        """Nothing to close."""
