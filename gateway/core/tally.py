"""What happened, counted. Plain whole numbers that only grow; `views` freezes them."""

from __future__ import annotations


class Tally:
    """One backend's attempts. `granted` is the sum of all endings plus those in flight."""

    __slots__ = (
        "abandoned", "failed", "granted", "limited", "overloaded", "prompt_tokens", "rejected", "served",
        "spilled_in", "started", "tokens", "unusable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.granted = self.started = self.served = self.spilled_in = 0
        self.limited = self.overloaded = self.failed = self.unusable = self.rejected = self.abandoned = 0
        self.tokens = self.prompt_tokens = 0


class Totals:
    """The dispatcher's requests. `offered` is the sum of ended, running and waiting ones."""

    __slots__ = ("granted", "offered", "refused", "retried", "waited", "withdrawn")

    def __init__(self) -> None:
        self.offered = self.granted = self.waited = self.retried = self.withdrawn = 0
        self.refused: dict[str, int] = {}

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
