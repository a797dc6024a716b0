"""What the verbs share that read a configuration document: loading it, and printing what is wrong with it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled
from gateway.policy.load import load
from gateway.upstream import presets, pricelist


def path_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("document", type=Path, metavar="FILE_OR_FOLDER", help="the configuration document")


def read(path: Path) -> Compiled:
    """Load and compile a document with this process's environment. Raises `DocumentError`."""
    return load(path, os.environ, presets.usable(), pricelist.find)


def read_or_report(path: Path, *, as_json: bool = False) -> Compiled | None:
    """The same, but print every problem and return None when the document is wrong."""
    try:
        return read(path)
    except DocumentError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": [problem.as_dict() for problem in error.problems]}, indent=2))
        else:
            print(error, file=sys.stderr)
            count = len(error.problems)
            print(f"{count} problem{'s' if count != 1 else ''}; nothing was started.", file=sys.stderr)
        return None
