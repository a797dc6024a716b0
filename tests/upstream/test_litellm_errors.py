"""What litellm's exceptions mean, class by class."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.core.nouns import Failed, Limited, Outcome, Overloaded, Rejected, Unusable
from gateway.testing.messages import KEY, MessagesCloud, messages_cloud
from gateway.upstream import presets
from gateway.upstream.handed import HandedReply
from gateway.upstream.litellm import SHARED, LitellmUpstream, Target
from gateway.upstream.litellm_errors import understood
from gateway.wire import foreign
from gateway.wire.refusals import classify, outcome

DIALECT = presets.load("litellm").dialect
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier")
CASES: list[tuple[str, int, Outcome]] = [
    ("RateLimitError", 429, Limited("rpm")),
    ("AuthenticationError", 401, Unusable("auth")),
    ("PermissionDeniedError", 403, Unusable("auth")),
    ("PaymentRequiredError", 402, Limited("quota")),
    ("NotFoundError", 404, Unusable("not_found")),
    ("ContextWindowExceededError", 400, Rejected("invalid")),
    ("ContentPolicyViolationError", 400, Rejected("content")),
    ("BadRequestError", 400, Rejected("invalid")),
    ("UnsupportedParamsError", 400, Rejected("invalid")),
    ("UnprocessableEntityError", 422, Rejected("invalid")),
    ("ImageFetchError", 400, Rejected("invalid")),
    ("ServiceUnavailableError", 503, Overloaded()),
    ("InternalServerError", 500, Failed("server")),
    ("BadGatewayError", 502, Failed("server")),
    ("APIConnectionError", 500, Failed("server")),
    ("Timeout", 408, Failed("timeout")),
]


@pytest.mark.parametrize(("name", "status", "expected"), CASES)
def test_every_exception_of_litellm_has_its_outcome(name: str, status: int, expected: Outcome) -> None:
    import litellm

    made = getattr(litellm.exceptions, name)
    response = httpx.Response(status, request=httpx.Request("POST", "http://cloud"))
    try:
        error = made(message="so it is", model="m", llm_provider="anthropic", response=response)
    except TypeError:
        error = made(message="so it is", model="m", llm_provider="anthropic")
    told = understood(error)
    assert (told.kind, told.status, told.phase) == (name, status, "")
    data = foreign.refusal(told.kind, told.said)
    assert json.loads(data)["error"]["message"] == "so it is"
    assert outcome(classify(DIALECT, told.status, told.headers, data)) == expected


def test_an_exception_that_is_not_litellms_is_a_server_error() -> None:
    told = understood(KeyError("choices"))
    assert (told.kind, told.status) == ("InternalServerError", 500)


@pytest.mark.parametrize(
    ("cause", "phase"),
    [
        (httpx.ConnectError("no route to sk-secret"), "connect"),
        (httpx.ConnectTimeout("too slow"), "connect"),
        (httpx.ReadError("gone"), "protocol"),
        (httpx.RemoteProtocolError("half an answer"), "protocol"),
    ],
)
def test_what_broke_below_http_says_so_and_names_no_address(cause: Exception, phase: str) -> None:
    import litellm

    wrapped = litellm.exceptions.InternalServerError("no route to sk-secret", "anthropic", "m")
    wrapped.__cause__ = cause
    told = understood(wrapped)
    assert (told.phase, told.kind) == (phase, type(cause).__name__)


def test_an_answer_of_the_cloud_wins_over_what_broke_while_it_was_read() -> None:
    import litellm

    request = httpx.Request("POST", "http://cloud")
    answered = httpx.HTTPStatusError("529", request=request, response=httpx.Response(529, headers={"Retry-After": "9"}))
    answered.__context__ = httpx.ReadError("while the body was read")
    wrapped = litellm.exceptions.InternalServerError("Overloaded", "anthropic", "m")
    wrapped.__cause__ = answered
    told = understood(wrapped)
    assert (told.phase, told.headers.get("retry-after")) == ("", "9")


def test_causes_that_lead_in_a_circle_end() -> None:
    one, two = KeyError("a"), KeyError("b")
    one.__cause__, two.__context__ = two, one
    assert understood(one).status == 500


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "message", "headers", "expected"),
    [
        (429, "slow down", {"retry-after": "7"}, Limited("rpm", 7.0)),
        (429, "This would exceed your limit of input tokens per minute", {}, Limited("tpm")),
        (429, "Number of concurrent connections has exceeded your rate limit", {}, Limited("concurrency")),
        (529, "Overloaded", {}, Overloaded()),
        (402, "pay", {}, Limited("quota")),
        (401, "invalid x-api-key", {}, Unusable("auth")),
        (403, "not for you", {}, Unusable("auth")),
        (404, "model: claude-pretend", {}, Unusable("not_found")),
        (400, "prompt is too long: 3 tokens > 2 maximum", {}, Rejected("invalid")),
        (400, "Output blocked by content filtering policy", {}, Rejected("content")),
        (400, "messages: at least one", {}, Rejected("invalid")),
        (413, "too large", {}, Rejected("invalid")),
        (500, "Internal server error", {}, Failed("server")),
        (504, "too late", {}, Failed("timeout")),
    ],
)
def test_what_the_cloud_refuses_keeps_its_meaning(
    status: int, message: str, headers: dict[str, str], expected: Outcome, stream: bool, refusing: Any
) -> None:
    reply, data = refusing(status, message, headers, stream)
    assert reply.status == status
    assert json.loads(data)["error"]["message"] == message
    signal = classify(DIALECT, reply.status, reply.headers, data)
    assert outcome(signal) == expected
    assert signal.code == "context_length_exceeded" or "too long" not in message


@pytest.fixture(scope="module")
def refusing() -> Any:
    """One cloud and one upstream for the whole table; a refusal at a time."""
    with asyncio.Runner() as runner:

        async def begin() -> tuple[Any, MessagesCloud, LitellmUpstream]:
            holder = messages_cloud()
            cloud = await holder.__aenter__()
            return holder, cloud, LitellmUpstream(Target(cloud.url, KEY), SHARED)

        holder, cloud, upstream = runner.run(begin())

        async def one(status: int, message: str, headers: dict[str, str], stream: bool) -> tuple[HandedReply, bytes]:
            cloud.refuse = (status, message, headers)
            chat = {"model": "anthropic/claude-pretend", "messages": [{"role": "user"}], "stream": stream}
            reply = await upstream.send(json.dumps(chat).encode(), {})
            return reply, await reply.read_all(10**6)

        yield lambda *words: runner.run(one(*words))
        runner.run(upstream.aclose())
        runner.run(holder.__aexit__(None, None, None))
