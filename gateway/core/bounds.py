"""Which limit holds: the least of what was declared, what the cloud says, what we learnt, and this replica's share.

| source | who says it | lowered | raised |
|---|---|---|---|
| declared | the operator's document | at once | at once |
| advertised | rate headers, the text of a refusal | at once | when the cloud names another |
| learned | refusals counted by us (`quota`) | at once | slowly, by trying |
| share | the shared store: this replica's part of the least of the above | at once | at once |

Only numbers live here; what is used of them is counted in `meter`.
"""

from __future__ import annotations

from gateway.core.nouns import LIMIT_KINDS, LimitKind, Limits


class Bounds:
    """The limits of one account. `share` None: no share was told, this replica is alone."""

    __slots__ = ("advertised", "declared", "learned", "share")

    def __init__(self, declared: Limits) -> None:
        self.declared = declared
        self.advertised: dict[LimitKind, float] = {}
        self.learned: dict[LimitKind, float] = {}
        self.share: Limits | None = None

    def __repr__(self) -> str:
        said = ", ".join(f"{kind} {self.limit(kind):g} ({self.source(kind)})" for kind in self.kinds())
        return f"<Bounds {said}>"

    def kinds(self) -> list[LimitKind]:
        """The kinds that have a limit at all."""
        return [kind for kind in LIMIT_KINDS if self.limit(kind) is not None]

    def whole(self, kind: LimitKind) -> float | None:
        """The account's limit, whoever uses it: without this replica's share."""
        declared = getattr(self.declared, kind)
        given = [x for x in (declared, self.advertised.get(kind), self.learned.get(kind)) if x is not None]
        return min(given) if given else None

    def part(self, kind: LimitKind) -> float | None:
        """This replica's share of a kind, None if none was told."""
        return getattr(self.share, kind) if self.share is not None else None

    def limit(self, kind: LimitKind) -> float | None:
        """The limit that holds here and now; None: there is none."""
        whole, part = self.whole(kind), self.part(kind)
        if whole is None or part is None:
            return part if whole is None else whole
        return min(whole, part)

    def source(self, kind: LimitKind) -> str:
        """Who set the limit that holds, in a word; of equals the one that is more the operator's."""
        limit = self.limit(kind)
        if getattr(self.declared, kind) == limit:
            return "declared"
        if self.advertised.get(kind) == limit:
            return "advertised"
        return "learned" if self.learned.get(kind) == limit else "share"
