"""What one cloud speaks: how it refuses, how it says it is full, what it needs to be asked. Data, not code.

A `Dialect` is built from `gateway/upstream/presets/*.yaml`; `wire.refusals` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SignalKind = Literal[
    "rpm", "tpm", "burst", "concurrency", "quota",
    "overloaded", "timeout", "content", "invalid", "auth", "not_found", "server",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of a refusal table. A row applies when everything it gives matches.

    status  HTTP statuses (empty: any)
    codes   error code or type, compared without case; a trailing `*` matches a prefix (empty: any)
    text    fragments of the message, compared without case; one must be contained; one that
            starts with `=` must be the whole message (empty: any)
    cool    seconds to leave the account alone when the cloud names none
    until   a wall-clock end of the cool-down instead: the end of the minute, or midnight in Beijing
    report_as  the code our signal carries instead of the cloud's own (such as context_length_exceeded)
    """

    kind: SignalKind
    status: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    cool: float | None = None
    until: Literal["", "minute", "beijing-midnight"] = ""
    report_as: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to read one cloud. `rules` are tried by code, then text, then status (see `wire.refusals`)."""

    name: str
    rules: tuple[Rule, ...] = ()
    rate_headers: Mapping[str, str] = field(default_factory=dict)
    """meaning → header name. Meanings: limit-requests, remaining-requests, reset-requests, limit-tokens,
    remaining-tokens, reset-tokens, reset (for both), and day-remaining-requests, day-remaining-model-requests"""
    failed_finishes: frozenset[str] = frozenset({"insufficient_system_resource", "aborted"})
    """finish reasons that mean "cut for lack of capacity"."""
    ask_usage: bool = True
    """send stream_options.include_usage upstream, so that token accounting is exact"""
    tell_user: bool = False
    """send our name for the tenant as `user_id`: this cloud keeps users apart by it"""
    thinking_off: Mapping[str, Any] = field(default_factory=dict)
    """the fields of a request that switch thinking off here; empty: there is no switch"""
    efforts: frozenset[str] = frozenset()
    """the words of `reasoning_effort` that are known here"""
    fallback: tuple[Rule, ...] = ()
    """rows that every cloud shares; they are tried after `rules`"""
    rate_names: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())
    """the names of `rate_headers` in lower case: an answer with none of them has nothing to say"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate_names", frozenset(name.lower() for name in self.rate_headers.values()))


@dataclass(frozen=True, slots=True)
class Signal:
    """A refusal, understood. `message` is for our own log, never for the client unless the kind says so."""

    kind: SignalKind
    status: int
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    limit: float | None = None
