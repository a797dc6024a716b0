"""What the verbs share that read a configuration document: finding it, loading it, and printing what is wrong with it.

It is named on the command line, or by SPILLGATE_CONFIG: a file, a folder, or, for platforms without files, the text
itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled
from gateway.policy.diagnose import Place, fail
from gateway.policy.load import load, load_text, sources
from gateway.upstream import presets, pricelist

CONFIG = "SPILLGATE_CONFIG"


def path_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "document",
        type=Path,
        nargs="?",
        metavar="FILE_OR_FOLDER",
        help="the configuration document (default: SPILLGATE_CONFIG, a path or the text itself)",
    )


def read(given: Path | None) -> Compiled:
    """Load and compile a document with this process's environment. Raises `DocumentError`, also if none is named."""
    if (text := _inline(given)) is not None:
        return load_text(text, os.environ, presets.usable(), CONFIG, pricelist.find)
    path = given or _named()
    if path is None:
        hint = f"name a file or a folder, or set {CONFIG} to one or to the text itself"
        raise fail(Place(CONFIG, 1, 1), (), "there is no configuration document", hint)
    return load(path, os.environ, presets.usable(), pricelist.find)


def files(given: Path | None) -> tuple[Path, ...]:
    """What `read` would read now; nothing where the environment holds the text. A watcher looks at these."""
    path = None if _inline(given) is not None else given or _named()
    return () if path is None else sources(path)


def _inline(given: Path | None) -> str | None:
    """The environment's text, told from a path by a line break, a colon with a space, or a brace at its start."""
    word = os.environ.get(CONFIG, "")
    is_text = "\n" in word or ": " in word or word.lstrip().startswith("{")
    return word if given is None and is_text else None


def _named() -> Path | None:
    word = os.environ.get(CONFIG, "")
    return Path(word) if word else None


def read_or_report(path: Path | None, *, as_json: bool = False) -> Compiled | None:
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
