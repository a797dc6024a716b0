"""Whatever is asked, by whomever, in whatever order: a hit is the answer to that very question of that very tenant."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.testing import MemoryReply, MemoryUpstream, Script, virtual_time
from gateway.wire import sse
from tests.pipeline.conftest import House

ENV = {"ACME": "sk-acme-key", "BETA": "sk-beta-key"}
KEYS = tuple(ENV.values())
DOCUMENT = """
models: {r2: {policy: p, aliases: [r2-again]}, r3: {policy: p}}
backends: {one: {preset: vllm, base_url: "http://one/v1", serves: {r2: x, r3: y}}}
policies: {p: {tiers: [{backends: [one]}], cache: {when: always, max_entries: 5}}}
tenants:
  acme: {keys: ["${ACME}"]}
  beta: {keys: ["${BETA}"]}
"""
FIELDS: dict[str, list[Any]] = {
    "messages": [
        [{"role": "user", "content": "a"}], [{"content": "a", "role": "user"}], [{"role": "user", "content": "á"}],
    ],
    "temperature": [0, 0.0, 1, None],
    "seed": [1, "1", True],
    "tools": [[], [{"type": "function", "function": {"name": "f"}}]],
    "response_format": [{"type": "text"}, {"type": "json_object"}],
    "stop": [None, "x", ["x"]],
    "user": ["u1", "u2"],
    "user_id": ["u1", "u2"],
    "vendor": [None, 0, False, "0"],
}  # fmt: skip
MEANS_NOTHING = {("response_format", '{"type": "text"}'), ("stop", "null"), ("temperature", "null")}
requests = st.fixed_dictionaries(
    {"messages": st.sampled_from(FIELDS["messages"]), "model": st.sampled_from(["r2", "r2-again", "r3"])},
    optional={name: st.sampled_from(found) for name, found in FIELDS.items() if name != "messages"},
)


def meaning(key: str, request: Mapping[str, Any]) -> str:
    """What is asked, by rules as simple as can be."""
    told = {"key": key, "model": request["model"].removesuffix("-again")}
    for name, value in request.items():
        written = json.dumps(value, sort_keys=True).replace(".0", "")
        if name not in {"model", "user"} and (name, written) not in MEANS_NOTHING:
            told[name] = written
    return json.dumps(told, sort_keys=True)


class Echo(MemoryUpstream):
    """A cloud whose answer is made of all that it was asked, and of how often it was."""

    def __init__(self) -> None:
        super().__init__(Script())

    async def send(self, body: bytes, headers: Mapping[str, str]) -> MemoryReply:
        asked = json.loads(body)
        text = f"{len(self.bodies)} {hashlib.sha256(body).hexdigest()}"
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if asked.get("stream"):
            choice["delta"] = {"role": "assistant", "content": text}
            steps = [
                (0.0, b"data: " + json.dumps({"id": "1", "choices": [choice]}).encode() + b"\n\n"),
                (0.0, sse.DONE),
            ]
        else:
            choice["message"] = {"role": "assistant", "content": text}
            steps = [(0.1, json.dumps({"id": "1", "choices": [choice]}).encode())]
        self._scripts = [Script(*steps)]
        return await super().send(body, headers)


def text_of(body: bytes) -> str:
    if not body.startswith(b"data: "):
        found: str = json.loads(body)["choices"][0]["message"]["content"]
        return found
    chunks = [json.loads(data) for raw in sse.frames(body) if (data := sse.payload(raw)) and data != b"[DONE]"]
    return "".join(part["delta"].get("content") or "" for one in chunks for part in one["choices"])


asks = st.tuples(st.sampled_from(KEYS), requests, st.booleans())


@given(st.lists(asks, min_size=2, max_size=14))
def test_a_hit_is_the_answer_to_that_very_question(told: list[tuple[str, dict[str, Any], bool]]) -> None:
    async def scenario() -> None:
        h = House({"one": Echo()}, DOCUMENT, **ENV)
        answers: dict[str, str] = {}
        for key, request, stream in told:
            response, call = await h.ask(body=json.dumps({**request, "stream": stream}).encode(), key=key)
            text = text_of(await h.drain(response, call))
            await asyncio.sleep(0.01)
            what = meaning(key, request)
            assert call.cache is not None
            if call.cache.result == "hit":
                assert answers[what] == text
            else:
                assert call.cache.result == "miss"
                assert text not in answers.values()
            answers[what] = text
            assert h.cache.answers.standing().entries <= 5
        h.assert_quiet()

    with virtual_time() as run:
        run(scenario())
