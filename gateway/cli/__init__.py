"""The command line: one file per verb, each imported only when it is asked for.

Exit codes: 0 done, 1 it failed or is not healthy, 2 the command line or the configuration document is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from gateway import __version__

VERBS = {
    "serve": "run the gateway",
    "check": "check a configuration document, without a network",
    "explain": "say which backend a request would take, and why not the others",
    "demo": "five pretend clouds, a surge, and what the gateway makes of it",
    "mock": "run pretend clouds as real HTTP servers",
    "keys": "make, list and revoke the keys of tenants",
    "usage": "what was used and what it cost, by tenant, model, backend, day",
    "trace": "where the time of a request went, and why it went where it went",
    "cache": "count the answers that are kept in Redis, or remove some",
    "status": "show the standing of a running gateway",
    "healthcheck": "ask a running gateway whether it is ready; for containers",
    "schema": "print the JSON Schema of the configuration document",
    "version": "print the version",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code. Wrong usage prints help and returns 2."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="spillgate",
        description="One OpenAI-compatible endpoint over many capacity-limited GPU clouds.",
        epilog="Start with: spillgate demo. Every verb has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"spillgate {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    wanted = next((word for word in words if word in VERBS), None)
    for name, text in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:
            importlib.import_module(f"gateway.cli.{name}").arguments(sub)
    try:
        args = parser.parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return int(importlib.import_module(f"gateway.cli.{args.verb}").run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
