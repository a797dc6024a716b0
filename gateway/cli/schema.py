"""`spillgate schema`"""

from __future__ import annotations

import argparse
import json

from gateway.policy.jsonschema import json_schema


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def run(args: argparse.Namespace) -> int:
    del args
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
