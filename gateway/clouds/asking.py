"""A chat request as a pretend cloud reads it: what it costs (`Ask`) and what shapes its answer (`Wanted`)."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import msgspec

from gateway.clouds.tickets import Ask

BYTES_PER_TOKEN = 4
PER_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """`seed` decides the text: the same messages get the same words. `tool` is the function to call, if any."""

    model: str
    stream: bool = False
    n: int = 1
    include_usage: bool = False
    logprobs: bool = False
    tool: str = ""
    seed: int = 0


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


class _Role(msgspec.Struct):
    role: str


class _Body(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stream_options: _Options | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, object] | None = None
    logprobs: bool | None = None


_body = msgspec.json.Decoder(_Body).decode
_role = msgspec.json.Decoder(_Role).decode


def read(body: bytes, salt: int = 0) -> tuple[Ask, Wanted]:
    """Understand a request body. Raises `ValueError` when a cloud would call it invalid."""
    try:
        asked = _body(body)
        role = _role(asked.messages[-1]).role if asked.messages else ""
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    n = 1 if asked.n is None else asked.n
    most = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    if not role or not 1 <= n <= 16 or (most is not None and most < 1):
        raise ValueError("messages, n or max_tokens out of range")
    mark, tokens, units = salt, 0, []
    for message in asked.messages:
        raw = memoryview(message)
        mark = crc32(raw, mark)
        tokens += PER_MESSAGE + -(-raw.nbytes // BYTES_PER_TOKEN)
        units.append((mark, tokens))
    tool = ""
    if asked.tools and asked.tool_choice != "none" and role != "tool":
        tool = asked.tools[0].function.name
    wanted = Wanted(
        model=asked.model,
        stream=bool(asked.stream),
        n=n,
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
        logprobs=bool(asked.logprobs),
        tool=tool,
        seed=mark,
    )
    return Ask(tokens, most, n, tuple(units)), wanted
