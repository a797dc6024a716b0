"""`spillgate explain --live`: the decision for one request, by a running gateway at this moment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection
from math import inf
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from gateway.cli.status import ask, url_argument
from gateway.core.estimate import BYTES_PER_TOKEN
from gateway.core.explain import Candidate
from gateway.core.nouns import Request

Print = Callable[[Request, str, tuple[Candidate, ...], Collection[str]], None]


def argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--live", action="store_true", help="ask the running gateway at --url instead of a document")
    url_argument(parser)


def explain(args: argparse.Namespace, show: Print) -> int:
    """Ask, and `show` what is said. What a ladder would give up now, and affinity, are not in it."""
    if not args.live or args.document is not None or args.out:
        print("say a document, or --live; --out goes with a document", file=sys.stderr)
        return 2
    words = {"model": args.model, "class": args.class_, "tenant": args.tenant, "max_tokens": args.max_tokens}
    words |= {"prompt_tokens": args.prompt_tokens, "stream": "no" if args.plain else "yes"}
    try:
        found = ask(args.url, "/explain?" + urlencode({name: said for name, said in words.items() if said is not None}))
    except httpx.HTTPStatusError as error:
        print(error.response.text, file=sys.stderr)
        return 2
    except (httpx.HTTPError, PermissionError) as error:
        print(f"no answer from {args.url}: {error}", file=sys.stderr)
        return 1
    candidates = tuple(_candidate(told) for told in found["candidates"])
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        show(_request(args, found["model"]), found["policy"], candidates, ())
    return 0 if any(candidate.chosen for candidate in candidates) else 1


def _candidate(told: dict[str, Any]) -> Candidate:
    """A candidate from JSON, in which what is unbounded is null."""
    return msgspec.convert({**told, "score": inf if told["score"] is None else told["score"]}, Candidate)


def _request(args: argparse.Namespace, model: str) -> Request:
    size = int(args.prompt_tokens * BYTES_PER_TOKEN)
    return Request("explain", args.tenant, model, args.class_, size, args.max_tokens, not args.plain, 0.0)
