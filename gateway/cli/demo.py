"""`spillgate demo`: five pretend clouds, a surge, one of them failing, and what the gateway makes of it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.live import Live

from gateway.cli import demo_children, demo_view
from gateway.cli.demo_children import DemoError
from gateway.cli.demo_client import Client
from gateway.cli.demo_load import MODEL, Load
from gateway.cli.demo_report import Report, fold
from gateway.clouds.fleet import parse
from gateway.clouds.profiles import Fleet
from gateway.errors import DocumentError
from gateway.policy.load import load as load_policy
from gateway.sim.bound import sustained
from gateway.sim.demand import Outage, Scene, mean_answer, mean_prompt, surge
from gateway.sim.score import Terms
from gateway.upstream import presets

SEED = 8
FAILS = "deepseek"
TIMES = 6.0
FIRST_TOKEN = 3.0
"""seconds a cloud may take to its first token after the wait for a slot: one of them queues in silence"""
FLOOR, FLOOR_FAST = 0.97, 0.90
DRAIN = 25.0
"""seconds after the last arrival by which everything must be answered"""
FRAMES = 0.25


@dataclass(frozen=True, slots=True)
class Play:
    """Everything that is known before the first process starts."""

    fleet: Fleet
    scene: Scene
    terms: Terms
    seed: int
    floor: float
    fleet_document: Mapping[str, Any]
    policy_path: Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=SEED, help="decides demand and chance (default %(default)s)")
    parser.add_argument("--fast", action="store_true", help="about 20 seconds in place of 40, for CI")
    parser.add_argument("--stay", action="store_true", help="go on serving afterwards, until Ctrl-C")
    parser.add_argument(
        "--json", action="store_true", help="print the closing report as JSON, and nothing else to stdout"
    )
    parser.add_argument("--port", type=int, default=0, help="the gateway's port (default: a free one)")


def run(args: argparse.Namespace) -> int:
    console = Console(stderr=args.json, width=None if _is_terminal(args) else 120, highlight=False)
    try:
        play = prepare(args.seed, fast=args.fast)
        with asyncio.Runner(loop_factory=_loop) as runner:
            return runner.run(_guarded(play, args, console))
    except (DemoError, DocumentError) as error:
        print(error, file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130


def prepare(seed: int, *, fast: bool) -> Play:
    """Read the two documents and draw the demand. Raises DemoError or DocumentError."""
    folder = demo_children.policies()
    document = demo_children.fleet_document(folder / "clouds-demo.yaml")
    fleet = parse(document)
    policy_path = folder / "demo.yaml"
    policies = load_policy(policy_path, os.environ, presets.infos()).plan.policies
    terms = Terms(next(iter(policies.values())).queue.max_wait, FIRST_TOKEN)
    capacity = sustained(fleet, mean_answer(), mean_prompt())
    if fast:
        scene = surge(capacity, FAILS, seed, times=TIMES, calm=3.0, peak=10.0, out=3.0)
    else:
        scene = surge(capacity, FAILS, seed, times=TIMES)
    return Play(fleet, scene, terms, seed, FLOOR_FAST if fast else FLOOR, document, policy_path)


def _is_terminal(args: argparse.Namespace) -> bool:
    return sys.stdout.isatty() and not args.json


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


@contextlib.contextmanager
def _written(document: Mapping[str, Any]) -> Iterator[Path]:
    """The fleet file of this run, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="spillgate-demo-") as scratch:
        path = Path(scratch, "clouds.yaml")
        path.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
        yield path


