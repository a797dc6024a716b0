"""Where answers are kept to be given again: what is kept, the seam, and the keeper in this process.

Answers are kept in spaces (one per policy), each bounded by number and bytes; what would expire first makes room. An
entry is bound to its key by a digest, so that one that was cut short, altered, or filed under another key is nobody's
answer; and so is one of another version.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gateway.core.nouns import Usage

MAGIC = b"SGA1"
LARGEST = 64 * 2**20
"""No entry unpacks to more bytes than this."""
_DIGEST = 16
_PACK_FROM = 512
_OVERHEAD = 512
"""bytes that an entry takes in memory beside its body, about"""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `at`: when it was made (Unix seconds). `cost`: what it cost, as a decimal number; or empty."""

    at: float
    model: str
    tenant: str
    body: bytes = field(repr=False)
    usage: Usage | None = None
    cost: str = ""
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one space may hold: so many entries, so many bytes, each for `ttl` seconds at most."""

    ttl: float
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry in a list: no words of it."""

    space: str
    key: bytes
    size: int
    at: float
    tenant: str
    model: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found. `mark` names the state of the space; None: nothing is known, and nothing can be kept.

    `late`: the mark as of the look, if it came after nobody waited for it any more.
    """

    answer: Answer | None = None
    mark: bytes | None = None
    late: Callable[[], bytes | None] = field(default=lambda: None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Standing:
    """Answers at hand in this process, their bytes, and exchanges with a store elsewhere that failed."""

    entries: int
    bytes: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Which:
    """A choice among entries: of this tenant, of this model, made before this moment; empty and None choose all."""

    tenant: str = ""
    model: str = ""
    before: float | None = None

    def __contains__(self, kept: object) -> bool:
        return (
            isinstance(kept, Kept)
            and self.tenant in {"", kept.tenant}
            and self.model in {"", kept.model}
            and (self.before is None or kept.at < self.before)
        )


class Answers(Protocol):
    """The seam. Looking and keeping never raise, and looking never waits longer than a few milliseconds; a store that
    cannot be reached has no answers. `entries` and `purge` are for operators: they raise `StoreDown`.
    """

    def peek(self, space: str, key: bytes) -> Answer | None:
        """What is at hand without asking anybody."""

    async def look(self, space: str, key: bytes, bounds: Bounds) -> Look:
        """The answer, if there is one. `bounds` are those of the space. Cancelled: nothing happened."""

    async def keep(self, space: str, key: bytes, answer: Answer, bounds: Bounds, mark: bytes) -> None:
        """Keep an answer, unless the space was purged since the `mark` was seen. Cancelled: perhaps."""

    def standing(self) -> Standing:
        """What is at hand here."""

    def entries(self) -> AsyncIterator[Kept]:
        """Every entry, in no order; some may come twice or not at all when others change them meanwhile."""

    async def purge(self, which: Which) -> int:
        """Remove entries; how many there were. What is being made of them now is not kept."""

    async def aclose(self) -> None:
        """Let go. Never raises."""


_Packed = tuple[float, str, str, tuple[int, int, int, int] | None, str, str, int, bytes]
_decoder = msgspec.msgpack.Decoder(_Packed)
_encode = msgspec.msgpack.Encoder().encode


def pack(key: bytes, answer: Answer) -> bytes:
    """An entry as bytes: version, digest of key and content, content (compressed where that helps)."""
    body, usage = answer.body, answer.usage
    size = 0
    if len(body) >= _PACK_FROM:
        size, body = len(body), zlib.compress(body, 1)
    told = None if usage is None else (usage.prompt, usage.completion, usage.cached, usage.reasoning)
    content = _encode((answer.at, answer.model, answer.tenant, told, answer.cost, answer.currency, size, body))
    return MAGIC + _digest(key, content) + content


def unpack(key: bytes, entry: bytes) -> Answer | None:
    """The answer that was packed under this key; None for anything else."""
    start = len(MAGIC) + _DIGEST
    content = entry[start:]
    if not entry.startswith(MAGIC) or entry[len(MAGIC) : start] != _digest(key, content):
        return None
    try:
        at, model, tenant, told, cost, currency, size, body = _decoder.decode(content)
        if size:
            body = zlib.decompressobj().decompress(body, min(size, LARGEST) + 1)
    except (msgspec.MsgspecError, zlib.error):
        return None
    if size and len(body) != size:
        return None
    return Answer(at, model, tenant, body, None if told is None else Usage(*told), cost, currency)


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST, person=b"spillgate-entry").digest()


class Shelf:
    """Answers in memory, by space. `wall` returns Unix seconds. Every space keeps its own bounds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._spaces: dict[str, dict[bytes, tuple[Answer, float]]] = {}
        self._bytes: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Shelf: {self.entries} answers, {self.size} bytes>"

    @property
    def entries(self) -> int:
        return sum(map(len, self._spaces.values()))

    @property
    def size(self) -> int:
        return sum(self._bytes.values())

    def get(self, space: str, key: bytes) -> Answer | None:
        found = self._spaces.get(space, {}).get(key)
        if found is None:
            return None
        if found[1] <= self._wall():
            self.drop(space, key)
            return None
        return found[0]

    def put(self, space: str, key: bytes, answer: Answer, bounds: Bounds) -> None:
        """Keep it as the last of its space; those that came first make room. One larger than all room is not kept."""
        size = _size(answer)
        if size > bounds.bytes or bounds.entries < 1:
            return
        self.drop(space, key)
        shelf = self._spaces.setdefault(space, {})
        while shelf and (len(shelf) >= bounds.entries or self._bytes[space] + size > bounds.bytes):
            self.drop(space, next(iter(shelf)))
        shelf[key] = (answer, answer.at + bounds.ttl)
        self._bytes[space] = self._bytes.get(space, 0) + size

    def drop(self, space: str, key: bytes) -> bool:
        """Whether it was there."""
        found = self._spaces.get(space, {}).pop(key, None)
        if found is not None:
            self._bytes[space] -= _size(found[0])
        return found is not None

    def clear(self, space: str) -> None:
        self._spaces.pop(space, None)
        self._bytes.pop(space, None)

    def all(self) -> Iterator[Kept]:
        now = self._wall()
        for space, shelf in self._spaces.items():
            for key, (answer, until) in shelf.items():
                if until > now:
                    yield Kept(space, key, _size(answer), answer.at, answer.tenant, answer.model)


