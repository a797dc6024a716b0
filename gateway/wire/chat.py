"""A chat-completions body, understood at its top level only and spliced, never rebuilt.

The body is decoded to a mapping of raw JSON pieces; a 200 kB prompt stays the bytes it came as. Fields we do
not know pass through untouched. What we change per attempt is `model` and, for accounting,
`stream_options.include_usage`.
"""

from __future__ import annotations

from copy import copy

import msgspec

from gateway.core.ladder import Form
from gateway.errors import BadRequest
from gateway.wire.easing import Easing, ease

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.decode
_encode = msgspec.json.encode
_ASK_USAGE = b'"stream_options":{"include_usage":true}'


class Chat:
    """One parsed body. `include_usage` is what the client asked for; `prompt_bytes` is the size of its messages.

    `keeps_usage`: a stream's usage frame reaches him who reads it. `user_id` is the client's own member of that name as
    JSON, empty if it sent none. `full`: what was asked, where this is a lighter form of it.
    """

    __slots__ = (
        "_options", "_rest", "full", "include_usage", "keeps_usage", "max_tokens", "model", "prompt_bytes", "stream",
        "user_id",
    )  # fmt: skip

    def __init__(
        self,
        model: str,
        stream: bool,
        max_tokens: int | None,
        options: dict[str, object] | None,
        rest: bytes,
        size: int,
        user_id: bytes = b"",
    ) -> None:
        self.model = model
        self.stream = stream
        self.max_tokens = max_tokens
        self.include_usage = self.keeps_usage = bool(options and options.get("include_usage"))
        self.prompt_bytes = size
        self.user_id = user_id
        self.full: Chat | None = None
        self._options = options
        self._rest = rest

    def for_many(self) -> Chat:
        """The same, of which a stream's usage is kept for whoever asks for it, whatever this client asked for."""
        chat = copy(self)
        chat.keeps_usage = True
        return chat

    def fields(self) -> bytes:
        """The request without its model and stream options, as a JSON object."""
        user = b',"user_id":' + self.user_id if self.user_id else b""
        return b"{" + self._rest[1:] + user + b"}"

    def eased(self, form: Form, asked: str) -> tuple[Chat, Easing]:
        """The same request, lighter. Its fields about reasoning are left to the easing (see `wire.easing`)."""
        rest, cap, easing = ease(self._rest, form, asked)
        limit = self.max_tokens if cap is None else min(cap, self.max_tokens or cap)
        lighter = Chat(self.model, self.stream, limit, self._options, rest, self.prompt_bytes, self.user_id)
        lighter.full = self
        return lighter, easing

    def body(self, model_json: bytes, *, ask_usage: bool, user_id: bytes = b"", more: bytes = b"") -> bytes:
        """The bytes for one cloud: `model_json` is its model id as JSON, `user_id` (JSON) goes before the client's own.

        `ask_usage` adds include_usage to a streamed request, which the relay hides from a client that did not ask.
        `more` are further members, each after a comma.
        """
        rest = self._rest + more if more else self._rest
        user = user_id or self.user_id
        if user:
            rest = rest + b',"user_id":' + user
        if self.stream and ask_usage and not self.include_usage:
            if self._options is None:
                return b'{"model":' + model_json + b"," + _ASK_USAGE + rest + b"}"
            options = {**self._options, "include_usage": True}
            return b'{"model":' + model_json + b',"stream_options":' + _encode(options) + rest + b"}"
        if self._options is not None:
            return b'{"model":' + model_json + b',"stream_options":' + _encode(self._options) + rest + b"}"
        return b'{"model":' + model_json + rest + b"}"


def parse(body: bytes) -> Chat:
    """Understand a request body. Raises `BadRequest` naming the field (`param`) that is wrong."""
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The request body is not a JSON object: {error}", code="invalid_json") from None
    model = _model(fields.pop("model", None))
    stream = fields.get("stream")
    is_stream = stream is not None and _flag(bytes(stream))
    messages = fields.get("messages")
    size = _list_size(messages)
    options = _options(fields.pop("stream_options", None))
    user_id = fields.pop("user_id", None)
    max_tokens = _count(fields, "max_completion_tokens")
    if max_tokens is None:
        max_tokens = _count(fields, "max_tokens")
    tools = fields.get("tools")
    if tools is not None:
        size += memoryview(tools).nbytes
    user = bytes(user_id) if user_id is not None else b""
    return Chat(model, is_stream, max_tokens, options, _join(fields), size, user)


def _model(raw: msgspec.Raw | None) -> str:
    if raw is None:
        raise BadRequest("You must name a model.", code="missing_model", param="model")
    model = _value(raw, "model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must be a non-empty string.", code="invalid_type", param="model")
    return model


def _flag(raw: bytes) -> bool:
    if raw == b"true":
        return True
    if raw in {b"false", b"null"}:
        return False
    raise BadRequest("'stream' must be true or false.", code="invalid_type", param="stream")


def _list_size(raw: msgspec.Raw | None) -> int:
    view = memoryview(raw) if raw is not None else memoryview(b"")
    if bytes(view[:1]) != b"[":
        raise BadRequest("'messages' must be a list of messages.", code="invalid_messages", param="messages")
    if bytes(view[1:64]).lstrip()[:1] == b"]":
        raise BadRequest("'messages' must not be empty.", code="invalid_messages", param="messages")
    return view.nbytes


def _options(raw: msgspec.Raw | None) -> dict[str, object] | None:
    if raw is None:
        return None
    value = _value(raw, "stream_options")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRequest("'stream_options' must be an object.", code="invalid_type", param="stream_options")
    return value


def _count(fields: dict[str, msgspec.Raw], name: str) -> int | None:
    raw = fields.get(name)
    if raw is None:
        return None
    value = _value(raw, name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadRequest(f"'{name}' must be a positive whole number.", code="invalid_value", param=name)
    return value


def _value(raw: msgspec.Raw, name: str) -> object:
    try:
        value: object = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # raw strings are not checked for their encoding
        raise BadRequest(f"'{name}' is not valid JSON: {error}", code="invalid_json", param=name) from None
    return value


_KEYS: dict[str, bytes] = {
    name: b',"' + name.encode() + b'":'
    for name in (
        "messages", "stream", "temperature", "top_p", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
        "response_format", "stop", "n", "seed", "user", "frequency_penalty", "presence_penalty", "logprobs",
        "top_logprobs", "reasoning_effort", "thinking", "enable_thinking", "parallel_tool_calls",
    )
}  # fmt: skip


def _join(fields: dict[str, msgspec.Raw]) -> bytes:
    pieces: list[bytes | msgspec.Raw] = []
    for name, raw in fields.items():
        pieces.append(_KEYS.get(name) or b"," + _encode(name) + b":")
        pieces.append(raw)
    return b"".join(pieces)
