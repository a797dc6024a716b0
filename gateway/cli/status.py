"""`spillgate status`: the standing of a running gateway, in the terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter


def arguments(parser: argparse.ArgumentParser) -> None:
    url_argument(parser)
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="keep trying for so long")
    parser.add_argument("--json", action="store_true", help="print JSON")


def url_argument(parser: argparse.ArgumentParser) -> None:
    port = os.environ.get("PORT", "8080")
    parser.add_argument("--url", default=f"http://127.0.0.1:{port}", help="the gateway (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    try:
        status = fetch(args.url, args.wait)
    except (httpx.HTTPError, RetryError) as error:
        print(f"no answer from {args.url}: {type(error).__name__}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(status, indent=2))
    else:
        _show(status)
    return 0


def fetch(url: str, wait: float = 0.0) -> dict[str, Any]:
    """Ask `/status`, as `ask`."""
    return ask(url, "/status", wait)


def ask(url: str, path: str, wait: float = 0.0) -> dict[str, Any]:
    """Ask a gateway for something it tells its operator. `wait`: seconds to keep trying for.

    Raises `httpx.HTTPError` when nobody answers, or not with what was asked, `PermissionError` when we may not look.
    """
    key = os.environ.get("SPILLGATE_ADMIN_KEY", "")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    tries = Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(wait),
        wait=wait_exponential_jitter(multiplier=0.05, max=1.0),
        reraise=True,
    )
    answer: httpx.Response = tries(httpx.get, f"{url.rstrip('/')}{path}", headers=headers, timeout=5.0)
    if answer.status_code in {401, 403}:
        raise PermissionError("the gateway asks for its admin key: set SPILLGATE_ADMIN_KEY")
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _show(status: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    fleet = status["fleet"]
    totals = fleet["totals"]
    console.print(
        f"spillgate {status['version']}, configuration {status['configuration']}: "
        f"{totals['in_flight']} in flight, {totals['waiting']} waiting, {totals['offered']} offered since start"
        + (f", {totals['hedged']} hedged ({totals['hedges_won']} won)" if totals["hedged"] else "")
    )
    if fleet["waiting_tenants"]:
        console.print(_tenants(fleet["waiting_tenants"]), highlight=False)
    console.print(_queue(fleet), highlight=False)
    if status["reload_error"]:
        console.print(f"[red]the last reload was rejected:[/red]\n{status['reload_error']}", highlight=False)
    if (line := _shared(status.get("shared_state"))) is not None:
        console.print(line, highlight=False)
    accounts = {account["name"]: account for account in fleet["accounts"]}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "backend",
        "state",
        "in flight",
        "limits",
        "price now",
        "TTFT",
        "served",
        "refused",
        "failed",
        "spilled in",
    ):
        table.add_column(heading, justify="left" if heading in {"backend", "state", "limits"} else "right")
    for backend in fleet["backends"]:
        account = accounts[backend["account"]]
        counts = backend["counters"]
        ttft = backend["ttft"]
        table.add_row(
            backend["name"],
            _state(backend, account, fleet["at"]),
            str(backend["in_flight"]),
            " ".join(_room(room) for room in account["rooms"]),
            _price(backend["prices"]),
            f"{ttft:.2f} s" if ttft is not None else "–",
            *(str(counts[name]) for name in ("served", "limited", "failed", "spilled_in")),
        )
    console.print(table)
    for line in _below(status):
        console.print(line, highlight=False)


def _below(status: dict[str, Any]) -> Iterator[str]:
    """What is told below the table: what was learnt, where records go, what is left of budgets."""
    fleet = status["fleet"]
    learnt = [line for account in fleet["accounts"] if (line := _learnt(account)) is not None]
    if learnt:
        yield "\nlearnt:\n" + "\n".join(learnt)
    if collector := status.get("traces", {}).get("collector"):
        trouble = f", [red]{collector['trouble']}[/red]" if collector["trouble"] else ""
        counts = f"{collector['exported']} exported, {collector['waiting']} waiting, {collector['dropped']} lost"
        yield f"traces: {counts}{trouble}"
    for sink in status["usage"]:
        trouble = f", [red]{sink['trouble']}[/red]" if sink["trouble"] else ""
        counts = f"{sink['written']} written, {sink['waiting']} waiting, {sink['dropped']} lost"
        yield f"usage records to the {sink['name']}: {counts}{trouble}"
    for budget in status.get("budgets", ()):
        colour = {"open": "default", "warning": "yellow", "spent": "red"}[budget["state"]]
        spent = f"[{colour}]{budget['spent']} of {budget['amount']} {budget['currency']}[/{colour}]"
        counts = f"{budget['left']} left, renews at {budget['renews_at']}, {budget['refused']} refused"
        yield f"budget of {budget['name']} per {budget['per']}: {spent} spent, {counts}"


def _price(prices: dict[str, Any]) -> str:
    """In and out per million; "…" when its models differ."""
    shown = {f"{price['input']:g}/{price['output']:g} {price['currency']}" for price in prices.values()}
    return min(shown, default="–") + (" …" if len(shown) > 1 else "")


def _tenants(waiting: dict[str, dict[str, int]]) -> str:
    """Of whom most wait, and as what."""
    shown = (
        f"{name} " + ", ".join(f"{n} {class_}" for class_, n in counts.items()) for name, counts in waiting.items()
    )
    return "waiting: " + "; ".join(shown)


def _queue(fleet: dict[str, Any]) -> str:
    """Pressure by model, and who waits how long by class; classes that differ in nothing share a line."""
    lines: dict[str, list[str]] = {}
    for found in fleet["pressures"]:
        rung = f", rung {found['rung']:g} holds" if found["rung"] else ""
        wait = "" if found["wait"] == 0 else f", expected wait {_seconds(found['wait'])}"
        told = f"pressure {'∞' if found['pressure'] is None else format(found['pressure'], '.2f')}{rung}{wait}"
        lines.setdefault(f"{found['model']}: {told}", []).append(found["class_"])
    shown = [f"{line} ({', '.join(classes)})" if len(classes) < 3 else line for line, classes in lines.items()]
    for class_, count in fleet["waiting_classes"].items():
        if count:
            shown.append(f"waiting, {class_}: {count}, the oldest for {_seconds(fleet['waiting_oldest'][class_])}")
    return "\n".join(shown)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"


def _shared(state: dict[str, Any] | None) -> str | None:
    """One line on the shared state; None: there is none."""
    if state is None:
        return None
    count = state["replicas"]
    line = f"shared state: {count} replica{'s' if count != 1 else ''} share the limits"
    if state["degraded"]:
        line = f"[red]shared state out of reach, working with safe shares:[/red] {state['reason']}"
    return line + (", waiting for others to report" if state["learning"] else "")


def _room(room: dict[str, Any]) -> str:
    """Used of what may be used here, and the whole where that is a share."""
    whole = f" of {room['whole']:g}" if room["whole"] is not None else ""
    return f"{room['kind']} {room['used']:g}/{room['limit']:g}{whole}"


def _learnt(account: dict[str, Any]) -> str | None:
    """What was learnt of an account, why, and who tries for more."""
    found = [f"{said['kind']} {said['limit']:g}" for said in account["said"] if said["source"] == "learned"]
    if not found:
        return None
    prober = "this replica" if account["probes"] else f"replica {account['prober']}" if account["prober"] else "nobody"
    elsewhere = f", {account['elsewhere']} in flight elsewhere" if account["elsewhere"] else ""
    return f"  {account['name']}: {', '.join(found)} ({account['learnt_why']}); {prober} tries for more{elsewhere}"


def _state(backend: dict[str, Any], account: dict[str, Any], now: float) -> str:
    if backend["breaker"] != "closed":
        return f"breaker {backend['breaker']}"
    until = account["cooling_until"]
    if account["cooling_reason"] and (until is None or until > now):
        return f"cooling: {account['cooling_reason']}"
    return "up" if backend["available"] else "resting"
