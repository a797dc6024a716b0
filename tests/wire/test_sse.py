from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.nouns import Usage
from gateway.wire import sse


def chunk(delta: object = None, finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b": keep-alive\n\n", "comment"),
        (b"event: ping\n\n", "comment"),
        (chunk({"role": "assistant", "content": ""}), "empty"),
        (chunk({"role": "assistant", "content": None, "reasoning_content": ""}), "empty"),
        (chunk({"content": "hi"}), "token"),
        (chunk({"reasoning_content": "hm"}), "token"),
        (chunk({"reasoning": "hm"}), "token"),
        (chunk({"refusal": "no"}), "token"),
        (chunk({"tool_calls": [{"index": 0}]}), "token"),
        (chunk({"function_call": {"name": "f"}}), "token"),
        (b'data: {"choices":[{"message":{"content":"all at once"}}]}\n\n', "token"),
        (b'data: {"choices":[{"text":"legacy"}]}\n\n', "token"),
        (chunk({}, "stop"), "finish"),
        (b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n', "usage"),
        (b'data: {"choices":[]}\n\n', "empty"),
        (b'data: {"error":{"message":"x"}}\n\n', "unknown"),
        (b"data: [DONE]\n\n", "done"),
        (b"data:[DONE]\r\n\r\n", "done"),
        (b"data: not json\n\n", "unknown"),
        (b'data: {"choices":7}\n\n', "unknown"),
    ],
)
def test_a_frame_means_what_it_says(frame: bytes, kind: str) -> None:
    assert sse.read(frame).kind == kind


def test_finish_and_usage_are_read_wherever_they_stand() -> None:
    frame = sse.read(chunk({"content": "."}, "length", usage=USAGE))
    assert (frame.kind, frame.finish, frame.usage) == ("token", "length", Usage(3, 4))
    inside = (
        b'data: {"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":2}}]}\n\n'
    )
    assert sse.read(inside).usage == Usage(1, 2)
    assert sse.read(chunk({"role": "x"}, usage=USAGE)).usage == Usage(3, 4)


def test_data_lines_of_one_frame_are_joined() -> None:
    assert sse.payload(b"data: a\ndata:b\n\n") == b"a\nb"
    assert sse.payload(b": c\n\n") is None


@given(
    st.lists(st.sampled_from([b"data: 1\n\n", b": c\r\n\r\n", b"data: x\r\r", b"data: a\ndata: b\n\n"]), max_size=6),
    st.lists(st.integers(0, 60), max_size=5),
    st.sampled_from([b"", b"data: unfini", b"data: x\n"]),
)
def test_however_bytes_arrive_whole_frames_leave_in_order(parts: list[bytes], cuts: list[int], rest: bytes) -> None:
    stream = b"".join(parts) + rest
    splitter = sse.Splitter()
    points = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    blocks = [splitter.feed(stream[a:b]) for a, b in zip(points, points[1:], strict=False)]
    assert b"".join(blocks) + splitter.rest == stream
    for block in blocks:
        assert not block or block.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
    assert b"".join(frame for block in blocks for frame in sse.frames(block)) == b"".join(blocks)


def test_frames_keep_an_unfinished_end() -> None:
    assert sse.frames(b"data: 1\n\ndata: 2") == [b"data: 1\n\n", b"data: 2"]


def test_a_frame_without_an_end_is_refused() -> None:
    splitter = sse.Splitter()
    with pytest.raises(sse.FrameTooLong):
        splitter.feed(b"x" * (sse.MAX_FRAME + 1))


def test_ordinary_deltas_need_no_reading() -> None:
    block = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n' * 3
    assert not sse.needs_reading(block, sse.count(block))
    plain = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    assert not sse.needs_reading(plain, sse.count(plain))


@pytest.mark.parametrize(
    "last",
    [
        chunk({}, "stop"),
        b'data: {"choices":[{"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"object":"error","message":"x"}\n\n',
        b"event: error\ndata: {}\n\n",
    ],
)
def test_whatever_may_end_an_answer_is_read(last: bytes) -> None:
    block = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n' + last
    assert sse.needs_reading(block, sse.count(block))


def test_only_a_delta_with_something_in_it_is_a_token() -> None:
    assert sse.has_token(chunk({"content": "x"}))
    assert sse.has_token(b'data: {"choices":[{"delta":{"reasoning_content":"x"}}]}\n\n')
    assert sse.has_token(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}\n\n')
    assert not sse.has_token(chunk({"content": ""}))
    assert not sse.has_token(b": keep-alive\n\n")


def test_an_error_in_mid_stream_is_followed_by_the_end_mark() -> None:
    assert sse.error_event(b"{}") == b"data: {}\n\ndata: [DONE]\n\n"


@given(st.binary(max_size=80))
def test_reading_never_raises(junk: bytes) -> None:
    sse.read(junk)
    sse.read(b"data: " + junk + b"\n\n")