def _size(answer: Answer) -> int:
    return len(answer.body) + _OVERHEAD


class MemoryAnswers:
    """The keeper where there is no Redis, and the reference that the one in Redis is measured against."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.shelf = Shelf(wall)
        self._purges = 0

    def __repr__(self) -> str:
        return f"<MemoryAnswers {self.shelf!r}>"

    def peek(self, space: str, key: bytes) -> Answer | None:
        """See `Answers.peek`."""
        return self.shelf.get(space, key)

    async def look(self, space: str, key: bytes, bounds: Bounds) -> Look:
        """See `Answers.look`."""
        del bounds
        return Look(self.shelf.get(space, key), b"%d" % self._purges)

    async def keep(self, space: str, key: bytes, answer: Answer, bounds: Bounds, mark: bytes) -> None:
        """See `Answers.keep`."""
        if mark == b"%d" % self._purges:
            self.shelf.put(space, key, answer, bounds)

    def standing(self) -> Standing:
        """See `Answers.standing`."""
        return Standing(self.shelf.entries, self.shelf.size)

    async def entries(self) -> AsyncIterator[Kept]:
        """See `Answers.entries`."""
        for kept in tuple(self.shelf.all()):
            yield kept

    async def purge(self, which: Which) -> int:
        """See `Answers.purge`."""
        self._purges += 1
        return sum(self.shelf.drop(kept.space, kept.key) for kept in tuple(self.shelf.all()) if kept in which)

    async def aclose(self) -> None:
        """Nothing to close."""
