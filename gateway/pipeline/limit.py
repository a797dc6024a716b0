"""A tenant's own limits: requests, tokens and streams, counted by this process, refused with the limit's name.

The same meter that guards a cloud account guards a tenant. Tokens are reserved by estimate and settled by what the
clouds counted.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf

from gateway.core.gauges import opens, rooms
from gateway.core.meter import FULL, Meter
from gateway.core.nouns import Limits, Usage
from gateway.errors import LimitReached
from gateway.pipeline.faults import why
from gateway.pipeline.live import Live
from gateway.policy.compiled import Tenant
from gateway.service import Call, Response, Service

BYTES_PER_TOKEN = 3.5
EXPECTED_ANSWER = 1024
_NONE = Limits()
_SPARE = 100


class Limit:
    """Raises `LimitReached` (429, named, with Retry-After); otherwise holds the room until the call has ended."""

    def __init__(self, live: Live, clock: Callable[[], float]) -> None:
        self._live = live
        self._clock = clock
        self._meters: dict[str, Meter] = {}
        self._declared: dict[str, Limits] = {}

    async def __call__(self, call: Call, service: Service) -> Response:
        tenant = call.caller
        if isinstance(tenant, Tenant) and tenant.limits != _NONE:
            self._enter(call, tenant)
        return await service(call)

    def _enter(self, call: Call, tenant: Tenant) -> None:
        meter = self._meter(tenant)
        chat = call.chat
        assert chat is not None
        now = self._clock()
        prompt = ceil(chat.prompt_bytes / BYTES_PER_TOKEN)
        answer = min(chat.max_tokens or EXPECTED_ANSWER, EXPECTED_ANSWER)
        if meter.load(prompt, prompt + answer, now) == FULL:
            raise _refusal(meter, prompt, prompt + answer, now)
        meter.take(prompt, answer, now)

        def leave(ended: Call) -> None:
            self._leave(meter, prompt, answer, now, ended)

        call.on_end.append(leave)

    def _leave(self, meter: Meter, prompt: int, answer: int, then: float, call: Call) -> None:
        now = self._clock()
        used = call.attempts[-1] if call.attempts else None
        usage = used.usage if used else _charged(call)
        spent = usage.completion if usage else (used.tokens if used else 0)
        if spent:
            meter.flow(spent, min(spent, answer), now)
        meter.release(max(0, answer - spent), now)
        if usage is not None:
            meter.correct(usage.prompt - prompt, then, now)
        elif used is None or not used.first_token:
            meter.correct(-prompt, then, now)

    def _meter(self, tenant: Tenant) -> Meter:
        meter = self._meters.get(tenant.name)
        if meter is None:
            self._forget()
            meter = self._meters[tenant.name] = Meter(tenant.name, tenant.limits)
        elif self._declared[tenant.name] is not tenant.limits:
            meter.declare(tenant.limits)
        self._declared[tenant.name] = tenant.limits
        return meter

    def _forget(self) -> None:
        """Tenants come and go at run time: when many have gone, let go of the meters that nobody has any more."""
        known = self._live.index.tenants
        if len(self._meters) > 2 * len(known) + _SPARE:
            for name in [name for name in self._meters if name not in known]:
                del self._meters[name]
                del self._declared[name]


def _charged(call: Call) -> Usage | None:
    """Tokens of an answer that another's call brought, where they count for each who got it."""
    return call.cache.usage if call.cache is not None and call.cache.charged else None


def _refusal(meter: Meter, prompt: int, total: int, now: float) -> LimitReached:
    full = [
        room
        for room in rooms(meter, now)
        if room.used + {"tpm": total, "tps": prompt}.get(room.kind, 1) > room.limit and room.used > 0
    ]
    names = ", ".join(f"{room.kind} ({room.limit:g})" for room in full) or "your limit"
    at = opens(meter, prompt, total, now, certain=False)
    wait = at - now if at < inf else 1.0
    limits = [{"name": r.kind, "used": r.used, "limit": r.limit} for r in full]
    details = {**why("tenant-limit", names if full else "", wait), "limits": limits}
    message = f"You have reached your limit: {names}."
    code = full[0].kind + "_exceeded" if full else "limit_exceeded"
    return LimitReached(message, code=code, retry_after=max(1.0, wait), details=details)
