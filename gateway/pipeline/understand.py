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
        if model is None:
            raise NotFound(
                f"The model '{chat.model[:100]}' does not exist here: {nearest(chat.model, self._live.names)} "
                "GET /v1/models lists all.",
                code="model_not_found",
                param="model",
            )
        call.model = model
        call.policy = self._live.policy_of[model]
        return await service(call)
