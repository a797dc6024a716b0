"""`spillgate cache`: what answers are kept in Redis, and removing them. The words of an answer are never shown."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping

from gateway.errors import SpillgateError
from gateway.policy import scalars
from gateway.store.answers import Kept, Which

Row = tuple[str, str, str]
"""Policy, model, tenant."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("stats", "purge"), help="count the answers, or remove some")
    parser.add_argument("--tenant", default="", help="those that this tenant's requests brought")
    parser.add_argument("--model", default="", help="those of this model")
    parser.add_argument("--older", metavar="TIME", help="those made longer ago than this: 30m, 12h")
    parser.add_argument("--all", action="store_true", help="purge: all there are")
    parser.add_argument("--redis", metavar="URL", help="where they are (default: REDIS_URL)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    url = args.redis or os.environ.get("REDIS_URL", "")
    older = None if args.older is None else scalars.duration(args.older)
    wrong = ""
    if not url:
        wrong = "where are they? Set REDIS_URL. Without Redis every process keeps its own, until it ends."
    elif args.older is not None and older is None:
        wrong = f"--older: '{args.older}' is not understood ({scalars.EXPECTED['duration']})"
    elif args.action == "purge" and not (args.tenant or args.model or args.older or args.all):
        wrong = "which ones? Say --tenant, --model, --older, or --all."
    if wrong:
        print(wrong, file=sys.stderr)
        return 2
    which = Which(args.tenant, args.model, None if older is None else time.time() - older)
    try:
        if args.action == "purge":
            count = asyncio.run(_purge(url, which))
            print(json.dumps({"removed": count}) if args.json else f"removed {count:,}; replicas follow in a second")
        else:
            found = asyncio.run(_stats(url, which))
            print(json.dumps(_plain(found), indent=2) if args.json else "\n".join(table(found)))
    except (SpillgateError, OSError, ValueError) as error:
        print(f"cannot ask Redis: {error}", file=sys.stderr)
        return 1
    return 0


class Sums:
    """Entries, bytes and the time of the oldest, by policy, model and tenant."""

    def __init__(self) -> None:
        self.entries: Counter[Row] = Counter()
        self.bytes: Counter[Row] = Counter()
        self.oldest: dict[Row, float] = {}

    def add(self, kept: Kept) -> None:
        row = (kept.space, kept.model, kept.tenant)
        self.entries[row] += 1
        self.bytes[row] += kept.size
        self.oldest[row] = min(kept.at, self.oldest.get(row, kept.at))


async def _stats(url: str, which: Which) -> Sums:
    from gateway.store.answers_redis import RedisAnswers

    keeper, sums = RedisAnswers(url, time.time, time.monotonic), Sums()
    try:
        async for kept in keeper.entries():
            if kept in which:
                sums.add(kept)
    finally:
        await keeper.aclose()
    return sums


async def _purge(url: str, which: Which) -> int:
    from gateway.store.answers_redis import RedisAnswers

    keeper = RedisAnswers(url, time.time, time.monotonic)
    try:
        return await keeper.purge(which)
    finally:
        await keeper.aclose()


def table(sums: Sums) -> list[str]:
    """Lines of text, a total last."""
    if not sums.entries:
        return ["no answers are kept"]
    rows = [("policy", "model", "tenant", "answers", "bytes", "oldest")]
    for row, count in sorted(sums.entries.items()):
        rows.append((*row, f"{count:,}", f"{sums.bytes[row]:,}", scalars.written(sums.oldest[row])))
    rows.append(("total", "", "", f"{sums.entries.total():,}", f"{sums.bytes.total():,}", ""))
    widths = [max(len(row[place]) for row in rows) for place in range(6)]
    return ["  ".join(_cell(place, row[place], widths[place]) for place in range(6)).rstrip() for row in rows]


def _cell(place: int, text: str, width: int) -> str:
    return text.rjust(width) if place in {3, 4} else text.ljust(width)


def _plain(sums: Sums) -> Mapping[str, object]:
    rows = [
        {"policy": row[0], "model": row[1], "tenant": row[2], "answers": count, "bytes": sums.bytes[row],
         "oldest": scalars.written(sums.oldest[row])}
        for row, count in sorted(sums.entries.items())
    ]  # fmt: skip
    return {"rows": rows, "answers": sums.entries.total(), "bytes": sums.bytes.total()}
