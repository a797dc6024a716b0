"""`spillgate healthcheck`"""

from __future__ import annotations

import argparse
import os
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=_own(), help="the gateway (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """0 when it is ready. Made of the standard library's client: containers run this every few seconds."""
    parts = urlsplit(args.url)
    client = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = client(parts.hostname or "", parts.port, timeout=args.timeout)
    try:
        connection.request("GET", parts.path.rstrip("/") + "/readyz")
        answer = connection.getresponse()
        print(answer.read(65536).decode(errors="replace"))
    except (OSError, HTTPException) as error:
        print(f"no answer from {args.url}: {type(error).__name__}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0 if answer.status == 200 else 1


def _own() -> str:
    """Where `serve` listens in this environment."""
    host = os.environ.get("HOST", "")
    host = "127.0.0.1" if host in {"", "0.0.0.0"} else "::1" if host == "::" else host
    return f"http://{f'[{host}]' if ':' in host else host}:{os.environ.get('PORT') or '8080'}"
