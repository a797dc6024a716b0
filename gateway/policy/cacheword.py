"""The words of a policy's `cache`, a part of `schema`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.policy.kinds import about, count, duration


def _size(words: str, *, least: int, most: int) -> Meta:
    return Meta(description=words, ge=least, le=most, extra={"scalar": "size"})


class CacheWord(Struct, frozen=True):
    """Stored answers for repeated questions, and one call for questions that come at the same time."""

    ttl: Annotated[float, duration("How long an answer is kept.", above=0)] = 600.0
    when: Annotated[
        Literal["deterministic", "opt_in", "always"],
        about("Which requests: with temperature 0 or the header x-spillgate-cache: on; only with that header; all."),
    ] = "deterministic"
    share: Annotated[
        Literal["tenant", "all"],
        about("Whose answers: every tenant's are its own, or all tenants share them (and can tell what was asked)."),
    ] = "tenant"
    join: Annotated[
        Literal["never", "replica", "fleet"],
        about("Whether a request joins the same one that is under way: never, in its replica, in any (with Redis)."),
    ] = "fleet"
    account: Annotated[
        Literal["leader", "each"],
        about("For whom the tokens of a joined answer count: for one of those who got it, or for each."),
    ] = "leader"
    max_entry: Annotated[int, _size("Largest answer that is kept.", least=1, most=64 * 2**20)] = 2**20
    max_entries: Annotated[int, count("How many answers are kept at most.", least=1)] = 10_000
    max_bytes: Annotated[int, _size("How many bytes the answers may take.", least=1024, most=2**40)] = 256 * 2**20
