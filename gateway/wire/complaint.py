"""What a cloud wrote when it refused: code, type and message out of every body shape that was seen.

Known shapes: OpenAI's `{"error": {…}}`, a flat `{code, message, …}`, `error_code`/`error_msg`, `base_resp`,
`{"object": "error", …}`, an error that is only a string, a bare JSON string, a list of one, an event stream, HTML,
nothing.
Nothing here raises, whatever the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

MAX_PARSED = 1024 * 1024
MAX_MESSAGE = 1000
MAX_SHOWN = 500
MAX_NAME = 120

_NESTS = ("error", "base_resp", "response", "errors", "detail")
_CODES = ("code", "error_code", "errorcode", "status_code")
_TYPES = ("type", "error_type", "reason", "error_name")
_MESSAGES = ("message", "error_msg", "errormsg", "error_message", "msg", "status_msg", "error_description")

_decode = msgspec.json.decode
_TAG = re.compile(r"<[^<>]{0,300}>")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]")
_LINK = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,20}://\S*")
_SECRET = re.compile(
    r"(?ai)\b(?:bearer|basic)\s+\S+"
    r"|\b(?:api[_-]?key|authorization|access[_-]?token|secret|password)\b\"?\s*[:=]\s*\S+"
    r"|\b(?:sk|pk|ak|rk|bce-v3|key)-[\w*./-]{6,}"
    r"|\beyJ[\w-]{8,}\.[\w.-]+"
)
_OPAQUE = re.compile(r"[A-Za-z0-9_/+=-]{28,}")


@dataclass(frozen=True, slots=True)
class Complaint:
    """One error, read. `names` (lower case) are what rules may match, the most telling first.

    `status` is an HTTP status that the body itself names, 0 when it names none.
    """

    names: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    status: int = 0


def read(body: bytes) -> Complaint:
    """Read an error body of any shape. Never raises."""
    value = parse(body[:MAX_PARSED])
    if value is None:
        return Complaint(message=_tidy(body[: 4 * MAX_MESSAGE].decode("utf-8", "replace")))
    return understand(value)


def parse(body: bytes) -> object:
    """The JSON value of a body, or of the first event of a stream; None when there is none."""
    text = body.strip()
    if not text.startswith((b"{", b"[", b'"')):
        text = next(payloads(text), b"")
    try:
        value: object = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value


def payloads(block: bytes) -> Iterator[bytes]:
    """The `data:` lines of an event stream that hold an object; comments, ids and the end mark are passed over."""
    for line in block.splitlines():
        if line.startswith(b"data:") and (data := line[5:].strip()).startswith(b"{"):
            yield data


def understand(value: object) -> Complaint:
    """The same for a value that is parsed already."""
    layers = _unfold(value, 3)
    code, type_ = _first_name(layers, _CODES), _first_name(layers, _TYPES)
    message = _first_message(layers) or code or type_
    names = [f"upstream:{layer['upstream_status']}" for layer in layers if "upstream_status" in layer]
    tail = code.rpartition(".")[2]
    names += [code, tail if tail.isdigit() else "", type_]
    number = int(code) if len(code) == 3 and code.isascii() and code.isdigit() else 0
    return Complaint(
        names=tuple(dict.fromkeys(name.lower() for name in names if name)),
        code=code or type_,
        message=message,
        status=number if 400 <= number <= 599 else 0,
    )


def _unfold(value: object, depth: int) -> list[Mapping[str, object]]:
    """The objects that may name the error, innermost first, keys in lower case."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str):
        return [{"type" if len(value) <= MAX_NAME and _NAME.fullmatch(value) else "message": value}]
    if not isinstance(value, dict):
        return []
    here = {str(key).lower(): item for key, item in value.items()}
    inner = [layer for nest in _NESTS if depth and nest in here for layer in _unfold(here[nest], depth - 1)]
    return [*inner, here]


def _first_name(layers: list[Mapping[str, object]], keys: tuple[str, ...]) -> str:
    for layer in layers:
        for key in keys:
            if name := as_name(layer.get(key)):
                return name
    return ""


def as_name(value: object) -> str:
    """A code as text: numbers become digits; zero, emptiness and anything else is no code."""
    if isinstance(value, bool) or value in (None, 0, "0", ""):
        return ""
    if isinstance(value, int | float):
        return f"{value:.0f}"[:MAX_NAME]
    return value.strip()[:MAX_NAME] if isinstance(value, str) else ""


def _first_message(layers: list[Mapping[str, object]]) -> str:
    for layer in layers:
        for key in _MESSAGES:
            if isinstance(text := layer.get(key), str) and text.strip():
                return _tidy(text)
    return ""


def _tidy(text: str) -> str:
    return " ".join(_TAG.sub(" ", text[: 4 * MAX_MESSAGE]).split())[:MAX_MESSAGE]


def presentable(message: str) -> str:
    """A cloud's message made safe for a client: bounded; without markup, links, keys or control characters."""
    text = "".join(char if char.isprintable() else " " for char in message[: 4 * MAX_MESSAGE])
    text = _SECRET.sub("[removed]", _LINK.sub("[link]", _TAG.sub(" ", text)))
    text = _OPAQUE.sub(_without_keys, text)
    text = " ".join(text.replace("<", " ").replace(">", " ").split())
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _without_keys(match: re.Match[str]) -> str:
    """A long run of letters and digits is taken for a key; a long word is not."""
    run = match[0]
    return "[removed]" if any(char.isdigit() for char in run) else run
