"""A chat completion on its way through litellm: our bytes become its arguments, its answer becomes our bytes.

litellm takes everything as keyword arguments: the client's wishes beside its own settings (addresses, keys, callbacks,
pretend answers). So a request may bring what OpenAI's API knows, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gateway.wire import complaint

ALLOWED = frozenset(
    {
        "messages", "stream", "stream_options", "temperature", "top_p", "top_k", "n", "max_tokens",
        "max_completion_tokens", "stop", "seed", "user", "logit_bias", "logprobs", "top_logprobs", "presence_penalty",
        "frequency_penalty", "response_format", "tools", "tool_choice", "parallel_tool_calls", "functions",
        "function_call", "reasoning_effort", "thinking", "verbosity", "modalities", "audio", "prediction",
        "service_tier", "prompt_cache_key", "safety_identifier", "web_search_options",
    }
)  # fmt: skip
"""The fields of a request that are passed on: OpenAI's, and three that several other clouds share."""

_PRIVATE = frozenset({"provider_specific_fields", "cost", "_hidden_params"})
_PREFIX = re.compile(r"^(?:litellm\.\w+: )+(?:\w+(?:Error|Exception)(?: Timeout)? - )?")
_BYTES = re.compile(r"""^b(['"])(.*)\1\.?$""", re.DOTALL)

_encode = msgspec.json.encode


class NotForLitellm(ValueError):
    """The request has something in it that must not reach litellm. The text is for the client."""


def arguments(body: bytes) -> dict[str, Any]:
    """The fields of a request (`chat.parse` has seen it) that litellm may have, `model` among them.

    Raises `NotForLitellm`.
    """
    try:
        fields: dict[str, Any] = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotForLitellm("The request body is not valid JSON.") from None
    tools = fields.get("tools") or []
    if not isinstance(tools, list) or any(not isinstance(tool, dict) or tool.get("type") == "mcp" for tool in tools):
        raise NotForLitellm("'tools' must be a list of objects, and none of type 'mcp', for this model's cloud.")
    return {name: value for name, value in fields.items() if name in ALLOWED or name == "model"}


def whole(answer: Mapping[str, Any]) -> bytes:
    """A complete answer, from litellm's as plain data."""
    found = _clean(answer)
    for choice in found.get("choices", ()):
        choice.setdefault("message", {}).setdefault("content", None)
        choice.setdefault("finish_reason", None)
    return _encode(found)


def frame(chunk: Mapping[str, Any]) -> bytes:
    """One piece of a streamed answer as a server-sent event."""
    found = _clean(chunk)
    for choice in found.setdefault("choices", []):
        choice.setdefault("delta", {})
        choice.setdefault("finish_reason", None)
    return b"data: " + _encode(found) + b"\n\n"


def _clean(value: Any) -> Any:
    """Without litellm's own fields, and without what is null."""
    if isinstance(value, Mapping):
        return {key: _clean(item) for key, item in value.items() if item is not None and key not in _PRIVATE}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def refusal(kind: str, said: str, secrets: Iterable[str] = ()) -> bytes:
    """An error body in OpenAI's form. `kind` is litellm's exception, `said` its text or the cloud's own error body.

    None of `secrets` gets through.
    """
    for secret in secrets:
        said = said.replace(secret, "[key]") if secret else said
    text = _PREFIX.sub("", said.partition("Traceback (most recent call last)")[0].rstrip(), count=1)
    if quoted := _BYTES.match(text):
        text = quoted[2]
    told = complaint.read(text.encode("utf-8", "replace"))
    inner = told.code if told.code != told.message else ""
    return _encode({"error": {"code": kind, "type": inner, "message": told.message}})
