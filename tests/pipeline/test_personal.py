"""A call for many goes through what counts money as its founder's; what is his alone is told to him alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.errors import BudgetSpent
from gateway.pipeline.cache import Cache
from gateway.service import Call, Response, Service, stack
from gateway.store.answers import MemoryAnswers
from gateway.testing import MemoryUpstream, Script

Run = Callable[[Coroutine[Any, Any, Any]], Any]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
WHOLE = json.dumps({"choices": [CHOICE], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}).encode()
ENV = {"POOR": "sk-poor-key", "RICH": "sk-rich-key"}
DOCUMENT = """
models: {r2: {}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x}}}
policies: {p: {tiers: [{backends: [one]}], cache: {share: all}}}
tenants:
  poor: {keys: ["${POOR}"]}
  rich: {keys: ["${RICH}"]}
"""


class Money:
    """A filter below the cache: the poor are refused after a while, the others warned, and every end is noted."""

    def __init__(self) -> None:
        self.ended: list[Call] = []

    async def __call__(self, call: Call, service: Service) -> Response:
        await asyncio.sleep(1)
        assert call.caller is not None
        if call.caller.name == "poor":
            raise BudgetSpent("Your budget is spent.", code="insufficient_quota")
        call.on_end.append(self.ended.append)
        response = await service(call)
        response.headers = [*response.headers, (b"x-spillgate-budget", b"warning; spent=0.90")]
        return response


def test_who_has_spent_his_budget_is_refused_and_nobody_with_him(run: Run, house: Any) -> None:
    async def scenario() -> None:
        cloud = MemoryUpstream(Script((1.0, WHOLE)))
        h = house({"one": cloud}, DOCUMENT, **ENV)
        money = Money()
        h.cache = Cache(h.live, h.loop.time, h.loop.time, MemoryAnswers(h.loop.time))
        inner = stack(h.cache, money, endpoint=h.dispatch)

        async def into(call: Call, service: Service) -> Response:
            del service
            return await inner(call)

        h.service = stack(*_front(h), into, endpoint=h.dispatch)
        keys = ["sk-poor-key", "sk-rich-key", "sk-poor-key", "sk-rich-key"]
        found = await asyncio.gather(*(h.ask(key=key, temperature=0) for key in keys))
        assert [response.status for response, _ in found] == [429, 200, 200, 200], "the third joined the second"
        assert len(cloud.bodies) == 1
        assert [name in dict(response.headers) for response, _ in found for name in [b"x-spillgate-budget"]] == [
            False, True, False, False,
        ]  # fmt: skip
        await asyncio.sleep(0.1)
        (made,) = money.ended
        assert made.ended == h.loop.time() - 0.1
        assert [a.usage.prompt for a in made.attempts if a.usage] == [7]
        assert (len(h.cache.flights), len(h.cache.running)) == (0, 0)

    run(scenario())


def _front(h: Any) -> list[Any]:
    """The filters before the limits."""
    from gateway.pipeline.authenticate import Authenticate
    from gateway.pipeline.observe import Observe
    from gateway.pipeline.understand import Understand

    return [
        Observe(h.loop.time, h.ended.append),
        Authenticate(h.live, lambda: 1.8e9),
        Understand(h.live, h.desk.form),
    ]
