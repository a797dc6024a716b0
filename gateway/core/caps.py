"""What a caller may use: limits of a tenant, of one of its keys, and of either for one model.

| kind | counts | in any |
|---|---|---|
| streams | requests in flight | moment |
| rps, rpm | requests | second, 60 seconds |
| tpm | tokens of prompt and answer | 60 seconds |
| tpm_in, tpm_out | tokens of the prompt, of the answer | 60 seconds |

Tokens count from the moment at which their request was let in; what flows beyond the estimate, from when it flows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CapKind = Literal["streams", "rps", "rpm", "tpm", "tpm_in", "tpm_out"]
CAP_KINDS: tuple[CapKind, ...] = ("streams", "rps", "rpm", "tpm", "tpm_in", "tpm_out")

SPANS: dict[CapKind, float] = {
    "streams": 0.0, "rps": 1.0, "rpm": 60.0, "tpm": 60.0, "tpm_in": 60.0, "tpm_out": 60.0,
}  # fmt: skip
"""Seconds for which a use counts; 0: until it ends."""

Needs = tuple[int, int, int, int]
"""What one request needs: 1, its tokens in all, those of its prompt, those of its answer."""

ONE, TOTAL, PROMPT, ANSWER = 0, 1, 2, 3
WEIGHS: dict[CapKind, int] = {
    "streams": ONE, "rps": ONE, "rpm": ONE, "tpm": TOTAL, "tpm_in": PROMPT, "tpm_out": ANSWER,
}  # fmt: skip
"""Which of `Needs` a kind counts."""


@dataclass(frozen=True, slots=True)
class Caps:
    """One set of limits; None: no limit."""

    streams: int | None = None
    rps: int | None = None
    rpm: int | None = None
    tpm: int | None = None
    tpm_in: int | None = None
    tpm_out: int | None = None

    def given(self) -> dict[CapKind, int]:
        """The limits there are."""
        found = {kind: getattr(self, kind) for kind in CAP_KINDS}
        return {kind: limit for kind, limit in found.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant or a key may use in all, and of single models, by the models' own names. Each holds by itself."""

    caps: Caps = Caps()
    per_model: Mapping[str, Caps] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.per_model) or self.caps != Caps()

    def words(self) -> dict[str, Any]:
        """The same in the document's words."""
        models = {model: caps.given() for model, caps in self.per_model.items()}
        found: dict[str, Any] = {kind: limit for kind, limit in self.caps.given().items()}  # noqa: C416
        return found | {"per_model": models} if models else found


UNLIMITED = Allowance()
