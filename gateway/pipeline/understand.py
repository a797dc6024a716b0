"""Read the body and resolve the model. After `authenticate`, so that a stranger cannot make us buffer or parse."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.ladder import FULL_FORM, Form
from gateway.core.nouns import ServiceClass
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
DEGRADE = "x-spillgate-degrade"
_DEGRADE = DEGRADE.encode()


class Understand:
    """Sets `call.chat`, `call.model` (our canonical name), `call.policy`, and `call.max_wait` if the client names one.

    Where the policy has a ladder, the request is made lighter here: limits, queue and clouds see what is left of it.
    `form` says what a model's requests must give up. Raises `BadRequest` or `NotFound`.
    """

    def __init__(self, live: Live, form: Callable[[str, ServiceClass], Form]) -> None:
        self._live = live
        self._form = form

    async def __call__(self, call: Call, service: Service) -> Response:
        body = await call.read()
        call.chat = chat = parse(body)
        model = self._live.names.get(chat.model)
        allowed = call.caller.models if call.caller else None
        if model is None or (allowed is not None and model not in allowed):
            raise _unknown(chat.model, allowed, self._live)
        call.model = model
        call.policy = self._live.policy_of[model]
        asked = call.headers.get(_MAX_WAIT)
        if asked is not None:
            call.max_wait = _max_wait(asked)
        if call.policy in self._live.laddered:
            self._ease(call)
        policy = call.policy  # of the model that answers
        if policy in self._live.affine:
            call.affinity = marks(body, call.caller.name if call.caller else "", self._live.affine[policy])
        return await service(call)

    def _ease(self, call: Call) -> None:
        """Take from the request what its policy's ladder says, unless the client would rather wait.

        That happens once: the ladder of a model that answers instead is not climbed, so there are no circles.
        """
        if _keeps_its_form(call.headers.get(_DEGRADE)):
            return
        chat, caller = call.chat, call.caller
        assert chat is not None
        assert caller is not None
        form = self._form(call.model, caller.class_)
        if form is FULL_FORM:
            return
        asked = ""
        if form.model and form.model != call.model and (caller.models is None or form.model in caller.models):
            asked, call.model = call.model, form.model
            call.policy = self._live.policy_of[form.model]
        call.chat, call.easing = chat.eased(form, asked)


def _keeps_its_form(asked: bytes | None) -> bool:
    if asked not in {None, b"never", b"allow"}:
        raise BadRequest(f"The header {DEGRADE} must be never or allow.", code="invalid_header", param=DEGRADE)
    return asked == b"never"


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
