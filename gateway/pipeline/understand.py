"""Read the body and resolve the model. After `authenticate`, so that a stranger cannot make us buffer or parse."""

from __future__ import annotations

from gateway.errors import BadRequest, NotFound
from gateway.pipeline.live import Live
from gateway.policy import scalars
from gateway.policy.diagnose import nearest
from gateway.service import Call, Response, Service
from gateway.wire.chat import parse
from gateway.wire.prefix import marks

MAX_WAIT = "x-spillgate-max-wait"
_MAX_WAIT = MAX_WAIT.encode()
LONGEST_WAIT = 3600.0


class Understand:
    """Sets `call.chat`, `call.model` (our canonical name), `call.policy`, and `call.max_wait` if the client names one.

    Raises `BadRequest` or `NotFound`.
    """

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, call: Call, service: Service) -> Response:
        body = await call.read()
        call.chat = chat = parse(body)
        model = self._live.names.get(chat.model)
        allowed = call.caller.models if call.caller else None
        if model is None or (allowed is not None and model not in allowed):
            raise _unknown(chat.model, allowed, self._live)
        call.model = model
        call.policy = policy = self._live.policy_of[model]
        if policy in self._live.affine:
            call.affinity = marks(body, call.caller.name if call.caller else "", self._live.affine[policy])
        asked = call.headers.get(_MAX_WAIT)
        if asked is not None:
            call.max_wait = _max_wait(asked)
        return await service(call)


def _unknown(model: str, allowed: frozenset[str] | None, live: Live) -> NotFound:
    """The same words for a model that does not exist and for one that the caller may not use, and no name of such."""
    names = [alias for alias, name in live.names.items() if allowed is None or name in allowed]
    return NotFound(
        f"The model '{model[:100]}' does not exist here, or you may not use it: {nearest(model, names)} "
        "GET /v1/models lists all.",
        code="model_not_found",
        param="model",
    )


def _max_wait(asked: bytes) -> float:
    found = scalars.duration(asked.decode("latin-1").strip())
    if found is None or found > LONGEST_WAIT:
        raise BadRequest(
            f"The header {MAX_WAIT} must be a duration such as 500ms, 20s or 2m, at most 1h; 0 means: do not wait.",
            code="invalid_header",
            param=MAX_WAIT,
        )
    return found
