"""The words for limits, of accounts and of callers; a part of `schema`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct, field

from gateway.policy.kinds import about, limit, name


class LimitsWord(Struct, frozen=True):
    """What may be used; leave out what has no limit or is not known."""

    streams: Annotated[int, limit("Requests in flight: sent and not yet completely answered.")] | None = None
    rpm: Annotated[int, limit("Requests in any 60 seconds.")] | None = None
    tpm: Annotated[int, limit("Tokens (prompt and answer) in any 60 seconds.")] | None = None
    rps: Annotated[int, limit("Requests in any second.")] | None = None
    tps: Annotated[int, limit("Tokens in any second.")] | None = None
    ramp: (
        Annotated[int, limit("By how many the requests started in one second may exceed those of the second before.")]
        | None
    ) = None


class CapsWord(Struct, frozen=True):
    """What a caller may use; leave out what has no limit."""

    streams: Annotated[int, limit("Requests at a time.")] | None = None
    rps: Annotated[int, limit("Requests in any second.")] | None = None
    rpm: Annotated[int, limit("Requests in any 60 seconds.")] | None = None
    tpm: Annotated[int, limit("Tokens (prompt and answer) in any 60 seconds.")] | None = None
    tpm_in: Annotated[int, limit("Prompt tokens in any 60 seconds.")] | None = None
    tpm_out: Annotated[int, limit("Answer tokens in any 60 seconds.")] | None = None


class AllowanceWord(CapsWord, frozen=True):
    """What a tenant, or one of its keys, may use; over it, the answer is 429 with a Retry-After."""

    per_model: Annotated[
        dict[Annotated[str, name("a model")], CapsWord], about("What it may use of single models, besides.")
    ] = field(default_factory=dict)
