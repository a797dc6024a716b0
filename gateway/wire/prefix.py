"""Marks: hashes of ever longer beginnings of a prompt, so that what shares a beginning can be recognised.

A mark stands at the end of the tools, of every message, and of every `BLOCK` bytes within one: about as fine as clouds
cut their caches. They are hashes of what the client wrote, as it wrote it; whoever sends the same conversation with one
more message has all its earlier marks. Marks of two tenants have nothing in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

BLOCK = 2048
MOST = 64
"""Marks of one prompt; what comes behind them is not looked at."""
VOLATILE = 4096
"""So many bytes of the first message may hold something that changes while the rest stays."""


class _Prompt(msgspec.Struct):
    messages: list[msgspec.Raw]
    tools: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Prompt).decode


def marks(body: bytes, tenant: str, ignore: re.Pattern[bytes] | None) -> tuple[int, ...]:
    """The marks of a request body, at most `MOST`; none of a body without messages, which somebody else refuses.

    `ignore`: what is cut out of the beginning first.
    """
    try:
        prompt = _decode(body)
    except msgspec.MsgspecError:
        return ()
    hashed = blake2b(tenant.encode(), digest_size=8)
    found = []
    for piece in _pieces(prompt, ignore):
        hashed.update(piece)
        found.append(int.from_bytes(hashed.digest(), "big"))
        if len(found) == MOST:
            break
    return tuple(found)


def _pieces(prompt: _Prompt, ignore: re.Pattern[bytes] | None) -> Iterator[bytes | memoryview]:
    tools = memoryview(prompt.tools)
    if tools.nbytes:
        yield tools
    for place, message in enumerate(prompt.messages):
        view = memoryview(message)
        if place == 0 and ignore is not None:
            yield ignore.sub(b"", bytes(view[:VOLATILE]))
            view = view[VOLATILE:]
            if not view.nbytes:
                continue
        for start in range(0, view.nbytes, BLOCK):
            yield view[start : start + BLOCK]


def pattern(ignore: str) -> re.Pattern[bytes] | None:
    """What a policy ignores, as `marks` takes it; None where it ignores nothing."""
    return re.compile(ignore.encode()) if ignore else None
