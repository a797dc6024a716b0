"""When two requests are the same: one form for all that may change the answer, and nothing else.

Members in any order, numbers as `1`, `1.0` or `1e0`, letters as themselves or as escapes make no difference; everything
else does, also the normal form of letters (a model sees other tokens). What OpenAI says is the default is taken for
left out only where no cloud has another: engines read `temperature` and `top_p` from the model's own settings, and
Model Studio has defaults of its own for penalties and parallel tool calls, so left out is not 1 and not 0 there.

A text that parsers read in different ways (a member named twice, a number that is none) has no such form.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from math import isinf
from typing import Any

IRRELEVANT = frozenset({
    "stream", "stream_options", "user", "safety_identifier", "metadata", "store", "service_tier", "prompt_cache_key",
    "prompt_cache_retention",
})  # fmt: skip
"""How it is delivered, billed or filed. `user_id` is not among them: who sends it wants his users kept apart."""
_NULL_IS_ABSENT = frozenset({
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format", "reasoning_effort", "tools",
    "tool_choice",
})  # fmt: skip
_NEUTRAL: dict[str, Any] = {"n": 1, "logprobs": False, "logit_bias": {}, "response_format": {"type": "text"}}


@dataclass(frozen=True, slots=True)
class Canonical:
    """`text` is equal for equal requests. `deterministic`: it asks for temperature 0."""

    text: bytes
    deterministic: bool


def canonical(fields: bytes) -> Canonical | None:
    """The one form of a request's JSON object (without its model); None if it has none."""
    try:
        found = json.loads(fields.decode(), object_pairs_hook=_members, parse_float=_number, parse_constant=_nonsense)
        temperature = found.get("temperature")
        kept = {name: value for name, value in found.items() if not _idle(name, value)}
        text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
    # A lone half of a surrogate pair is a letter like any other here.
    return Canonical(text.encode("utf-8", "surrogatepass"), type(temperature) is int and temperature == 0)


def key(version: str, scope: str, model: str, text: bytes) -> bytes:
    """32 bytes for one question: of whom (`scope`), to what (`model` and what it stands for), and its words."""
    digest = hashlib.blake2b(digest_size=32, person=b"spillgate-answer")
    for part in (version.encode(), scope.encode(), model.encode(), text):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is named twice")
    return found


def _number(text: str) -> float | int:
    value = float(text)
    if isinf(value):
        raise ValueError("too large a number")
    return int(value) if value.is_integer() else value


def _nonsense(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _idle(name: str, value: object) -> bool:
    """Whether a member changes nothing. Types count: `false` is not 0 here."""
    if name in IRRELEVANT or (value is None and name in _NULL_IS_ABSENT):
        return True
    neutral = _NEUTRAL.get(name)
    return neutral is not None and type(value) is type(neutral) and value == neutral
