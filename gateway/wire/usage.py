"""Token usage as clouds report it, in both dialects, made one.

DeepSeek counts `prompt_cache_hit_tokens`; the OpenAI form has `prompt_tokens_details.cached_tokens`.
"""

from __future__ import annotations

import msgspec

from gateway.core.nouns import Usage


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class RawUsage(msgspec.Struct):
    """The fields that some cloud or other sends; everything else is left alone."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cached_tokens: int | None = None


def read_usage(raw: RawUsage | None) -> Usage | None:
    """The usage in our own noun, or None when the cloud gave no counts."""
    if raw is None or (raw.prompt_tokens is None and raw.completion_tokens is None):
        return None
    details = raw.prompt_tokens_details
    cached = raw.prompt_cache_hit_tokens or (details.cached_tokens if details else None) or raw.cached_tokens or 0
    thought = raw.completion_tokens_details
    return Usage(
        prompt=raw.prompt_tokens or 0,
        completion=raw.completion_tokens or 0,
        cached=cached,
        reasoning=(thought.reasoning_tokens or 0) if thought else 0,
    )


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: RawUsage | None = None


class Summary(msgspec.Struct, frozen=True):
    """What accounting needs of a whole answer."""

    usage: Usage | None
    finish: str | None
    has_choices: bool


_decode = msgspec.json.Decoder(_Answer, strict=False).decode


def summarise(body: bytes) -> Summary | None:
    """Usage and finish of a complete (not streamed) answer; None when it is not a JSON object of that kind."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    finish = None
    for choice in answer.choices or ():
        finish = finish or choice.finish_reason
    return Summary(read_usage(answer.usage), finish, bool(answer.choices))
