"""Server-sent events of a chat stream: where frames end, and what the few that matter say.

Two speeds. Until the first token every frame is parsed (`read`); afterwards bytes are only cut at frame ends
(`Splitter`) and searched for the few marks that need a closer look (`needs_reading`). Frames leave exactly as
they came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

from gateway.core.nouns import Usage
from gateway.wire.usage import RawUsage, read_usage

MAX_FRAME = 4 * 1024 * 1024
DONE = b"data: [DONE]\n\n"

FrameKind = Literal["comment", "empty", "token", "finish", "usage", "done", "unknown"]

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_MARK = re.compile(
    rb'finish_reason"\s*:\s*"|\[DONE\]|"error"|"usage"\s*:\s*\{|event:|"base_resp"|"object"\s*:\s*"error"'
)
_TOKEN = re.compile(rb'"(?:content|reasoning_content|reasoning|arguments|refusal|text)"\s*:\s*"[^"]')


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, read. `finish` and `usage` are set where the frame carries them."""

    kind: FrameKind
    data: bytes = b""
    finish: str | None = None
    usage: Usage | None = None


class FrameTooLong(ValueError):
    """A frame grew beyond `MAX_FRAME` without an end."""


class Splitter:
    """Cuts bytes at frame ends and keeps the unfinished rest.

    `feed` returns the complete part; `rest` is what has no end yet. Raises `FrameTooLong` when the rest grows
    without bound.
    """

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        if self.rest:
            data = self.rest + data
        if data.endswith(b"\n\n"):
            self.rest = b""
            return data
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4, data.rfind(b"\r\r") + 2)
        if end < 4 and not _END.search(data):
            end = 0
        self.rest = data[end:]
        if len(self.rest) > MAX_FRAME:
            raise FrameTooLong(f"a frame of more than {MAX_FRAME} bytes")
        return data[:end]


def frames(block: bytes) -> list[bytes]:
    """Cut a block of whole frames into single ones, each with its terminator."""
    found: list[bytes] = []
    start = 0
    for match in _END.finditer(block):
        found.append(block[start : match.end()])
        start = match.end()
    if start < len(block):
        found.append(block[start:])
    return found


def count(block: bytes) -> int:
    """How many data frames a block of whole frames holds (text that says `data:` may add to it)."""
    return block.count(b"data:")


def needs_reading(block: bytes, frames: int) -> bool:
    """Whether a block may hold a finish, usage, an error or the end. Cheap; errs towards True.

    An ordinary delta says `"finish_reason":null`; when as many do as there are frames, nothing else is in it.
    """
    if block.count(b'finish_reason":null') >= frames:
        return False
    return _MARK.search(block) is not None


def has_token(block: bytes) -> bool:
    """Whether a block holds at least one non-empty delta: what resets the token-gap clock."""
    return _TOKEN.search(block) is not None or b'"tool_calls":[' in block


class _Delta(msgspec.Struct):
    content: object = None
    reasoning_content: object = None
    reasoning: object = None
    refusal: object = None
    tool_calls: object = None
    function_call: object = None
    audio: object = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    text: object = None
    usage: RawUsage | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: RawUsage | None = None


_decode = msgspec.json.Decoder(_Chunk, strict=False).decode


def payload(frame: bytes) -> bytes | None:
    """The joined `data:` lines of a frame; None for a frame without data (comment, bare event)."""
    lines = [line[5:].removeprefix(b" ") for line in frame.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def read(frame: bytes) -> Frame:
    """What one frame means. Never raises; what cannot be understood is `unknown`."""
    data = payload(frame)
    if data is None:
        return Frame("comment")
    if data.strip() == b"[DONE]":
        return Frame("done", data)
    try:
        chunk = _decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Frame("unknown", data)
    return _meaning(chunk, data)


def _meaning(chunk: _Chunk, data: bytes) -> Frame:
    usage = read_usage(chunk.usage)
    finish = None
    token = False
    for choice in chunk.choices or ():
        finish = choice.finish_reason or finish
        token = token or bool(choice.text) or _says_something(choice.delta) or _says_something(choice.message)
        usage = usage or read_usage(choice.usage)
    if token:
        return Frame("token", data, finish, usage)
    if finish:
        return Frame("finish", data, finish, usage)
    if chunk.choices:
        return Frame("empty", data, None, usage)
    if usage is not None:
        return Frame("usage", data, None, usage)
    return Frame("empty" if chunk.choices is not None else "unknown", data)


def _says_something(delta: _Delta | None) -> bool:
    return delta is not None and bool(
        delta.content
        or delta.reasoning_content
        or delta.reasoning
        or delta.tool_calls
        or delta.function_call
        or delta.refusal
        or delta.audio
    )


def error_event(envelope: bytes) -> bytes:
    """An error in the middle of a stream, followed by the end mark, so that every client stops cleanly."""
    return b"data: " + envelope + b"\n\n" + DONE
