"""The demo's parts: what it sends, how it judges an answer, what it prints, and what decides its exit code."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import demo, demo_children, demo_view
from gateway.cli.demo_client import Exchange
from gateway.cli.demo_load import body_of, record_of
from gateway.cli.demo_report import CloudReport, Report, fold, spread
from gateway.clouds import asking
from gateway.policy.load import load
from gateway.sim.demand import Need, surge
from gateway.sim.rehearse import rehearse
from gateway.sim.score import Score
from gateway.upstream import presets

NEED = Need(3, 1.0, 200, 50)
PLAIN = replace(NEED, stream=False)


def exchange(status: int, body: bytes, **headers: str) -> Exchange:
    made = Exchange(True, lambda _: None)
    made.status, made.tail, made.sent, made.first, made.ended = status, body, 101.0, 101.5, 104.0
    made.headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return made


WHOLE = b'data: {"usage":{"prompt_tokens":200,"completion_tokens":49}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("prompt", [40, 41, 200, 800])
def test_a_pretend_cloud_counts_the_prompt_tokens_that_the_demand_says(prompt: int) -> None:
    ask, wanted = asking.read(body_of(replace(NEED, prompt=prompt)))
    assert (ask.prompt, ask.max_tokens) == (prompt, 50)
    assert (wanted.stream, wanted.include_usage) == (True, True)


def test_no_two_prompts_share_a_beginning() -> None:
    first, second = (asking.read(body_of(replace(NEED, id=number)))[0].units for number in (1, 2))
    assert {mark for mark, _ in first}.isdisjoint(mark for mark, _ in second)


def test_a_whole_stream_is_served_with_the_tokens_that_were_counted() -> None:
    found = record_of(
        NEED,
        exchange(200, WHOLE, x_spillgate_attempts="2", x_spillgate_queue_ms="1500", x_spillgate_backend="ark"),
        100.0,
    )
    assert (found.status, found.tokens, found.attempts, found.queued, found.backend) == ("served", 49, 2, 1.5, "ark")
    assert (found.ttft, found.ended) == (0.5, 4.0)


def test_a_plain_answer_has_no_first_token() -> None:
    found = record_of(PLAIN, exchange(200, b'{"usage":{"completion_tokens":50}}', x_spillgate_attempts="1"), 100.0)
    assert (found.status, found.tokens, found.first) == ("served", 50, None)


@pytest.mark.parametrize(
    "body",
    [b'data: {"choices":[]}\n\n', b'data: {"error":{"message":"gone"}}\n\ndata: [DONE]\n\n'],
    ids=["cut", "error"],
)
def test_a_stream_without_its_end_or_with_an_error_in_it_has_failed(body: bytes) -> None:
    assert record_of(NEED, exchange(200, body, x_spillgate_attempts="1"), 100.0).status == "failed"


def test_a_lost_connection_has_failed() -> None:
    lost = exchange(200, WHOLE)
    lost.lost = True
    found = record_of(NEED, lost, 100.0)
    assert (found.status, found.reason) == ("failed", "lost")


def test_a_refusal_names_its_reason_and_whether_it_said_when_to_come_again() -> None:
    body = b'{"error":{"message":"full","type":"rate_limit_error","code":"capacity_queue_full"}}'
    told = record_of(NEED, exchange(429, body, x_spillgate_attempts="0", retry_after="2"), 100.0)
    silent = record_of(NEED, exchange(429, body, x_spillgate_attempts="0"), 100.0)
    assert (told.status, told.reason, told.told) == ("refused", "queue_full", True)
    assert not silent.told


def test_the_fleet_file_gets_free_ports_and_answers_as_long_as_asked_for() -> None:
    document = demo_children.fleet_document(demo_children.policies() / "clouds-demo.yaml")
    assert document["control"] == 0
    assert {cloud["port"] for cloud in document["clouds"].values()} == {0}
    assert {cloud["answer"]["median"] for cloud in document["clouds"].values()} == {1_000_000}


@pytest.mark.parametrize("fast", [True, False])
def test_the_play_fits_a_minute_and_declares_every_limit_truly(fast: bool) -> None:
    play = demo.prepare(1, fast=fast)
    assert play.scene.lasts + 20.0 <= 60.0
    plan = load(play.policy_path, {}, presets.infos()).plan
    assert {name: account.limits for name, account in plan.accounts.items()} == {
        cloud.name: cloud.limits for cloud in play.fleet.clouds
    }


# --- the report -----------------------------------------------------------------------------------------------

CLOUD = CloudReport(
    "ark",
    90,
    12,
    3,
    1,
    {"crash": 1},
    {},
    {"streams": 20, "rpm": 90, "tpm": 42_100},
    {"streams": 20, "rpm": 480, "tpm": 42_000},
)
OURS = Score(200, 98, 98, 2, {"queue_full": 100}, 9800, 1.02)
REPORT = Report(
    seed=1,
    lasts=10.0,
    score=OURS,
    clairvoyant=replace(OURS, goodput=10_000),
    bound=12_000.0,
    share=0.98,
    floor=0.97,
    ttft=spread([0.1, 0.2]),
    clairvoyant_ttft=spread([0.1]),
    refusal=spread([0.001]),
    failures={"torn": 2},
    waited_in_vain=0,
    told=100,
    generator_late=0.004,
    clouds=(CLOUD,),
)


def broken(report: Report) -> list[str]:
    return [check.promise for check in report.checks if not check.kept]


def test_a_run_that_keeps_every_promise_passes() -> None:
    assert REPORT.passed
    assert broken(REPORT) == []


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (replace(REPORT, share=0.969), "goodput"),
        (replace(REPORT, told=99), "told"),
        (replace(REPORT, clouds=(replace(CLOUD, refused={"rpm": 1}),)), "refuse"),
        (replace(REPORT, clouds=(replace(CLOUD, overruns={"tpm": 1}),)), "limit"),
        (replace(REPORT, clouds=(replace(CLOUD, peaks={"streams": 21}),)), "limit"),
    ],
)
def test_each_promise_that_is_broken_is_named_and_fails_the_demo(report: Report, words: str) -> None:
    assert not report.passed
    assert len(broken(report)) == 1
    assert words in broken(report)[0]


def test_the_report_is_one_json_document() -> None:
    found: dict[str, Any] = json.loads(json.dumps(REPORT.as_dict()))
    assert found["passed"] is True
    assert found["clouds"][0]["peaks"]["streams"] == 20


def test_a_run_is_folded_from_what_clients_saw_and_clouds_counted() -> None:
    play = demo.prepare(1, fast=True)
    plan = load(play.policy_path, {}, presets.infos()).plan
    needs, outages = play.scene.needs, play.scene.outages
    run = rehearse(plan, play.fleet, needs, outages, 1)
    stats = {name: asdict(found) for name, found in run.clouds.items()}
    report = fold(
        1, 0.9, play.fleet, play.scene, outages, play.terms, run.records, stats, {"fleet": asdict(run.view)}, 0.0
    )
    found: dict[str, Any] = json.loads(json.dumps(report.as_dict()))
    assert found["score"]["offered"] == len(needs)
    assert found["score"]["goodput"] <= found["bound"]
    assert sum(found["failures"].values()) == found["score"]["failed"]
    torn = {cloud["name"]: cloud["torn"] for cloud in found["clouds"]}
    assert torn.pop(demo.FAILS) > 0
    assert set(torn.values()) == {0}


def printed(width: int, what: object, *, terminal: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    if isinstance(what, Report):
        demo_view.show(what, console)
    else:
        console.print(what)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_printed_report_fits_its_terminal(width: int) -> None:
    text = printed(width, REPORT)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "42100/42000" in text


def test_the_printed_report_says_what_was_won_and_which_promise_was_broken() -> None:
    text = printed(120, replace(REPORT, share=0.5), terminal=False)
    assert "clairvoyant central queue" in text
    assert "theoretical bound" in text
    assert "20/20" in text
    assert "BROKEN  goodput at least 97% of the clairvoyant's: 50.0%" in text
    assert "kept    no cloud had to refuse" in text


MOMENT = demo_view.Moment(
    21.0, "surge", 36.0, 1256, 269, 870, 20, 48, (0.5, None), 1624.0,
    (
        demo_view.Cloud("own-h20", 12, 12, None, "closed", 63, 1, 0, 0),
        demo_view.Cloud("siliconflow", 3, None, ("tpm", 1.01), "cooling", 92, 92, 1, 0),
        demo_view.Cloud("deepseek", 0, 24, None, "open", 15, 50, 0, 34),
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_picture_fits_its_terminal_and_cuts_nothing_off(width: int) -> None:
    lines = printed(width, demo_view.View().draw(MOMENT, width)).splitlines()
    assert max(len(line) for line in lines) <= min(width, demo_view.WIDE)
    text = "\n".join(lines)
    assert "…" not in text
    assert "12/12" in text
    assert " out " in text


def test_a_line_for_logs_marks_clouds_that_are_out() -> None:
    text = demo_view.line(MOMENT)
    assert "deepseek 0/24!" in text
    assert "own-h20 12/12 " in text
    assert "\n" not in text


def test_the_demo_has_a_scene_name_for_every_second() -> None:
    play = surge(10.0, "", 1)
    assert {play.phase(at) for at in range(60)} == {"calm", "surge", "recovery", "drain"}
