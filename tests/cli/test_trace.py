"""`spillgate trace` draws what happened, in a terminal's width."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli import main
from gateway.cli.trace import seconds, table, waterfall

TOLD: dict[str, Any] = {
    "id": "req-1", "at": "2027-01-15T08:00:00.000Z", "trace": "0" * 31 + "1", "tenant": "acme", "class": "interactive",
    "model": "r2", "policy": "p", "status": 200, "stream": True, "backend": "ark", "kept": ["spilled", "slow"],
    "answered": 5.0, "total": 10.0, "longest": "stream", "longest_seconds": 5.0,
    "root": {
        "name": "POST /v1/chat/completions", "start": 0.0, "end": 10.0, "spans": [
            {"name": "route", "start": 0.0, "end": 0.0003, "attributes": {
                "spillgate.verdict": "go", "spillgate.backend": "ark", "spillgate.reason": "",
                "spillgate.candidates": ["own (tier 1): streams 4 of 4", "ark (tier 2): taken"]}},
            {"name": "chat r2-ark", "start": 0.0003, "end": 10.0, "attempt": 1, "attributes": {
                "spillgate.backend": "ark", "spillgate.tier": 2, "spillgate.outcome": "served",
                "spillgate.connection": "reused"},
             "spans": [
                {"name": "wait for first token", "start": 0.0003, "end": 5.0},
                {"name": "stream", "start": 5.0, "end": 10.0, "attributes": {
                    "spillgate.tokens_per_second": 20.0, "spillgate.longest_gap_seconds": 0.25}}]},
        ],
    },
}  # fmt: skip


def test_a_waterfall_shows_each_phase_where_it_lay_and_why() -> None:
    lines = waterfall(TOLD)
    assert lines[0] == "req-1  2027-01-15T08:00:00.000Z  status 200  10.00 s"
    assert "kept because it left its first tier, was slow" in lines
    text = "\n".join(lines)
    assert "own (tier 1): streams 4 of 4" in text
    assert "ark, tier 2, reused connection" in text
    assert "20 tokens/s, longest gap 250.0 ms" in text
    assert lines[-1] == "most of it: stream, 5.00 s (50%)"
    bars = {line.split("  ")[0].strip() or line.strip(): line for line in lines}
    assert any(line.strip().startswith("stream") and line.index("█") > 40 for line in bars.values())
    assert max(map(len, lines)) < 120


def test_a_request_that_took_no_time_can_be_drawn() -> None:
    nothing = {**TOLD, "total": 0.0, "root": {"name": "x", "start": 0.0, "end": 0.0, "spans": []}}
    assert waterfall(nothing)[0].endswith("0 µs")


def test_a_table_has_a_line_for_each_with_its_longest_phase() -> None:
    head, line = table([TOLD])
    assert head.split()[:3] == ["at", "id", "status"]
    assert "stream 5.00 s" in line
    assert line.endswith("spilled slow")
    assert table([]) == ["no such request is remembered"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12.345, "12.35 s"), (1.0, "1.00 s"), (0.25, "250.0 ms"), (0.001, "1.0 ms"), (0.00002, "20 µs")],
)
def test_times_as_people_read_them(value: float, shown: str) -> None:
    assert seconds(value) == shown


def test_a_gateway_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--url", "http://127.0.0.1:1"]) == 1
    assert main(["explain", "--live", "--url", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("no answer from http://127.0.0.1:1") == 2


@pytest.mark.parametrize("words", [["explain"], ["explain", "--live", "x.yaml"], ["explain", "--live", "--out", "b"]])
def test_either_a_document_or_a_running_gateway_explains(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "say a document, or --live" in capsys.readouterr().err
