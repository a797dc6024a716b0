"""One answer, two forms: a stream of chunks folded into a whole completion, and the other way round.

Folding is exact or refused: a delta that is neither text, a tool call nor said once for all has no known sum, and then
there is no whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.core.nouns import Usage
from gateway.wire import sse

COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
"""Finish reasons of an answer that nobody cut short or filtered."""
_TEXTS = ("reasoning_content", "reasoning", "content")
_PIECE = re.compile(r"\s*[^\s\u2e80-\U0003ffff]{1,6}|\s*[\u2e80-\U0003ffff]{1,2}|\s+")
_LARGEST = 4096
_decode = msgspec.json.decode
_encode = msgspec.json.encode
_Json = dict[str, Any]


class Folder:
    """Takes a stream's blocks in and makes the whole completion. `lost`: it cannot be made."""

    def __init__(self) -> None:
        self.lost = False
        self._top: _Json = {}
        self._choices: dict[int, _Json] = {}
        self._usage: object = None

    def feed(self, block: bytes) -> None:
        """Take in whole frames. Never raises."""
        for raw in sse.frames(block):
            data = sse.payload(raw)
            if data is None or data.strip() == b"[DONE]":
                continue
            try:
                self._chunk(_decode(data))
            except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError, IndexError):
                self.lost = True

    def whole(self) -> bytes | None:
        """The completion as JSON; None when there is none."""
        if self.lost or not self._choices:
            return None
        choices = [self._choices[index] for index in sorted(self._choices)]
        if any(choice["finish_reason"] is None for choice in choices):
            return None
        answer = {**self._top, "object": "chat.completion", "choices": choices}
        if self._usage is not None:
            answer["usage"] = self._usage
        return _encode(answer)

    def _chunk(self, chunk: _Json) -> None:
        if chunk.get("error"):
            raise KeyError("error")
        for name, value in chunk.items():
            if name not in {"choices", "usage", "object"} and value is not None:
                self._top.setdefault(name, value)
        self._usage = chunk.get("usage") or self._usage
        for part in chunk.get("choices") or ():
            index = part.get("index", 0)
            choice = self._choices.setdefault(
                index, {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
            )
            for name, value in part.items():
                if name == "delta":
                    _merge(choice["message"], value or {})
                elif name == "logprobs":
                    if value is not None:
                        choice[name] = _logprobs(choice.get(name), value)
                elif name != "index" and value is not None:
                    choice[name] = value


def _merge(message: _Json, delta: _Json) -> None:
    """Add a delta. Raises TypeError where there is no sum."""
    for name, value in delta.items():
        if name == "tool_calls":
            _calls(message.setdefault(name, []), value or [])
        elif name == "function_call" and value is not None:
            _merge(message.setdefault(name, {}), value)
        elif name == "role":
            message[name] = value or message[name]
        elif value is None:
            message.setdefault(name, None)
        elif isinstance(value, str):
            message[name] = (message.get(name) or "") + value
        elif message.setdefault(name, value) != value:
            raise TypeError(name)


def _calls(calls: list[_Json], deltas: list[_Json]) -> None:
    for delta in deltas:
        index = delta["index"] if "index" in delta else max(0, len(calls) - 1)
        while len(calls) <= index < _LARGEST:
            calls.append({})
        call = calls[index]
        for name, value in delta.items():
            if name == "function":
                _function(call.setdefault(name, {}), value or {})
            elif name != "index" and value is not None and value != "":
                call[name] = value


def _function(function: _Json, delta: _Json) -> None:
    for name, value in delta.items():
        if isinstance(value, str):
            function[name] = function.get(name, "") + value
        elif value is not None:
            raise TypeError(name)


def _logprobs(known: _Json | None, more: _Json) -> _Json:
    found = dict(known or {})
    for name, value in more.items():
        found[name] = [*(found.get(name) or ()), *value] if isinstance(value, list) else found.get(name, value)
    return found


def unfold(whole: bytes, *, usage: bool, pieces: bool = False) -> Iterator[bytes]:
    """The frames of a well-formed stream that says what a completion says, with its usage if asked.

    `pieces`: text in pieces of about a token, to be sent at a pace; else in few.
    """
    answer: _Json = _decode(whole)
    top = {name: value for name, value in answer.items() if name not in {"choices", "usage", "object"}}
    top["object"] = "chat.completion.chunk"

    def frame(choices: list[_Json], **more: object) -> bytes:
        return b"data: " + _encode({**top, "choices": choices, **more}) + b"\n\n"

    for choice in answer["choices"]:
        index = choice["index"]
        for delta, logprobs in _deltas(choice, pieces):
            extra = {} if logprobs is None else {"logprobs": logprobs}
            yield frame([{"index": index, "delta": delta, **extra, "finish_reason": None}])
        rest = {name: value for name, value in choice.items() if name not in {"index", "message", "logprobs"}}
        yield frame([{"index": index, "delta": {}, **rest}])
    if usage and answer.get("usage") is not None:
        yield frame([], usage=answer["usage"])
    yield sse.DONE


def _deltas(choice: _Json, pieces: bool) -> Iterator[tuple[_Json, object]]:
    message: _Json = choice["message"]
    logprobs = choice.get("logprobs")
    first = {"role": message.get("role", "assistant"), "content": "" if message.get("content") is not None else None}
    yield first, None
    for name in _TEXTS:
        text = message.get(name)
        if isinstance(text, str):
            whole = name == "content" and logprobs is not None
            for piece in [text] if whole else _cut(text, pieces):
                yield {name: piece}, logprobs if whole else None
        elif text is not None:
            yield {name: text}, None
    rest = {name: value for name, value in message.items() if name not in {"role", *_TEXTS} and value is not None}
    if isinstance(rest.get("tool_calls"), list):
        rest["tool_calls"] = [{"index": at, **call} for at, call in enumerate(rest["tool_calls"])]
    if rest or (logprobs is not None and not isinstance(message.get("content"), str)):
        yield rest, None if isinstance(message.get("content"), str) else logprobs


def _cut(text: str, pieces: bool) -> Iterator[str]:
    if pieces:
        yield from _PIECE.findall(text)
    else:
        for start in range(0, len(text), _LARGEST):
            yield text[start : start + _LARGEST]


def storable(whole: bytes) -> bool:
    """Whether a completion is complete: every choice ended by itself, and says what it says."""
    try:
        answer = _decode(whole)
        choices = answer["choices"]
        return bool(choices) and all(
            choice.get("finish_reason") in COMPLETE and isinstance(choice["message"], dict) and "index" in choice
            for choice in choices
        )
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError):
        return False


def as_cached(whole: bytes, usage: Usage | None) -> bytes:
    """The completion as it is given again: its usage says that every prompt token came from a cache."""
    answer: _Json = _decode(whole)
    told = answer.get("usage")
    if usage is None or not isinstance(told, dict):
        return whole
    details = told.get("prompt_tokens_details")
    told["prompt_tokens_details"] = {**(details if isinstance(details, dict) else {}), "cached_tokens": usage.prompt}
    if "prompt_cache_hit_tokens" in told:
        told |= {"prompt_cache_hit_tokens": usage.prompt, "prompt_cache_miss_tokens": 0}
    return _encode(answer)
