"""GET /traces, /traces/{id} and /explain: what `spillgate trace` and `explain --live` ask. For who may see /status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any, cast, get_args

from gateway.core.estimate import BYTES_PER_TOKEN
from gateway.core.explain import Candidate
from gateway.core.nouns import Request, ServiceClass
from gateway.errors import BadRequest, NotFound
from gateway.pipeline.live import Live
from gateway.pipeline.lookup import Lookup, plain
from gateway.policy.diagnose import nearest
from gateway.telemetry.recent import PICKS

MOST = 1000
COUNT = 10
PROMPT = 500
Words = Mapping[str, str]


class Look:
    """One method per route. Each answers with plain data, or raises `RequestError`."""

    def __init__(self, live: Live, lookup: Lookup | None, explain: Callable[[Request], tuple[Candidate, ...]]) -> None:
        self._live = live
        self._lookup = lookup
        self._explain = explain

    async def trace(self, name: str) -> Mapping[str, Any]:
        """One request, by its id or its trace's."""
        found = await self._lookup.find(name) if self._lookup is not None else None
        if found is None:
            raise NotFound(f"No request '{name[:128]}' is remembered.", code="trace_not_found")
        return plain(found)

    async def traces(self, words: Words) -> Mapping[str, Any]:
        """Some requests: `pick` them, `count` of them."""
        pick, count = words.get("pick", "last"), _number(words, "count", COUNT, MOST)
        if pick not in PICKS:
            raise BadRequest(f"'pick' must be one of {', '.join(PICKS)}.", code="invalid_value", param="pick")
        if self._lookup is None:
            return {"object": "list", "data": []}
        found = [plain(told) for told in await self._lookup.pick(pick, count)]
        return {"object": "list", "data": found, "trouble": self._lookup.trouble}

    async def explain(self, words: Words) -> Mapping[str, Any]:
        """Where a request would go at this moment, and why not elsewhere."""
        names = self._live.names
        asked = words.get("model") or (next(iter(set(names.values()))) if len(set(names.values())) == 1 else "")
        if asked not in names:
            raise NotFound(f"There is no model '{asked[:100]}': {nearest(asked, names)}", code="model_not_found")
        class_ = words.get("class", "standard")
        if class_ not in get_args(ServiceClass):
            raise BadRequest("There is no such class.", code="invalid_value", param="class")
        most = _number(words, "max_tokens", 0, 10**9)
        request = Request(
            id="explain",
            tenant=words.get("tenant", "local"),
            model=names[asked],
            class_=cast("ServiceClass", class_),
            prompt_bytes=ceil(_number(words, "prompt_tokens", PROMPT, 10**8) * BYTES_PER_TOKEN),
            max_tokens=most or None,
            stream=words.get("stream", "yes") != "no",
            arrived=0.0,
        )
        policy = self._live.policy_of[request.model]
        return {"model": request.model, "policy": policy, "candidates": self._explain(request)}


def _number(words: Words, name: str, default: int, most: int) -> int:
    said = words.get(name, "")
    if not said:
        return default
    if not said.isdigit() or not said.isascii() or len(said) > 12 or int(said) > most:
        raise BadRequest(f"'{name}' must be a number up to {most}.", code="invalid_value", param=name)
    return int(said)
