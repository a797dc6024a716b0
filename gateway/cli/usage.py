"""`spillgate usage`: what was used and what it cost, from the records that a gateway has written."""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.errors import SpillgateError
from gateway.policy import scalars
from gateway.telemetry.report import DIMENSIONS, Report, Sum
from gateway.telemetry.usage import money

_COUNTS = ("requests", "answered", "lost", "input", "cached", "output", "reasoning")
_DOUBTS = ("estimated", "unpriced")
_FIXED = {"UTC": UTC, "Asia/Shanghai": timezone(timedelta(hours=8), "Asia/Shanghai")}
"""Known without a time-zone database."""
_REDIS = re.compile(r"rediss?(\+\w+)?://|unix://")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="sources", nargs="+", action="extend", default=[], metavar="FILE_OR_URL",
        help="files of records (also .gz; - is standard input), or a Redis; default: REDIS_URL",
    )  # fmt: skip
    parser.add_argument("--by", default="tenant,model,backend", help=f"some of {', '.join(DIMENSIONS)} (%(default)s)")
    parser.add_argument("--since", metavar="WHEN", help="a date, a time, or how long ago: 2026-11-01, 24h, 7d")
    parser.add_argument("--until", metavar="WHEN", help="the same; a date means its first moment")
    parser.add_argument("--zone", default="Asia/Shanghai", help="whose days and dates (default %(default)s)")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    sources = args.sources or [url for url in [os.environ.get("REDIS_URL", "")] if url]
    if not sources:
        print("where are the records? Say --from FILE, or set REDIS_URL.", file=sys.stderr)
        return 2
    try:
        report = _asked(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        for source in sources:
            _read(report, source, _moment(args.since, _zone(args.zone), 0.0))
    except (OSError, EOFError, SpillgateError) as error:
        print(f"cannot read the records: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(_plain(report), indent=2))
    elif args.csv:
        _csv(report)
    else:
        print("\n".join(table(report)))
    if report.torn:
        print(f"left out, because they are not whole records: {report.torn} lines", file=sys.stderr)
    return 0


def _asked(args: argparse.Namespace) -> Report:
    by = [word.strip() for word in args.by.split(",") if word.strip()]
    for word in by:
        if word not in DIMENSIONS:
            raise ValueError(f"'{word}' is none of {', '.join(DIMENSIONS)}")
    zone = _zone(args.zone)
    return Report(by, zone, _moment(args.since, zone, 0.0), _moment(args.until, zone, float("inf")))


def _zone(name: str) -> tzinfo:
    try:
        return _FIXED.get(name) or ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"there is no time zone '{name}' on this machine; UTC and Asia/Shanghai always are") from None


def _moment(text: str | None, zone: tzinfo, default: float) -> float:
    if text is None:
        return default
    if (ago := scalars.duration(text)) is not None:
        return time.time() - ago
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is no date, time or duration: say 2026-11-01, 2026-11-01T09:00 or 24h") from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()


def _read(report: Report, source: str, since: float) -> None:
    if _REDIS.match(source):
        asyncio.run(_stream(report, source, since))
    elif source == "-":
        report.read(sys.stdin.buffer)
    else:
        with gzip.open(source) if source.endswith(".gz") else Path(source).open("rb") as file:
            report.read(file)


async def _stream(report: Report, url: str, since: float) -> None:
    """A record is written after its request has ended, so what was written before `since` had arrived before."""
    from gateway.store.stream import UsageStream

    stream = UsageStream(url, 0)
    try:
        async for line in stream.read(int(since * 1000)):
            report.read([line])
    finally:
        await stream.aclose()


def _cells(names: Iterable[str], found: Sum) -> list[str]:
    return [*names, *(f"{getattr(found, count):,}" for count in _COUNTS), _cost(found)]


def _cost(found: Sum) -> str:
    shown = " + ".join(f"{amount:,.4f} {currency}" for currency, amount in sorted(found.cost.items()))
    return (shown or "–") + (" + ?" if found.unpriced and shown else "")


def table(report: Report) -> list[str]:
    """Lines of text: names to the left, numbers to the right, a total, and what should be known of the numbers."""
    if not report.total.requests:
        return ["no records"]
    head = [*report.by, *_COUNTS, "cost"]
    body = [_cells((name or "–" for name in names), found) for names, found in report.sorted()]
    last = _cells(["total", *[""] * (len(report.by) - 1)][: len(report.by)], report.total)
    widths = [max(len(row[place]) for row in (head, *body, last)) for place in range(len(head))]

    def line(row: list[str]) -> str:
        cells = (
            cell.ljust(width) if place < len(report.by) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    found = [line(head), *map(line, body)]
    if len(body) > 1 and report.by:
        found += ["  ".join("─" * width for width in widths), line(last)]
    if report.total.estimated:
        found.append(f"Estimated tokens, because no cloud told its count: {report.total.estimated} attempts.")
    if report.total.unpriced:
        found.append(f"Cost unknown, because no price was: {report.total.unpriced} attempts.")
    return found


def _csv(report: Report) -> None:
    currencies = sorted(report.total.cost)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*report.by, *_COUNTS, *_DOUBTS, *(f"cost_{currency}" for currency in currencies)])
    for names, found in report.sorted():
        counts = [getattr(found, count) for count in (*_COUNTS, *_DOUBTS)]
        out.writerow([*names, *counts, *(money(found.cost[c]) if c in found.cost else "" for c in currencies)])


def _plain(report: Report) -> dict[str, object]:
    def sums(found: Sum) -> dict[str, object]:
        counts = {count: getattr(found, count) for count in (*_COUNTS, *_DOUBTS)}
        return {**counts, "cost": {currency: money(amount) for currency, amount in sorted(found.cost.items())}}

    rows = [{**dict(zip(report.by, names, strict=True)), **sums(found)} for names, found in report.sorted()]
    return {"rows": rows, "total": sums(report.total), "torn": report.torn, "repeated": report.twice}
