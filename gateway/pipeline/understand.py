"""Read the body and resolve the model. After `authenticate`, so that a stranger cannot make us buffer or parse."""

from __future__ import annotations

from gateway.errors import NotFound
from gateway.pipeline.live import Live
from gateway.policy.diagnose import nearest
from gateway.service import Call, Response, Service
from gateway.wire.chat import parse


class Understand:
    """Sets `call.chat`, `call.model` (our canonical name) and `call.policy`; raises `BadRequest` or `NotFound`."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, call: Call, service: Service) -> Response:
        call.chat = chat = parse(await call.read())
        model = self._live.names.get(chat.model)
        allowed = call.caller.models if call.caller else None
        if model is None or (allowed is not None and model not in allowed):
            raise _unknown(chat.model, allowed, self._live)
        call.model = model
        call.policy = self._live.policy_of[model]
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