async def _guarded(play: Play, args: argparse.Namespace, console: Console) -> int:
    """Any of the three ways of being told to stop cancels the play, so that its children are ended."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    with _written(play.fleet_document) as fleet_path:
        async with demo_children.mock(fleet_path, play.seed) as clouds:
            control, urls = await demo_children.mock_ports(clouds)
            async with demo_children.gateway(play.policy_path, args.port, urls) as child:
                url = await demo_children.gateway_url(child)
                return await _perform(play, args, console, url, control)


async def _perform(play: Play, args: argparse.Namespace, console: Console, url: str, control: str) -> int:
    greet(console, url)
    gateway, clouds = Client(url), Client(control)
    try:
        stage = _Performance(play, gateway, clouds, console, live=_is_terminal(args))
        report = await stage.run()
        if args.json:
            print(json.dumps(report.as_dict(), indent=2), flush=True)
        else:
            demo_view.show(report, console)
        if args.stay:
            console.print(f"\nStill serving at {url}/v1 until Ctrl-C.")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return 0 if report.passed else 1
    finally:
        gateway.close()
        clouds.close()


def greet(console: Console, url: str) -> None:
    """Two ways to talk to it while it runs."""
    messages = '[{"role": "user", "content": "hello"}]'
    lines = (
        "",
        f"Watch it: {url}/console",
        "",
        "Talk to it while it runs:",
        "",
        f"  curl -N {url}/v1/chat/completions -H 'content-type: application/json' \\",
        f"""    -d '{{"model": "{MODEL}", "stream": true, "max_tokens": 60, "messages": {messages}}}'""",
        "",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{url}/v1", api_key="any")',
        f'  client.chat.completions.create(model="{MODEL}", max_tokens=60, messages={messages})',
        "",
    )
    for text in lines:
        console.print(text, markup=False, soft_wrap=True)


class _Performance:
    """One run: the demand, the outage and the picture, side by side."""

    def __init__(self, play: Play, gateway: Client, clouds: Client, console: Console, *, live: bool) -> None:
        self._play = play
        self._gateway = gateway
        self._clouds = clouds
        self._console = console
        self._live = live
        self._load = Load(gateway, play.scene.needs, play.terms)
        self._outages: list[Outage] = []
        self._began = 0.0

    async def run(self) -> Report:
        """Play the scene to its end and judge it. Raises DemoError when the gateway or the clouds stop answering."""
        self._began = self._gateway.clock() + 0.2
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._fail(outage)) for outage in self._play.scene.outages]
                helpers.append(group.create_task(self._show()))
                await self._send()
                for helper in helpers:
                    helper.cancel()
        except ExceptionGroup as several:
            if (ours := several.subgroup(DemoError)) is not None:
                raise DemoError("\n".join(str(error) for error in ours.exceptions)) from several
            raise
        await asyncio.sleep(0.2)
        play = self._play
        return fold(
            play.seed,
            play.floor,
            play.fleet,
            play.scene,
            tuple(self._outages),
            play.terms,
            self._load.records,
            await self._ask(self._clouds, "GET", "/stats"),
            await self._ask(self._gateway, "GET", "/status"),
            self._load.late,
        )

    async def _send(self) -> None:
        try:
            async with asyncio.timeout(self._play.scene.lasts + DRAIN):
                await self._load.run(self._began)
        except TimeoutError:
            missing = len(self._play.scene.needs) - len(self._load.records)
            raise DemoError(f"{missing} requests were never answered") from None

    async def _fail(self, outage: Outage) -> None:
        """Crash a cloud and bring it back; note when that really happened, since the clairvoyant is told."""
        await self._until(outage.starts)
        starts = self._at()
        await self._ask(self._clouds, "POST", f"/clouds/{outage.cloud}", {"fail": "crash"})
        self._outages.append(replace(outage, starts=starts))
        await self._until(outage.ends)
        await self._ask(self._clouds, "POST", f"/clouds/{outage.cloud}", {"fail": None})
        self._outages[-1] = replace(outage, starts=starts, ends=self._at())

    async def _show(self) -> None:
        if not self._live:
            while True:
                await self._until(int(self._at()) + 1.0)
                self._console.print(demo_view.line(await self._moment()), soft_wrap=True)
        view = demo_view.View()
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(view.draw(await self._moment(), self._console.width), refresh=True)
                await asyncio.sleep(FRAMES)

    async def _moment(self) -> demo_view.Moment:
        status = await self._ask(self._gateway, "GET", "/status")
        return demo_view.moment(self._play.scene, self._load, status, max(0.0, self._at()))

    async def _ask(self, client: Client, method: str, path: str, body: object = None) -> dict[str, Any]:
        exchange = await client.ask(method, path, b"" if body is None else json.dumps(body).encode())
        if exchange.lost or not 200 <= exchange.status < 300:
            raise DemoError(
                f"{method} {path} was answered {exchange.status or 'with silence'}: {exchange.tail[:300]!r}"
            )
        answer = json.loads(exchange.tail or b"{}")
        return answer if isinstance(answer, dict) else {}

    def _at(self) -> float:
        return self._gateway.clock() - self._began

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._at()))
