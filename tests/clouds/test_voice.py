"""Answers in their dialects, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.clouds.asking import Wanted, read
from gateway.clouds.fleet import parse
from gateway.clouds.tickets import Ask, Ticket
from gateway.clouds.voice import DONE, Voice, words


def speak(words_: dict[str, Any] | None = None, thoughts: int = 0, **wanted: Any) -> tuple[list[dict[str, Any]], Any]:
    """A six-token answer in three events: its chunks, and the plain answer to the same request."""
    profile = parse({"clouds": {"c": words_ or {}}}).clouds[0]
    ticket = Ticket(1, Ask(prompt=40, n=wanted.get("n", 1)), 0.0, 6, truncated=False, thoughts=thoughts, cached=16)
    voice = Voice(profile, ticket, Wanted("r2", seed=9, **wanted), "1", 0)
    stream = voice.opening()
    for start in (0, 2, 4):
        ticket.produced = start + 2
        stream += voice.tokens(start, 2)
    stream += voice.finish("stop")
    assert stream.endswith(DONE)
    frames = stream.decode().removesuffix(DONE.decode()).split("\n\n")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames if frame], json.loads(voice.whole("stop"))


def joined(chunks: list[dict[str, Any]], field: str, index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


def test_text_depends_on_the_seed_alone() -> None:
    assert words(7, 0, 3) + words(7, 3, 2) == words(7, 0, 5)
    assert words(7, 0, 40) != words(8, 0, 40)


@pytest.mark.parametrize(
    ("style", "fields"),
    [
        ("reasoning_content", {"reasoning_content"}),
        ("reasoning", {"reasoning"}),
        ("both", {"reasoning", "reasoning_content"}),
    ],
)
def test_thoughts_have_a_field_of_their_own(style: str, fields: set[str]) -> None:
    chunks, plain = speak({"style": {"reasoning": style}}, thoughts=3)
    message = plain["choices"][0]["message"]
    assert set(message) - {"role", "content"} == fields
    for field in fields:
        assert joined(chunks, field) == message[field] == words(9, 0, 3)
    assert joined(chunks, "content") == message["content"] == words(9, 3, 3)


def test_thoughts_may_be_tagged_inside_the_content() -> None:
    chunks, plain = speak({"style": {"reasoning": "think"}}, thoughts=3)
    expected = f"<think>\n{words(9, 0, 3)}\n</think>\n\n{words(9, 3, 3)}"
    assert joined(chunks, "content") == plain["choices"][0]["message"]["content"] == expected


def test_a_cumulative_stream_repeats_all_text_so_far() -> None:
    chunks, _ = speak({"style": {"cumulative": True}})
    said = [text for chunk in chunks if chunk["choices"] if (text := chunk["choices"][0]["delta"].get("content"))]
    assert said == [words(9, 0, 2), words(9, 0, 4), words(9, 0, 6)]
    tagged, _ = speak({"style": {"cumulative": True, "reasoning": "think"}}, thoughts=2)
    last = [c["choices"][0]["delta"]["content"] for c in tagged if c["choices"][0]["delta"]][-1]
    assert last == f"<think>\n{words(9, 0, 2)}\n</think>\n\n{words(9, 2, 4)}"


@pytest.mark.parametrize(
    ("style", "asked", "where"),
    [
        ("finish", False, "finish"),
        ("finish", True, "finish"),
        ("include", False, None),
        ("include", True, "empty"),
        ("always", False, "empty"),
        ("absent", True, None),
    ],
)
def test_usage_comes_where_the_cloud_puts_it(style: str, asked: bool, where: str | None) -> None:
    chunks, plain = speak({"style": {"usage": style}}, include_usage=asked)
    places = ["finish" if chunk["choices"] else "empty" for chunk in chunks if chunk.get("usage")]
    assert places == ([where] if where else [])
    assert ("usage" in plain) == (style != "absent")


def test_cached_tokens_are_told_in_either_dialect() -> None:
    _, openai = speak({"style": {"cached": "openai"}}, thoughts=2)
    _, deepseek = speak({"style": {"cached": "deepseek"}})
    _, both = speak({"style": {"cached": "both"}})
    assert openai["usage"] == {
        "prompt_tokens": 40,
        "completion_tokens": 6,
        "total_tokens": 46,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert deepseek["usage"]["prompt_cache_hit_tokens"] == 16
    assert deepseek["usage"]["prompt_cache_miss_tokens"] == 24
    assert "prompt_tokens_details" not in deepseek["usage"]
    assert {"prompt_cache_hit_tokens", "prompt_tokens_details"} <= set(both["usage"])


@pytest.mark.parametrize("thoughts", [0, 3])
def test_a_tool_is_called_with_valid_arguments(thoughts: int) -> None:
    chunks, plain = speak(thoughts=thoughts, tool="look_up")
    calls = [call for c in chunks if c["choices"] for call in c["choices"][0]["delta"].get("tool_calls", [])]
    assert calls[0]["function"]["name"] == "look_up"
    assert sum("id" in call for call in calls) == 1
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert json.loads(arguments) == {"text": words(9, thoughts, 6 - thoughts)}
    choice = plain["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "look_up", "arguments": arguments}
    assert choice["finish_reason"] == "tool_calls"


def test_logprobs_come_one_per_token() -> None:
    chunks, plain = speak(logprobs=True)
    streamed = [e for c in chunks if c["choices"] for e in (c["choices"][0].get("logprobs") or {}).get("content", [])]
    assert len(streamed) == 6
    assert "".join(entry["token"] for entry in streamed) == words(9, 0, 6)
    assert plain["choices"][0]["logprobs"]["content"] == streamed


def test_several_choices_are_several_texts_and_are_all_paid_for() -> None:
    chunks, plain = speak(n=2)
    assert joined(chunks, "content", 1) == plain["choices"][1]["message"]["content"] == words(10, 0, 6)
    assert plain["usage"]["completion_tokens"] == 12


def test_qianfan_says_normal_and_minimax_wraps_its_success() -> None:
    chunks, _ = speak({"dialect": "qianfan"})
    assert chunks[-1]["choices"][0]["finish_reason"] == "normal"
    chunks, plain = speak({"dialect": "minimax"})
    assert plain["base_resp"]["status_code"] == 0
    assert any("base_resp" in chunk for chunk in chunks)


def body(**more: Any) -> bytes:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello " * 100}]
    return json.dumps({"model": "r2", "messages": messages, **more}).encode()


def test_a_request_is_read_with_its_cost_and_its_prefix_units() -> None:
    ask, wanted = read(body(max_tokens=9, stream=True, stream_options={"include_usage": True}, n=2, logprobs=True))
    assert (ask.max_tokens, ask.n, wanted) == (9, 2, Wanted("r2", True, 2, True, True, "", wanted.seed))
    assert 150 < ask.prompt < 200
    assert [tokens for _, tokens in ask.units] == [ask.units[0][1], ask.prompt]
    other, _ = read(body(messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "bye"}]))
    assert other.units[0] == ask.units[0]
    assert other.units[1] != ask.units[1]


def test_a_tool_is_called_unless_it_was_called_or_forbidden() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert read(body(tools=tools))[1].tool == "f"
    assert read(body(tools=tools, tool_choice="none"))[1].tool == ""
    assert read(body(tools=tools, messages=[{"role": "tool", "content": "42"}]))[1].tool == ""


@pytest.mark.parametrize(
    "broken", [b"{", b"[]", b'{"model":"r2"}', body(messages=[]), body(messages=[{}]), body(n=0), body(max_tokens=0)]
)
def test_a_broken_request_is_invalid(broken: bytes) -> None:
    with pytest.raises(ValueError):
        read(broken)
