"""A tree of spans says where all of the time went, whatever happened to the request."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.explain import Candidate
from gateway.core.nouns import Abandoned, Beaten, Failed, Limited, Outcome, Rejected, Served, Usage
from gateway.pipeline.faults import outcome_name
from gateway.pipeline.observe import overhead
from gateway.policy.compiled import Connection
from gateway.service import Attempt, Call, Decision
from gateway.telemetry.spans import Place, Span, leaves, places, told, tree
from gateway.telemetry.story import Story, at_clouds, why_kept

Made = Callable[..., Call]
Tried = Callable[..., Attempt]
TIMES = st.floats(0.0, 50.0)


def story(call: Call) -> Story:
    return Story(call, "local", "standard")


def names(span: Span) -> list[str]:
    return [below.name for below in span.spans]


@st.composite
def timelines(draw: Any) -> list[tuple[str, float, float, float, float, float]]:
    """Steps one after the other: a wait, or an attempt with a connect, a first byte, a first token and the rest."""
    steps = draw(st.lists(st.tuples(st.sampled_from(["wait", "fail", "mute"]), *[TIMES] * 5), max_size=5))
    return [*steps, *draw(st.lists(st.tuples(st.just("serve"), *[TIMES] * 5), max_size=1))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(timelines(), TIMES, TIMES, TIMES, TIMES)
def test_the_leaves_fill_the_whole_time_and_never_overlap(
    made: Made, tried: Tried, steps: list[Any], auth: float, read: float, answer: float, deliver: float
) -> None:
    now = 100.0 + auth + read
    attempts, waits, responded = [], [], 0.0
    for number, (kind, gap, first, second, third, fourth) in enumerate(steps, 1):
        now += gap
        if kind == "wait":
            waits.append((now, now + first))
            now += first
            continue
        sent, now = now, now + first + second + third + fourth
        attempts.append(tried(number, sent, connect=first, ended=now, outcome=Failed("server")))
        if kind != "mute":
            attempts[-1].first_byte = sent + first + second
        if kind == "serve":
            attempts[-1].first_token = responded = sent + first + second + third
            attempts[-1].outcome = Served()
    responded = responded or now + answer
    ended = max(now, responded) + deliver
    call = made(
        reading=100.0 + auth, got=100.0 + auth + read, responded=responded, ended=ended, attempts=attempts,
        waits=tuple(waits),
    )  # fmt: skip
    found = list(leaves(tree(story(call), {}, outcome_name)))
    assert sum(span.end - span.start for span in found) == pytest.approx(ended - 100.0, abs=1e-6)
    assert all(span.end >= span.start - 1e-9 for span in found)
    assert all(one.end <= two.start + 1e-6 for one, two in pairwise(found))
    before = [span for span in found if span.start < responded - 100.0 - 1e-6]
    timed = call.queued + read + at_clouds(attempts, responded) + overhead(call)
    assert sum(min(span.end, responded - 100.0) - span.start for span in before) == pytest.approx(timed, abs=1e-5)


def test_a_spilled_queued_and_streamed_request(made: Made, tried: Tried) -> None:
    lost = tried(1, 101.0, ended=102.0, first_byte=101.9, outcome=Limited("rpm"))
    won = tried(
        2, 105.0, backend="two", tier=1, connect=0.5, first_byte=106.0, first_token=107.0, ended=117.0, tokens=100
    )  # fmt: skip
    won.usage, won.gap = Usage(10, 200, 4, 50), 0.25
    call = made(reading=100.1, got=100.2, responded=107.0, ended=117.5, attempts=[lost, won], waits=((102.1, 104.9),))
    found = tree(story(call), {"two": Place("deepseek", "api.deepseek.com", 443)}, outcome_name)
    assert names(found) == [
        "authenticate", "read request", "route", "chat one-id", "route", "wait in queue", "route", "chat two-id",
        "deliver",
    ]  # fmt: skip
    assert names(found.spans[3]) == ["wait for first byte", "wait for first token"]
    assert names(found.spans[7]) == ["connect", "wait for first byte", "wait for first token", "stream"]
    assert found.spans[3].error == found.spans[3].attributes["error.type"] == "limited:rpm"
    about = found.spans[7].attributes
    assert about["gen_ai.provider.name"] == "deepseek"
    assert (about["server.address"], about["server.port"]) == ("api.deepseek.com", 443)
    assert (about["gen_ai.usage.input_tokens"], about["gen_ai.usage.reasoning.output_tokens"]) == (10, 50)
    assert (about["http.request.resend_count"], about["spillgate.tier"], about["spillgate.connection"]) == (1, 2, "new")
    stream = found.spans[7].spans[3].attributes
    assert (stream["spillgate.tokens_per_second"], stream["spillgate.longest_gap_seconds"]) == (20.0, 0.25)
    assert "spillgate.hedge" not in about


def test_a_hedge_runs_beside_the_first_and_says_so(made: Made, tried: Tried) -> None:
    first = tried(1, 100.0, ended=104.0, outcome=Beaten())
    second = tried(2, 102.0, backend="two", first_byte=103.0, first_token=104.0, ended=110.0)
    found = tree(story(made(responded=104.0, ended=110.0, attempts=[first, second])), {}, outcome_name)
    assert names(found) == ["authenticate", "chat one-id", "chat two-id"]
    assert "spillgate.hedge" not in found.spans[1].attributes
    assert found.spans[2].attributes["spillgate.hedge"] is True
    assert found.spans[1].error == ""


def test_an_attempt_without_a_connection_was_all_connecting(made: Made, tried: Tried) -> None:
    lost = tried(1, 100.0, ended=105.0, outcome=Failed("connect"))
    found = tree(story(made(responded=105.0, status=502, attempts=[lost])), {}, outcome_name)
    assert names(found.spans[1]) == ["connect"]
    assert (found.error, found.attributes["error.type"]) == ("502", "502")


def test_a_request_that_never_got_through_the_door(made: Made) -> None:
    found = tree(story(made(responded=100.5, ended=100.6, status=401)), {}, outcome_name)
    assert [(span.name, round(span.end - span.start, 3)) for span in found.spans] == [
        ("authenticate", 0.5), ("deliver", 0.1),
    ]  # fmt: skip


def test_what_was_refused_before_it_was_offered_was_not_let_in(made: Made) -> None:
    call = made(reading=100.1, got=100.2, responded=100.5, ended=100.6, status=429)
    call.request = None
    found = tree(story(call), {}, outcome_name)
    assert names(found) == ["authenticate", "read request", "admit", "deliver"]
    call.request, call.offered = made().request, 100.4
    found = tree(story(call), {}, outcome_name)
    assert names(found) == ["authenticate", "read request", "admit", "route", "deliver"]
    assert found.spans[2].end - found.spans[2].start == pytest.approx(0.2)


def candidate(name: str, tier: int, *why: str, eligible: bool = True, score: float = 0.5) -> Candidate:
    return Candidate(name, tier, eligible, not why, why, (), score)


def test_a_decision_stands_where_it_was_made(made: Made, tried: Tried) -> None:
    call = made(
        reading=100.0, got=100.1, responded=103.0, waits=((100.2, 102.0),),
        attempts=[tried(1, 102.1, first_byte=102.5, first_token=103.0, ended=103.0)],
    )  # fmt: skip
    full = (candidate("one", 0, "streams 2 of 2"), candidate("two", 1, "condition not met: x", eligible=False))
    call.decisions = (Decision(100.15, "wait", "", 1, "place 1 in the queue", 100.05, full),)
    found = tree(story(call), {}, outcome_name)
    assert names(found)[2:5] == ["route", "wait in queue", "route"]
    about = found.spans[2].attributes
    assert about["spillgate.verdict"] == "wait"
    assert about["spillgate.candidates"] == [
        "one (tier 1): streams 2 of 2", "two (tier 2): condition not met: x (not eligible)",
    ]  # fmt: skip
    assert (about["spillgate.eligible"], about["spillgate.excluded"]) == (1, 1)
    assert about["spillgate.looked_seconds_before"] == 0.1
    assert found.spans[4].attributes == {}


def test_who_takes_it_and_who_else_had_room_have_scores(made: Made, tried: Tried) -> None:
    served = tried(1, 100.1, backend="two", first_byte=101.0, first_token=102.0, ended=103.0)
    call = made(reading=100.0, got=100.05, responded=102.0, ended=103.0, attempts=[served])
    stood = (candidate("one", 0), candidate("two", 0, score=0.25))
    call.decisions = (Decision(100.06, "go", "two", 1, "", 100.06, stood),)
    about = tree(story(call), {}, outcome_name).spans[2].attributes
    assert about["spillgate.candidates"] == ["one (tier 1): has room, score 0.500", "two (tier 1): taken, score 0.250"]


OUTCOMES: list[tuple[Outcome, int, tuple[str, ...]]] = [
    (Served(), 0, ()),
    (Abandoned(), 0, ()),
    (Rejected("invalid"), 0, ()),
    (Served(), 1, ("spilled",)),
    (Failed("stall", retryable=False), 0, ("failed",)),
    (Limited("rpm"), 1, ("failed", "spilled")),
]


@pytest.mark.parametrize(("outcome", "tier", "kept"), OUTCOMES)
def test_what_makes_a_request_worth_keeping(
    made: Made, tried: Tried, outcome: Outcome, tier: int, kept: tuple[str, ...]
) -> None:
    call = made(responded=101.0, attempts=[tried(1, 100.0, tier=tier, outcome=outcome, ended=101.0)])
    assert why_kept(story(call), 20.0) == kept


def test_a_second_backend_a_hedge_and_slowness_are_reasons_too(made: Made, tried: Tried) -> None:
    pair = [tried(1, 100.0, outcome=Beaten()), tried(2, 101.0, backend="two")]
    assert why_kept(story(made(responded=101.0, attempts=pair)), 20.0) == ("spilled", "hedged")
    assert why_kept(story(made(responded=121.0)), 20.0) == ("slow",)
    assert why_kept(story(made(responded=121.0, stream=False)), 20.0) == ()
    assert why_kept(story(made(responded=181.0, stream=False)), 20.0) == ("slow",)


def test_a_tenant_over_his_own_limit_is_no_failure_of_ours(made: Made) -> None:
    refused = made(responded=100.1, status=429)
    assert why_kept(story(refused)) == ("failed",)
    refused.request = None
    assert why_kept(story(refused)) == ()
    assert why_kept(story(made(status=400))) == ()
    assert why_kept(story(made(status=503))) == ("failed",)


def test_the_whole_of_a_story_names_its_longest_phase(made: Made, tried: Tried) -> None:
    served = tried(1, 101.0, first_byte=102.0, first_token=103.0, ended=110.0)
    found = told(story(made(responded=103.0, ended=110.0, attempts=[served])), {}, outcome_name, 1.8e9 - 100.0)
    assert (found.longest, found.longest_seconds) == ("stream", 7.0)
    assert found.at == "2027-01-15T08:00:00.000Z"
    assert (found.backend, found.total, found.answered, found.trace) == ("one", 10.0, 3.0, "")


def test_of_an_address_only_host_and_port_are_told() -> None:
    found = places(
        {
            "a": Connection("volcengine-ark", "https://ark.cn-beijing.volces.com/api/v3", "sk-secret"),
            "b": Connection("vllm", "http://10.0.0.5:8000/v1/token-in-the-path"),
            "c": Connection("litellm", "", driver="litellm"),
        }
    )
    assert found == {
        "a": Place("volcengine.ark", "ark.cn-beijing.volces.com", 443),
        "b": Place("vllm", "10.0.0.5", 8000),
        "c": Place("litellm"),
    }


def test_the_home_of_a_conversation_is_marked(made: Made, tried: Tried) -> None:
    call = made(reading=100.0, got=100.05, responded=102.0, attempts=[tried(1, 100.1, ended=102.0)])
    home = Candidate("one", 0, True, True, (), (), 0.5, home=True)
    call.decisions = (Decision(100.06, "go", "one", 1, "", 100.06, (home,)),)
    about = tree(story(call), {}, outcome_name).spans[2].attributes
    assert about["spillgate.candidates"] == ["one (tier 1): taken, score 0.500, home"]
