"""`spillgate usage` as a person sees it."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.cli import main
from gateway.telemetry.usage import Try, UsageRecord

LOST = Try("own", "r2-own", "abandoned", 1200, 0, 0, 0, True, None)


TABLE = """\
tenant  backend   requests  answered  lost      input     cached   output  reasoning                          cost
acme    ark          1,000     1,000     0  1,200,000  1,000,000  345,000    300,000                   12.0150 CNY
zeta    –                1         0     0          0          0        0          0                             –
zeta    ark              1         1     0      1,200      1,000      345        300                    0.0120 CNY
zeta    deepseek         1         1     0      1,200      1,000      345        300                    0.5000 USD
zeta    own              0         0     1      1,200          0        0          0                             –
──────  ────────  ────────  ────────  ────  ─────────  ─────────  ───────  ─────────  ────────────────────────────
total                1,003     1,002     1  1,203,600  1,002,000  345,690    300,600  12.0270 CNY + 0.5000 USD + ?
Estimated tokens, because no cloud told its count: 1 attempts.
Cost unknown, because no price was: 1 attempts.
"""


def made(number: int, **more: object) -> bytes:
    words = {"tenant": "acme", "model": "deepseek-r2", "backend": "ark", "served": "r2-ark", "status": 200}
    tokens = {"input": 1200, "cached": 1000, "output": 345, "reasoning": 300, "cost": "0.012015", "currency": "CNY"}
    found = {"at": "2026-11-24T01:00:00.000Z", **words, **tokens, **more}
    return msgspec.json.encode(msgspec.convert({"id": f"req-a-{number:x}", **found}, UsageRecord)) + b"\n"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "usage.jsonl"
    path.write_bytes(
        b"".join(made(number) for number in range(1000))
        + made(1000, tenant="zeta", backend="deepseek", cost="0.5", currency="USD", at="2026-11-25T01:00:00Z")
        + made(1001, tenant="zeta", lost=(LOST,))
        + made(
            1002,
            tenant="zeta",
            status=429,
            backend="",
            input=0,
            cached=0,
            output=0,
            reasoning=0,
            cost=None,
            currency="",
        )
        + made(3)
        + b'{"id":"req-a-'
    )
    return path


def test_a_table_lines_up_and_has_a_total(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--from", str(records), "--by", "tenant,backend"]) == 0
    told = capsys.readouterr()
    assert told.out == TABLE
    assert told.err == "left out, because they are not whole records: 1 lines\n"


def test_csv_has_a_column_for_each_currency_and_exact_amounts(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--from", str(records), "--by", "tenant", "--csv"]) == 0
    assert (
        capsys.readouterr().out
        == """\
tenant,requests,answered,lost,input,cached,output,reasoning,estimated,unpriced,cost_CNY,cost_USD
acme,1000,1000,0,1200000,1000000,345000,300000,0,0,12.015,
zeta,3,2,1,3600,2000,690,600,1,1,0.012015,0.5
"""
    )


def test_json_says_the_same(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--from", str(records), "--by", "day", "--zone", "UTC", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["day"] for row in told["rows"]] == ["2026-11-24", "2026-11-25"]
    assert told["total"]["cost"] == {"CNY": "12.027015", "USD": "0.5"}
    assert (told["torn"], told["repeated"]) == (1, 1)


def test_several_sources_are_one_and_may_be_packed_or_piped(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "usage.jsonl.1.gz"
    packed.write_bytes(gzip.compress(made(5) + made(2000)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(made(2001) + made(2001))))
    assert main(["usage", "--from", str(records), str(packed), "-", "--by", "model", "--csv"]) == 0
    assert "deepseek-r2,1005," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--since", "2026-11-25"], 1),
        (["--until", "2026-11-25"], 1002),
        (["--since", "2026-11-24T09:00"], 1003),
        (["--since", "2026-11-24T09:00", "--zone", "UTC"], 1),
        (["--since", "2026-11-24T09:00+00:00"], 1),
        (["--since", "24h"], None),
    ],
)
def test_a_part_of_the_time_can_be_asked_for(
    records: Path, words: list[str], count: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["usage", "--from", str(records), *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert count is None or told["total"]["requests"] == count


def test_an_empty_time_has_no_records(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["usage", "--from", str(records), "--until", "2020-01-01"]) == 0
    assert capsys.readouterr().out == "no records\n"


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ([], 2, "where are the records?"),
        (["--from", "/nowhere/usage.jsonl"], 1, "cannot read the records"),
        (["--from", "redis://127.0.0.1:1/0"], 1, "cannot read the records: redis://127.0.0.1:1/0"),
        (["--from", "x", "--by", "tenant,colour"], 2, "'colour' is none of tenant, key"),
        (["--from", "x", "--since", "yesterday"], 2, "'yesterday' is no date"),
        (["--from", "x", "--zone", "Mars/Base"], 2, "there is no time zone 'Mars/Base'"),
        (["--from", "x", "--zone", "../../etc/passwd"], 2, "there is no time zone"),
    ],
)
def test_what_cannot_be_answered_is_said(
    words: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert main(["usage", *words]) == code
    assert complaint in capsys.readouterr().err
