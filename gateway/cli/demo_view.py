"""What the demo shows: a live table on a terminal, one line a second without one, and the closing report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.cli.demo_load import Load
from gateway.cli.demo_report import PROMPT, CloudReport, Report
from gateway.sim.demand import Scene
from gateway.sim.score import Score

BAR, NARROW_BAR, CURVE = 14, 8, 50
WIDE = 100
"""characters: from here on everything is shown, and no more are used"""
_KINDS = ("streams", "rpm", "tpm", "rps", "ramp")
SPARKS = "▁▂▃▄▅▆▇█"
_NOTE = """over     limits above which a request arrived, by the cloud's count. Tokens
         count as they flow: what runs may carry a minute past its limit,
         but nothing new may come then
spilled  came here because a better tier was full, or on a second attempt
torn     running when the cloud crashed
away     tried while nobody answered"""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STATES = {"closed": ("ok", "green"), "open": ("out", "red"), "half-open": ("trying", "yellow")}


@dataclass(frozen=True, slots=True)
class Cloud:
    """One row. `limit` None: streams are not limited; `fullest`: its other limits' fullest, as kind and share."""

    name: str
    in_flight: int
    limit: int | None
    fullest: tuple[str, float] | None
    state: str
    served: int
    spilled: int
    refused: int
    failed: int


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that is shown at one time. Seconds, requests, output tokens per second."""

    at: float
    phase: str
    lasts: float
    sent: int
    served: int
    refused: int
    failed: int
    queue: int
    ttft: tuple[float | None, float | None]
    goodput: float
    clouds: tuple[Cloud, ...]


def moment(scene: Scene, load: Load, status: Mapping[str, Any], at: float) -> Moment:
    """The present, from the load generator's figures and the gateway's /status."""
    fleet = status["fleet"]
    accounts = {account["name"]: account for account in fleet["accounts"]}
    return Moment(
        at,
        scene.phase(at),
        scene.lasts,
        load.sent,
        load.served,
        load.refused,
        load.failed,
        sum(fleet["waiting"].values()),
        load.ttft(at),
        load.goodput(at),
        tuple(_cloud(backend, accounts[backend["account"]]) for backend in fleet["backends"]),
    )


def _cloud(backend: Mapping[str, Any], account: Mapping[str, Any]) -> Cloud:
    rooms = {room["kind"]: room for room in account["rooms"]}
    streams = rooms.pop("streams", None)
    shares = [(kind, room["used"] / room["limit"]) for kind, room in rooms.items() if room["limit"] > 0]
    counters = backend["counters"]
    return Cloud(
        backend["name"],
        backend["in_flight"],
        int(streams["limit"]) if streams else None,
        max(shares, key=lambda share: share[1], default=None),
        "cooling" if account["cooling_until"] is not None else backend["breaker"],
        counters["served"],
        counters["spilled_in"],
        counters["limited"] + counters["overloaded"],
        counters["failed"],
    )


# --- one line a second ----------------------------------------------------------------------------------------


def line(now: Moment) -> str:
    """The moment on one line, for logs."""
    clouds = "  ".join(
        f"{cloud.name} {cloud.in_flight}"
        + (f"/{cloud.limit}" if cloud.limit else "")
        + ("" if cloud.state == "closed" else "!")
        for cloud in now.clouds
    )
    return (
        f"{now.at:5.1f} s {now.phase:<8} offered {now.sent:>5}  served {now.served:>4}  refused {now.refused:>5}  "
        f"queue {now.queue:>3}  ttft {_s(now.ttft[0])}/{_s(now.ttft[1])} s  {now.goodput:>5.0f} tok/s  | {clouds}"
    )


# --- a terminal -----------------------------------------------------------------------------------------------


def bar(share: float, width: int, style: str = "green") -> Text:
    """A bar of eighths of a character; `share` above 1 is full."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text.assemble((drawn, style), ("·" * (width - len(drawn)), "dim"))


def sparkline(values: list[float], width: int) -> str:
    """The last `width` values as small bars."""
    shown = values[-width:]
    most = max(shown, default=0.0) or 1.0
    return "".join(SPARKS[min(7, int(8 * value / most))] for value in shown)


class View:
    """Draws moments. Keeps one sample a second for the curves."""

    def __init__(self) -> None:
        self._offered: list[float] = []
        self._goodput: list[float] = []
        self._before = 0
        self._second = -1

    def draw(self, now: Moment, width: int) -> RenderableType:
        """The whole picture of one moment, `width` characters wide at most."""
        if int(now.at) > self._second:
            self._second = int(now.at)
            self._offered.append(now.sent - self._before)
            self._before = now.sent
            self._goodput.append(now.goodput)
        return Panel(
            Group(self._head(now), "", _clouds(now, wide=width >= WIDE), "", self._foot(now)),
            title="[bold]Spillgate[/bold] · one endpoint, five clouds",
            border_style="cyan",
            width=min(width, WIDE),
            padding=(0, 1),
        )

    def _head(self, now: Moment) -> Text:
        done = bar(now.at / now.lasts, 30, "cyan") if now.lasts else Text()
        style = {"surge": "bold red", "outage": "bold red"}.get(now.phase, "bold green")
        return Text.assemble((f"{now.phase:<10}", style), done, f"  {now.at:4.0f} of {now.lasts:.0f} s")

    def _foot(self, now: Moment) -> Text:
        style = "red" if now.failed else ""
        return Text.assemble(
            ("offered ", "dim"),
            f"{now.sent:<7}",
            ("served ", "dim"),
            (f"{now.served:<6}", "green"),
            ("refused ", "dim"),
            (f"{now.refused:<6}", "yellow"),
            ("failed ", "dim"),
            (f"{now.failed:<5}", style),
            ("waiting ", "dim"),
            f"{now.queue}\n",
            ("first token p50 ", "dim"),
            f"{_s(now.ttft[0])} s  ",
            ("p95 ", "dim"),
            f"{_s(now.ttft[1])} s\n",
            ("requests/s ", "dim"),
            (f"{sparkline(self._offered, CURVE):<{CURVE}}", "yellow"),
            f" {self._offered[-1]:5.0f}\n",
            ("tokens/s   ", "dim"),
            (f"{sparkline(self._goodput, CURVE):<{CURVE}}", "green"),
            f" {now.goodput:5.0f}",
        )


