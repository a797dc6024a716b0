"""`spillgate trace`: where the time of a request went, in the terminal, from what the gateway itself remembers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx

from gateway.cli.status import ask, url_argument

_SHOWN = ("connection", "tokens_per_second", "longest_gap_seconds", "outcome", "hedge", "reason")
_WIDTH = 40
_FULL, _PARTS = "█", " ▏▎▍▌▋▊▉"
_LEAST = 1e-9


def arguments(parser: argparse.ArgumentParser) -> None:
    url_argument(parser)
    parser.add_argument("id", nargs="?", metavar="ID", help="x-request-id of an answer, or the id of a trace")
    which = parser.add_mutually_exclusive_group()
    for pick, text in (
        ("last", "the last requests (the default)"),
        ("slow", "the slowest of the last ten minutes"),
        ("failed", "the last that failed, or had an attempt that did"),
        ("spilled", "the last that left their first tier or backend"),
    ):
        which.add_argument(f"--{pick}", dest="pick", action="store_const", const=pick, help=text)
    parser.add_argument("-n", "--count", type=int, default=10, metavar="N", help="so many (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    path = f"/traces/{quote(args.id, safe='')}" if args.id else f"/traces?pick={args.pick or 'last'}&count={args.count}"
    try:
        found = ask(args.url, path)
    except httpx.HTTPStatusError as error:
        print(_complaint(error), file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"no answer from {args.url}: {type(error).__name__}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(waterfall(found) if args.id else table(found["data"])))
    if trouble := found.get("trouble"):
        print(f"other replicas were not asked: {trouble}", file=sys.stderr)
    return 0


def _complaint(error: httpx.HTTPStatusError) -> str:
    try:
        return str(error.response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error)


def table(found: list[dict[str, Any]]) -> list[str]:
    """One line per request: when, which, what became of it, and the phase that took most of its time."""
    if not found:
        return ["no such request is remembered"]
    rows = [["at", "id", "status", "tenant", "model", "backend", "total", "longest phase", "why kept"]]
    for told in found:
        phase = f"{told.get('longest', '')} {seconds(told.get('longest_seconds', 0.0))}"
        rows.append(
            [
                told["at"][11:23], told["id"], str(told.get("status", 0)), told.get("tenant", ""),
                told.get("model", "") or "–", told.get("backend", "") or "–", seconds(told.get("total", 0.0)), phase,
                " ".join(told.get("kept", [])),
            ]
        )  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def waterfall(told: dict[str, Any]) -> list[str]:
    """The phases of one request below each other, each where it lay in time, and why it went where it went."""
    lines = [
        f"{told['id']}  {told['at']}  status {told.get('status', 0)}  {seconds(told.get('total', 0.0))}",
        (
            f"tenant {told.get('tenant') or '–'} ({told.get('class') or '–'}), model {told.get('model') or '–'}, "
            f"policy {told.get('policy') or '–'}, {'streamed' if told.get('stream') else 'plain'}, "
            f"answered after {seconds(told.get('answered', 0.0))}"
        ),
    ]
    if told.get("trace"):
        lines.append(f"trace {told['trace']}")
    if told.get("kept"):
        lines.append("kept because it " + ", ".join(_WHY.get(why, why) for why in told["kept"]))
    root = told["root"]
    whole = max(root["end"], _LEAST)
    phases = list(_phases(root, 0))
    width = max((len(name) for name, _ in phases), default=0)
    lines.append("")
    for name, span in phases:
        took = seconds(span["end"] - span["start"]).rjust(8)
        lines.append(f"{name:<{width}}  {took}  {_bar(span['start'], span['end'], whole)}  {_notes(span)}".rstrip())
        candidates = span.get("attributes", {}).get("spillgate.candidates", [])
        lines += [f"{'':<{width}}            {candidate}" for candidate in candidates]
    longest, part = told.get("longest", ""), told.get("longest_seconds", 0.0)
    lines += ["", f"most of it: {longest}, {seconds(part)} ({part / whole:.0%})"]
    return lines


_WHY = {"failed": "failed somewhere", "spilled": "left its first tier", "hedged": "was hedged", "slow": "was slow"}


def _phases(span: dict[str, Any], depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for below in span.get("spans", []):
        yield "  " * depth + below["name"], below
        yield from _phases(below, depth + 1)


def _notes(span: dict[str, Any]) -> str:
    found = span.get("attributes", {})
    notes = []
    if "spillgate.backend" in found and span.get("attempt"):
        notes.append(f"{found['spillgate.backend']}, tier {found.get('spillgate.tier', '?')}")
    if "spillgate.verdict" in found:
        notes.append(" ".join(filter(None, [found["spillgate.verdict"], found.get("spillgate.backend", "")])))
    for name in _SHOWN:
        value = found.get(f"spillgate.{name}")
        if value not in {None, "", "served"}:
            notes.append(_note(name, value))
    if span.get("error") and "spillgate.outcome" not in found:
        notes.append(span["error"])
    return ", ".join(notes)


def _note(name: str, value: Any) -> str:
    if name == "connection":
        return f"{value} connection"
    if name == "tokens_per_second":
        return f"{value:g} tokens/s"
    if name == "longest_gap_seconds":
        return f"longest gap {seconds(value)}"
    return "hedge" if name == "hedge" else str(value)


def _bar(start: float, end: float, whole: float) -> str:
    """Eighths of a column, so that a hundredth of the whole is still seen."""
    first = min(start / whole, 1.0) * _WIDTH
    length = max((min(end, whole) - start) / whole * _WIDTH, 0.125)
    full, rest = divmod(round(length * 8), 8)
    return (" " * int(first) + _FULL * full + (_PARTS[rest] if rest else ""))[:_WIDTH].ljust(_WIDTH)


def seconds(value: float) -> str:
    """A time as people read it."""
    if value >= 1.0:
        return f"{value:.2f} s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.0f} µs"
