"""An answer in two forms: chunks make a whole, a whole makes chunks, and both say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.nouns import Usage
from gateway.wire import sse
from gateway.wire.answer import Folder, as_cached, storable, unfold

TOOLS = [
    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
]


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    top = {"id": "x", "object": "chat.completion.chunk", "created": 5, "model": "m", **more}
    return b"data: " + json.dumps({**top, "choices": list(choices)}).encode() + b"\n\n"


def part(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def folded(*blocks: bytes) -> Any:
    folder = Folder()
    for block in blocks:
        folder.feed(block)
    whole = folder.whole()
    return None if whole is None else json.loads(whole)


def test_chunks_make_a_whole() -> None:
    found = folded(
        b": keep-alive\n\n",
        chunk(part({"role": "assistant", "content": ""}), usage=None, system_fingerprint="fp"),
        chunk(part({"reasoning_content": "hm", "content": None})) + chunk(part({"reasoning_content": "m"})),
        chunk(part({"content": "hé"})),
        chunk(part({"content": "llo", "refusal": None})),
        chunk(part({}, "stop", stop_reason=7)),
        chunk(usage={"prompt_tokens": 3, "completion_tokens": 2}),
        sse.DONE,
    )
    message = {"role": "assistant", "content": "héllo", "reasoning_content": "hmm", "refusal": None}
    assert found == {
        "id": "x", "created": 5, "model": "m", "system_fingerprint": "fp", "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "stop_reason": 7}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }  # fmt: skip


def test_tool_calls_are_put_together_by_their_index() -> None:
    def call(index: int | None, **more: Any) -> dict[str, Any]:
        return {**({} if index is None else {"index": index}), **more}

    found = folded(
        chunk(part({"tool_calls": [call(0, id="c1", type="function", function={"name": "f", "arguments": ""})]})),
        chunk(part({"tool_calls": [call(0, id="", function={"name": None, "arguments": '{"a"'})]})),
        chunk(part({"tool_calls": [call(None, function={"arguments": ": 1}"})]})),
        chunk(part({"tool_calls": [call(1, id="c2", type="function", function={"name": "g", "arguments": ""})]})),
        chunk(part({"tool_calls": None, "function_call": {"name": "h", "arguments": "1"}})),
        chunk(part({"function_call": {"arguments": "2"}}, "tool_calls")),
    )
    message = found["choices"][0]["message"]
    assert message["tool_calls"] == TOOLS
    assert message["function_call"] == {"name": "h", "arguments": "12"}
    assert message["content"] is None


def test_several_choices_and_their_logprobs_stay_apart() -> None:
    found = folded(
        chunk(part({"content": "b"}, index=1, logprobs={"content": [{"token": "b"}], "refusal": None})),
        chunk(part({"content": "a"}, logprobs=None)),
        chunk(part({"content": "c"}, "stop", index=1, logprobs={"content": [{"token": "c"}], "refusal": None})),
        chunk(part({}, "stop", 0)),
    )
    assert [choice["message"]["content"] for choice in found["choices"]] == ["a", "bc"]
    assert found["choices"][1]["logprobs"] == {"content": [{"token": "b"}, {"token": "c"}], "refusal": None}
    assert "logprobs" not in found["choices"][0]


@pytest.mark.parametrize(
    "blocks",
    [
        (),
        (sse.DONE,),
        (chunk(part({"content": "a"})),),  # no finish
        (chunk(part({"content": "a"}, "stop"), part({"content": "b"}, index=1)),),
        (b"data: not json\n\n", chunk(part({}, "stop"))),
        (b'data: {"error": {"message": "x"}}\n\n', chunk(part({}, "stop"))),
        (b"data: [1]\n\n", chunk(part({}, "stop"))),
        (chunk(part({"details": [1]})), chunk(part({"details": [2]}, "stop"))),  # no known sum
        (chunk(part({"tool_calls": [{"index": 10**9}]}, "stop")),),
        (chunk(part({"tool_calls": [{"index": -1}]}, "stop")),),
        (chunk(part({"tool_calls": [{"index": 0, "function": {"x": {}}}]}, "stop")),),
        (b'data: {"choices": [{"delta": "\xff"}]}\n\n',),
    ],
    ids=range(12),
)
def test_what_does_not_make_a_whole_makes_none(blocks: tuple[bytes, ...]) -> None:
    assert folded(*blocks) is None


def test_what_is_said_once_for_all_is_taken_as_it_is() -> None:
    found = folded(chunk(part({"audio": {"id": 1}})), chunk(part({"audio": {"id": 1}}, "stop")))
    assert found["choices"][0]["message"]["audio"] == {"id": 1}


words = st.text(max_size=40)
messages = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": words | st.none()},
    optional={
        "reasoning_content": words.filter(bool), "refusal": words, "tool_calls": st.just(TOOLS),
        "annotations": st.just([{"type": "x"}]), "function_call": st.just({"name": "f", "arguments": "{}"}),
    },
)  # fmt: skip
choices = st.builds(
    lambda message, logprobs: {
        "message": message,
        "finish_reason": "stop",
        **({"logprobs": logprobs} if logprobs else {}),
    },
    messages,
    st.none() | st.just({"content": [{"token": "a"}]}),
)
answers = st.builds(
    lambda found, usage: {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": index, **choice} for index, choice in enumerate(found)],
        **({"usage": {"prompt_tokens": 1, "completion_tokens": 2}} if usage else {}),
    },
    st.lists(choices, min_size=1, max_size=3), st.booleans(),
)  # fmt: skip


@given(answers, st.booleans())
def test_a_whole_survives_being_a_stream(answer: dict[str, Any], pieces: bool) -> None:
    whole = json.dumps(answer).encode()
    frames = list(unfold(whole, usage=True, pieces=pieces))
    found = folded(*frames)
    assert found == answer
    assert frames[-1] == sse.DONE
    assert all(frame.startswith(b"data: ") and frame.endswith(b"\n\n") for frame in frames)
    kinds = [sse.read(frame).kind for frame in frames]
    assert ("usage" in kinds) == ("usage" in answer)
    assert "usage" not in [sse.read(frame).kind for frame in unfold(whole, usage=False)]


def test_a_stream_at_a_pace_comes_in_pieces_of_a_token_or_so() -> None:
    text = "The quick brown fox, 快的棕色狐狸跳过了懒狗 and\n\nbackwards."
    answer = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}
    at_once = list(unfold(json.dumps(answer).encode(), usage=True))
    paced = list(unfold(json.dumps(answer).encode(), usage=True, pieces=True))
    assert len(at_once) == 4
    assert 14 <= len(paced) <= 30


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"choices": [{"index": 0, "message": {}, "finish_reason": "stop"}]}, True),
        ({"choices": [{"index": 0, "message": {}, "finish_reason": "tool_calls"}]}, True),
        ({"choices": [{"index": 0, "message": {}, "finish_reason": "length"}]}, False),
        ({"choices": [{"index": 0, "message": {}, "finish_reason": "content_filter"}]}, False),
        ({"choices": [{"index": 0, "message": {}, "finish_reason": None}]}, False),
        ({"choices": [{"index": 0, "message": {}, "finish_reason": "stop"}, {"index": 1, "message": {}}]}, False),
        ({"choices": [{"index": 0, "message": None, "finish_reason": "stop"}]}, False),
        ({"choices": [{"message": {}, "finish_reason": "stop"}]}, False),
        ({"choices": []}, False),
        ({}, False),
        ([], False),
    ],
)
def test_only_complete_answers_are_worth_keeping(answer: Any, expected: bool) -> None:
    assert storable(json.dumps(answer).encode()) is expected
    assert not storable(b"{")


def test_usage_says_cached() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 1},
    }
    whole = json.dumps({"usage": usage, "choices": []}).encode()
    found = json.loads(as_cached(whole, Usage(9, 2)))["usage"]
    assert found == {**usage, "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 9}}
    deepseek = json.dumps({"usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 1, "prompt_cache_miss_tokens": 8}})
    told = json.loads(as_cached(deepseek.encode(), Usage(9, 0)))["usage"]
    assert (told["prompt_cache_hit_tokens"], told["prompt_cache_miss_tokens"]) == (9, 0)
    assert as_cached(whole, None) == whole
    assert as_cached(b'{"choices": []}', Usage(1, 1)) == b'{"choices": []}'


def test_content_that_is_no_text_is_said_in_one_piece() -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "a"}]}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    frames = list(unfold(json.dumps(answer).encode(), usage=True))
    deltas = [json.loads(frame[6:])["choices"][0]["delta"] for frame in frames[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": message["content"]}, {}]
