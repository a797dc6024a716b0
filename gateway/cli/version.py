"""`spillgate version`"""

from __future__ import annotations

import argparse
import json
import platform

from gateway import __version__


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps({"spillgate": __version__, "python": platform.python_version()}))
    else:
        print(f"spillgate {__version__} (Python {platform.python_version()})")
    return 0
