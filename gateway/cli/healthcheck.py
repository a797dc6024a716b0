"""`spillgate healthcheck`"""

from __future__ import annotations

import argparse
import os
import sys

import httpx


def arguments(parser: argparse.ArgumentParser) -> None:
    port = os.environ.get("PORT", "8080")
    parser.add_argument("--url", default=f"http://127.0.0.1:{port}", help="the gateway (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    try:
        answer = httpx.get(f"{args.url.rstrip('/')}/readyz", timeout=args.timeout)
    except httpx.HTTPError as error:
        print(f"no answer from {args.url}: {type(error).__name__}", file=sys.stderr)
        return 1
    print(answer.text)
    return 0 if answer.status_code == 200 else 1
