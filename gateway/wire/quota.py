"""A caller's limits as response headers, in OpenAI's form: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`."""

from __future__ import annotations


def duration(seconds: float) -> bytes:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s, 1h2m3s. Rounded up, so that who waits so long has waited enough."""
    ms = -int(-max(0.0, seconds) * 1000 // 1)
    if ms < 1000:
        return b"%dms" % ms
    whole, rest = divmod(ms, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return (text + (f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)) + "s").encode()


def headers(what: bytes, limit: int, left: int, span: float) -> list[tuple[bytes, bytes]]:
    """The three headers of one kind (`requests` or `tokens`); reset is when all is back at the limit's own pace."""
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, duration(span * (limit - left) / limit)),
    ]
