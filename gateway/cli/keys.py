"""`spillgate keys`: the keys of a running gateway's tenants; `hash` and `--offline` need no gateway."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import secrets
import sys
import time
from typing import Any
from urllib.parse import quote

import httpx

from gateway.policy import scalars
from gateway.policy.keys import ENTROPY, digest, key_id, minted


class _Refused(Exception):
    """The gateway said no, or nothing. `code` is the error's, if it has one."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="make a key; it is printed this once")
    new.add_argument("tenant", metavar="TENANT", help="whose key it is")
    new.add_argument("--name", help="what people call it")
    new.add_argument("--expires", metavar="WHEN", help="30d, 2027-01-31, or 2027-01-31T08:00:00+08:00")
    new.add_argument("--replaces", metavar="ID", help="a key of the same tenant, which expires after --overlap")
    new.add_argument("--overlap", metavar="TIME", help="for how long the key it replaces goes on (default 24h)")
    new.add_argument("--create", action="store_true", help="make the tenant too if there is none")
    new.add_argument("--class", dest="class_", choices=("interactive", "standard", "batch"), help="with --create")
    new.add_argument("--weight", type=float, help="with --create")
    new.add_argument(
        "--offline", action="store_true", help="ask no gateway: print a key, and its line for the document"
    )
    listing = actions.add_parser("list", help="list keys")
    listing.add_argument("tenant", metavar="TENANT", nargs="?", help="of this tenant only")
    revoke = actions.add_parser("revoke", help="make a key open nothing any more, for good")
    revoke.add_argument("id", metavar="ID", help="the key's id, or its name")
    actions.add_parser("hash", help="read a key from standard input, print its line for the document")
    port = os.environ.get("SPILLGATE_ADMIN_PORT") or os.environ.get("PORT", "8080")
    for action in (new, listing, revoke):
        action.add_argument("--url", default=f"http://127.0.0.1:{port}", help="the gateway (default %(default)s)")
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    try:
        if args.action == "hash":
            return _hash()
        if args.action == "new":
            return _offline(args) if args.offline else _new(args)
        return _list(args) if args.action == "list" else _revoke(args)
    except _Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2


def _new(args: argparse.Namespace) -> int:
    if (args.class_ or args.weight is not None) and not args.create:
        raise ValueError("--class and --weight are for --create")
    given = {"tenant": args.tenant, "name": args.name, "replaces": args.replaces, "overlap": args.overlap}
    given["expires"] = _moment(args.expires)
    if args.create:
        _create(args)
    found = _ask(args.url, "POST", "keys", {name: value for name, value in given.items() if value is not None})
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(found["key"])  # alone on standard output: KEY=$(spillgate keys new acme)
    until = f", until {found['expires']}" if found["expires"] else ""
    print(f"key {found['id']} of {found['tenant']}{until}; it is not shown again", file=sys.stderr)
    return 0


def _create(args: argparse.Namespace) -> None:
    """Make the tenant; one that is there already, in the document or not, stays as it is."""
    terms = {"name": args.tenant, "class": args.class_, "weight": args.weight}
    try:
        _ask(args.url, "POST", "tenants", {name: value for name, value in terms.items() if value is not None})
    except _Refused as refusal:
        if refusal.code not in {"tenant_exists", "tenant_in_document"}:
            raise
        if args.class_ or args.weight is not None:
            raise _Refused(f"{refusal} Its class and weight were not changed, and no key was made.") from None


def _offline(args: argparse.Namespace) -> int:
    key = minted(secrets.token_bytes(ENTROPY))
    line: dict[str, str] = {"key": f"sha256:{digest(key).hex()}"}
    if args.name:
        line["name"] = args.name
    if expires := _moment(args.expires):
        line["expires"] = expires
    if args.json:
        print(json.dumps({"id": key_id(digest(key)), "key": key, "document": line}, indent=2))
        return 0
    print(key)
    shown = ", ".join(f"{name}: {json.dumps(value)}" for name, value in line.items())
    print(f"for the document, tenants.{args.tenant}.keys:\n  - {{{shown}}}", file=sys.stderr)
    return 0


def _hash() -> int:
    key = getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()
    key = key.strip()
    if len(key) < 8 or not key.isascii() or any(sign.isspace() for sign in key):
        raise ValueError("expected a key of at least 8 ASCII characters without spaces")
    print(f"sha256:{digest(key).hex()}")
    return 0


def _list(args: argparse.Namespace) -> int:
    query = f"?tenant={quote(args.tenant, safe='')}" if args.tenant else ""
    found = _ask(args.url, "GET", f"keys{query}")["data"]
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("tenant", "id", "name", "status", "created", "expires", "source")
    for heading in columns:
        table.add_column(heading)
    for key in found:
        table.add_row(*(str(key[column] or "–") for column in columns))
    Console().print(table)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    found = _ask(args.url, "DELETE", f"keys/{quote(args.id, safe='')}")
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"key {found['id']} of {found['tenant']} opens nothing any more")
    return 0


def _moment(text: str | None) -> str | None:
    """A time as the admin API wants it. Durations count from now. Raises `ValueError`."""
    if text is None:
        return None
    if (seconds := scalars.duration(text)) is not None:
        return scalars.written(time.time() + seconds)
    if scalars.moment(text) is None:
        raise ValueError(f"--expires: {scalars.EXPECTED['moment']}, or a duration such as 30d")
    return text


def _ask(url: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    """One request to the admin API. Raises `_Refused` with what the gateway says, or that it says nothing."""
    key = os.environ.get("SPILLGATE_ADMIN_KEY", "")
    if not key:
        raise _Refused("set SPILLGATE_ADMIN_KEY to the admin key that the gateway was started with")
    headers = {"authorization": f"Bearer {key}"}
    try:
        answer = httpx.request(method, f"{url.rstrip('/')}/admin/v1/{path}", json=body, headers=headers, timeout=10.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _Refused(f"no answer from {url}: {type(error).__name__}") from None
    if answer.is_success:
        found: dict[str, Any] = answer.json()
        return found
    try:
        said = answer.json()["error"]
        message, code = str(said["message"]), str(said["code"])
    except (ValueError, KeyError, TypeError):
        raise _Refused(f"{url} answered with {answer.status_code}") from None
    if code == "unknown_url":
        message = f"{url} has no admin API: start it with SPILLGATE_ADMIN_KEY, or name its admin listener with --url"
    raise _Refused(message, code)
