"""What a refusal means: by code, then by text, then by status, and never by status alone where more was said.

A 429 means six different things among Chinese clouds, and 400, 401 and 403 each hide a bill or a model that is gone
somewhere. So each cloud brings a table (`Dialect.rules`, data), and rows that all share come after it
(`Dialect.fallback`). The order, first hit wins:

    1. the cloud's own rows by code, then its own rows by text
    2. shared rows by code, then shared rows by text
    3. the cloud's own rows by status, then shared rows by status
    4. the class of the status

Errors also hide inside HTTP 200 (`in_band`). Nothing here raises, whatever bytes a cloud sends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.core.nouns import Failed, Limited, Outcome, Overloaded, Rejected, Unusable
from gateway.wire import complaint, hints
from gateway.wire.complaint import Complaint
from gateway.wire.dialect import Dialect, Rule, Signal, SignalKind

UNKNOWN = 0
"""The status of an error inside a 200 that names none: rows with a code or a text match whatever status they name."""

_TIMED = frozenset({"rpm", "tpm", "burst", "concurrency", "quota", "overloaded"})
_RESET_HEADERS = {"rpm": ("reset-requests", "reset"), "tpm": ("reset-tokens", "reset")}
_TOO_LONG = re.compile(
    r"(?i)context[ _](?:length|window|size)|range of input length|(?:prompt|input|request)\S* (?:is|are) too (?:long|large)"
    r"|too many (?:input |prompt )?tokens|(?:input|prompt) (?:tokens?|length) .{0,40}exceed"
    r"|上下文长度|输入.{0,20}(?:过长|超长)"
)

# --- a refusal with a status of its own -------------------------------------------------------------------


def classify(
    dialect: Dialect, status: int, headers: Mapping[str, str], body: bytes, *, wall: float | None = None
) -> Signal:
    """Understand an answer that is not a 200. `wall` is the time of day (unix seconds) for waits that end by the clock.

    Never raises; header names may have any case.
    """
    return _signal(dialect, status, complaint.read(body), {name.lower(): text for name, text in headers.items()}, wall)


def _signal(dialect: Dialect, status: int, said: Complaint, headers: Mapping[str, str], wall: float | None) -> Signal:
    rule = _find(dialect, status, said)
    kind = rule.kind if rule else _by_class(status)
    code = (rule.report_as if rule else "") or said.code
    if kind == "invalid" and _TOO_LONG.search(said.message):
        code = "context_length_exceeded"
    return Signal(
        kind=kind,
        status=status or 200,
        code=code,
        message=said.message,
        retry_after=_wait(dialect, rule, said, headers, wall) if rule and kind in _TIMED else None,
        limit=hints.limit(kind, said.message),
    )


def _find(dialect: Dialect, status: int, said: Complaint) -> Rule | None:
    for table in (dialect.rules, dialect.fallback):
        rule = _by_code(table, status, said) or _by_text(table, status, said.message)
        if rule is not None:
            return rule
    for table in (dialect.rules, dialect.fallback):
        for rule in table:
            if not rule.codes and not rule.text and status in rule.status:
                return rule
    return None


def _by_code(table: tuple[Rule, ...], status: int, said: Complaint) -> Rule | None:
    message = said.message.lower()
    for name in said.names:
        for rule in table:
            if rule.codes and _fits(rule, status, message) and any(_is(name, code.lower()) for code in rule.codes):
                return rule
    return None


def _by_text(table: tuple[Rule, ...], status: int, message: str) -> Rule | None:
    lowered = message.lower()
    return next((rule for rule in table if rule.text and not rule.codes and _fits(rule, status, lowered)), None)


def _fits(rule: Rule, status: int, message: str) -> bool:
    if rule.status and status not in rule.status and status != UNKNOWN:
        return False
    return not rule.text or any(_says(message, text.lower()) for text in rule.text)


def _says(message: str, text: str) -> bool:
    return message.rstrip(".") == text[1:] if text.startswith("=") else text in message


def _is(name: str, code: str) -> bool:
    return name.startswith(code[:-1]) if code.endswith("*") else name == code


def _by_class(status: int) -> SignalKind:
    """An unknown 4xx is the request's fault, as HTTP says; anything else is the server's."""
    return "invalid" if 400 <= status < 500 else "server"


def _wait(
    dialect: Dialect, rule: Rule, said: Complaint, headers: Mapping[str, str], wall: float | None
) -> float | None:
    """What the cloud asks for, else what its reset header says, else what the row says."""
    found = hints.wait(headers, said.message, wall)
    if found is not None:
        return found
    for meaning in _RESET_HEADERS.get(rule.kind, ()):
        name = dialect.rate_headers.get(meaning)
        reset = hints.duration(headers.get(name.lower())) if name else None
        if reset is not None and reset <= hints.DAY:
            return reset
    return hints.until(rule.until, wall) if rule.until else rule.cool


# --- an error inside a 200 --------------------------------------------------------------------------------

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ANSWERS = re.compile(rb'"choices"\s*:\s*\[\s*\{')
_NOTHING = frozenset({b"", b"null", b"{}", b"[]", b'""', b"0", b"false"})
_FINE = frozenset({"0", "200", "20000", "success", "ok"})
_FLAT = ("code", "error_code", "message", "error_msg", "msg", "detail", "Response")


def in_band(dialect: Dialect, body_or_frame: bytes, *, wall: float | None = None) -> Signal | None:
    """An error that came with HTTP 200: in a whole body, one frame's data, or a few frames. None when there is none.

    Cheap for answers (two searches); what looks odd is parsed, so words inside an answer's text never count.
    A chunk with nothing in it, or with usage only, is no error.
    """
    body = body_or_frame.strip()
    pieces: Iterator[bytes] = iter((body,)) if body.startswith((b"{", b'"')) else complaint.payloads(body)
    for piece in pieces:
        if _looks_like_an_answer(piece):
            continue
        said = _complaint_in(piece)
        if said is not None:
            return _signal(dialect, said.status or UNKNOWN, said, {}, wall) if said.names or said.message else _EMPTY
    return None


_EMPTY = Signal("server", 200, "empty_answer", "an answer without choices")


def _looks_like_an_answer(piece: bytes) -> bool:
    return b'"error"' not in piece and b'"base_resp"' not in piece and _ANSWERS.search(piece) is not None


def _complaint_in(piece: bytes) -> Complaint | None:
    try:
        fields = {"message": msgspec.Raw(piece)} if piece.startswith(b'"') else _decode_fields(piece)
        if not _is_error(fields):
            return None
        return complaint.understand({name: _decode(raw) for name, raw in fields.items() if name != "choices"})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decode(raw: msgspec.Raw) -> Any:
    return msgspec.json.decode(raw)


def _has(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    raw = fields.get(name)
    return raw is not None and bytes(raw).strip() not in _NOTHING


def _is_error(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether a JSON object inside a 200 says that it is one."""
    if _has(fields, "error") or ("object" in fields and _decode(fields["object"]) == "error"):
        return True
    if _has(fields, "base_resp"):
        base = _decode(fields["base_resp"])
        if isinstance(base, dict) and complaint.as_name(base.get("status_code")):
            return True
    if "choices" in fields:
        return not _has(fields, "choices") and not _has(fields, "usage") and not _is_chunk(fields)
    if "code" in fields and str(_decode(fields["code"])).lower() in _FINE:
        return False
    return any(_has(fields, name) for name in _FLAT)


