"""`spillgate check`"""

from __future__ import annotations

import argparse
import json

from gateway.cli.document import path_argument, read_or_report


def arguments(parser: argparse.ArgumentParser) -> None:
    path_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true", help="warnings are errors too (exit code 2)")


def run(args: argparse.Namespace) -> int:
    compiled = read_or_report(args.document, as_json=args.json)
    if compiled is None:
        return 2
    plan, warnings = compiled.plan, compiled.warnings
    failed = bool(args.strict and warnings)
    if args.json:
        print(
            json.dumps(
                {
                    "ok": not failed,
                    "version": compiled.version,
                    "warnings": [warning.as_dict() for warning in warnings],
                    "notes": [note.as_dict() for note in compiled.notes],
                    "models": sorted(plan.models),
                    "backends": sorted(plan.backends),
                    "policies": sorted(plan.policies),
                    "tenants": len(compiled.tenants),
                },
                indent=2,
            )
        )
        return 2 if failed else 0
    for warning in warnings:
        print(f"warning: {warning}")
    for note in compiled.notes:
        print(f"note: {note}")
    print(
        f"ok: {len(plan.models)} models, {len(plan.backends)} backends on {len(plan.accounts)} accounts, "
        f"{len(plan.policies)} policies, {len(compiled.tenants)} tenants (configuration {compiled.version})"
    )
    return 2 if failed else 0
