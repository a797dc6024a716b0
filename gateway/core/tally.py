"""What happened, counted. Plain whole numbers that only grow; `views` freezes them."""

from __future__ import annotations


class Tally:
    """One backend's attempts. `granted` is the sum of all endings plus those in flight."""

    __slots__ = (
        "abandoned", "beaten", "failed", "granted", "limited", "overloaded", "prompt_tokens", "rejected", "served",
        "spilled_in", "started", "tokens", "unusable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.granted = self.started = self.served = self.spilled_in = 0
        self.limited = self.overloaded = self.failed = self.unusable = self.rejected = self.abandoned = self.beaten = 0
        self.tokens = self.prompt_tokens = 0


class Totals:
    """The dispatcher's requests. `offered` is the sum of ended, running and waiting ones.

    `hedged` of them had a second attempt beside the first, over `hedge_tokens` in all; it came first for `hedges_won`.
    """

    __slots__ = (
        "granted", "hedge_tokens", "hedged", "hedges_won", "offered", "refused", "retried", "waited", "withdrawn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.offered = self.granted = self.waited = self.retried = self.withdrawn = 0
        self.hedged = self.hedges_won = self.hedge_tokens = 0
        self.refused: dict[str, int] = {}

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def hedge(self, tokens: int) -> None:
        """Count a second attempt over so many tokens."""
        self.hedged += 1
        self.hedge_tokens += tokens