def _clouds(now: Moment, *, wide: bool) -> Table:
    drawn = BAR if wide else NARROW_BAR
    widths = {"cloud": 12, "in flight" if wide else "busy": drawn + 1, "": 7, "other limit": 12, "state": 10}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    for name, width in widths.items():
        if wide or name != "other limit":
            table.add_column(name, width=width, no_wrap=True, justify="left" if name else "right")
    for name in ("served", "spilled", "refused", "failed"):
        table.add_column(name, justify="right", width=8, no_wrap=True)
    for cloud in now.clouds:
        word, style = _STATES.get(cloud.state, (cloud.state, "yellow"))
        share = cloud.in_flight / cloud.limit if cloud.limit else cloud.fullest[1] if cloud.fullest else 0.0
        other = f"{cloud.fullest[0]:<4} {cloud.fullest[1]:5.0%}" if cloud.fullest else ""
        table.add_row(
            cloud.name,
            bar(share, drawn, style="red" if word == "out" else "green"),
            f"{cloud.in_flight}/{cloud.limit}" if cloud.limit else f"{cloud.in_flight}/–",
            *([other] if wide else []),
            Text(word, style=style),
            *(str(number) for number in (cloud.served, cloud.spilled, cloud.refused, cloud.failed)),
        )
    return table


# --- the end --------------------------------------------------------------------------------------------------


def show(report: Report, console: Console) -> None:
    """Print the closing report."""
    console.print()
    console.print(_yields(report))
    console.print(_fleet(report, wide=console.width >= WIDE))
    console.print(_NOTE, style="dim", highlight=False)
    console.print()
    console.print(_figures(report), highlight=False)
    console.print()
    for check in report.checks:
        mark, style = ("kept  ", "green") if check.kept else ("BROKEN", "bold red")
        console.print(Text.assemble((mark, style), f"  {check.promise}: {check.found}"))


def _yields(report: Report) -> Table:
    title = "Goodput: output tokens of answers that were whole and began in time"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True, min_width=26)
    for name in ("tokens/s", "tokens", "answers", "refused", "failed", "share"):
        table.add_column(name, justify="right", no_wrap=True)

    def row(name: str, won: Score) -> None:
        share = won.goodput / report.clairvoyant.goodput if report.clairvoyant.goodput else 1.0
        table.add_row(
            name,
            f"{won.goodput / report.lasts:,.0f}",
            f"{won.goodput:,}",
            *(str(number) for number in (won.good, won.turned_away, won.failed)),
            f"{share:.1%}",
        )

    row("Spillgate", report.score)
    row("clairvoyant central queue", report.clairvoyant)
    most = report.bound / report.clairvoyant.goodput if report.clairvoyant.goodput else 1.0
    table.add_row(
        "theoretical bound", f"{report.bound / report.lasts:,.0f}", f"{report.bound:,.0f}", "", "", "", f"{most:.1%}"
    )
    return table


def _fleet(report: Report, *, wide: bool) -> Table:
    kinds = _KINDS if wide else ("streams", "tpm")
    title = "The clouds, by their own counts: peak of limit"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("cloud", no_wrap=True)
    for name in (*kinds, "over", "refused", "served", "spilled", "torn", "away"):
        table.add_column(name, justify="right", no_wrap=True)
    for cloud in report.clouds:
        said_no = sum(count for kind, count in cloud.refused.items() if kind != "crash")
        table.add_row(
            cloud.name, *(_peak(cloud, kind) for kind in kinds),
            str(len(cloud.above)), str(said_no), str(cloud.served), str(cloud.spilled), str(cloud.torn),
            str(cloud.unreachable + cloud.refused.get("crash", 0)),
        )  # fmt: skip
    return table


def _peak(cloud: CloudReport, kind: str) -> Text:
    limit, peak = cloud.limits.get(kind), cloud.peaks.get(kind, 0)
    if limit is None:
        return Text(str(peak) if kind == "streams" else "", style="dim")
    return Text(f"{peak}/{limit}", style="bold yellow" if peak > limit else "")


def _figures(report: Report) -> str:
    won = report.score
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(won.refused.items())) or "none"
    failures = ", ".join(f"{count} {reason}" for reason, count in sorted(report.failures.items())) or "none"
    slow = report.refusal["p99"]
    mark = "" if slow is None or slow <= PROMPT else " (slow!)"
    lines = (
        f"offered        {won.offered}: served {won.served}, refused {won.turned_away}, failed {won.failed}",
        f"failed         {failures}",
        f"refused        {reasons}; {report.told} of {won.turned_away} with Retry-After",
        f"refused in     p50 {_ms(report.refusal['p50'])}, p99 {_ms(slow)}{mark}; {report.waited_in_vain} had waited",
        f"first token    {_line(report.ttft)}",
        f"  clairvoyant  {_line(report.clairvoyant_ttft)}",
        f"attempts       {won.amplification:.3f} per admitted request",
        f"the generator  was never more than {_ms(report.generator_late)} late",
    )
    return "\n".join(lines)


def _line(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_s(value)} s" for name, value in values.items())


def _s(value: float | None) -> str:
    return "  – " if value is None else f"{value:4.2f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value * 1e3:.1f} ms"