def _is_chunk(fields: Mapping[str, msgspec.Raw]) -> bool:
    return "object" in fields and str(_decode(fields["object"])).endswith(".chunk")


def failed_finish(dialect: Dialect, reason: str) -> bool:
    """Whether this finish reason means that the answer was cut for lack of capacity."""
    return reason in dialect.failed_finishes


# --- what follows from it ---------------------------------------------------------------------------------


def outcome(signal: Signal) -> Outcome:
    """How the lease ended, in the dispatcher's words."""
    match signal.kind:
        case "rpm" | "tpm" | "burst" | "concurrency" | "quota":
            return Limited(signal.kind, signal.retry_after, signal.limit)
        case "overloaded":
            return Overloaded(signal.retry_after)
        case "timeout" | "server":
            return Failed(signal.kind)
        case "auth" | "not_found":
            return Unusable(signal.kind)
        case _:
            return Rejected(signal.kind)


_OURS: Mapping[str, tuple[int, str]] = {
    "overloaded": (503, "overloaded_error"),
    "timeout": (504, "timeout_error"),
    "auth": (502, "upstream_error"),
    "not_found": (502, "upstream_error"),
    "server": (502, "upstream_error"),
}
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.]{1,47}")


def client_error(signal: Signal) -> tuple[int, str, str, str]:
    """Status, OpenAI type, code and message that a client may see.

    Only what concerns the request itself carries the cloud's words, and those cleaned; everything else is our own
    trouble and is told in general terms.
    """
    if signal.kind == "content":
        return 400, "invalid_request_error", "content_filter", "The cloud's content filter refused this request."
    if signal.kind == "invalid":
        status = signal.status if signal.status in {413, 422} else 400
        code = signal.code if _CODE.fullmatch(signal.code) else "invalid_request"
        message = complaint.presentable(signal.message) or "The cloud says that this request is not valid."
        return status, "invalid_request_error", code, message
    status, type_ = _OURS.get(signal.kind, (429, "rate_limit_error"))
    return status, type_, f"upstream_{signal.kind}", "The cloud could not take this request."
