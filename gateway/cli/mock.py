"""`spillgate mock`"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from gateway.clouds.fleet import FleetError, load
from gateway.clouds.profiles import Fleet, Profile
from gateway.clouds.server import HOST, Running, serve
from gateway.core.nouns import LIMIT_KINDS

_PRESETS = {
    "dashscope": "alibaba-model-studio",
    "ark": "volcengine-ark",
    "tokenhub": "tencent-tokenhub",
    "qianfan": "baidu-qianfan",
    "huawei": "huawei-maas",
}
"""preset of a dialect, where it is not the dialect's own name"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fleet", type=Path, help="a fleet file, such as policies/clouds-demo.yaml")
    parser.add_argument("--seed", type=int, help="seed of all chance and of the answers' text (default: the file's)")
    parser.add_argument(
        "--control", type=int, metavar="PORT", help="control port, 0 for a free one (default: the file's)"
    )
    parser.add_argument(
        "--host", default=HOST, help="where the clouds listen, not their control port (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print ports and stanzas as one JSON line")


def run(args: argparse.Namespace) -> int:
    try:
        fleet = load(args.fleet)
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    if args.seed is not None:
        fleet = replace(fleet, seed=args.seed)
    if args.control is not None:
        fleet = replace(fleet, control=args.control)
    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(_mock(fleet, args.host, as_json=args.json))
    except OSError as error:
        print(f"cannot listen: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _mock(fleet: Fleet, host: str, *, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with await serve(fleet, host) as running:
        print(_as_json(running) if as_json else _as_text(running), flush=True)
        await stop.wait()


def stanza(profile: Profile, base_url: str) -> str:
    """The backend of a configuration document that fits this cloud, as YAML on a few lines."""
    serves = ", ".join(f"{model}: {model}" for model in profile.models)
    limits = {kind: value for kind in LIMIT_KINDS if (value := getattr(profile.limits, kind)) is not None}
    limits.setdefault("streams", profile.slots) if profile.slots is not None else None
    told = ", ".join(f"{kind}: {value}" for kind, value in limits.items())
    lines = [
        f"  {profile.name}:",
        f"    preset: {_PRESETS.get(profile.dialect, profile.dialect)}",
        f"    base_url: {base_url}",
        f"    serves: {{{serves}}}",
    ]
    if profile.key:
        lines.append(f"    key: {profile.key}")
    if told:
        lines.append(f"    limits: {{{told}}}")
    return "\n".join(lines)


def _as_text(running: Running) -> str:
    lines = [f"{profile.name:<16} {running.base_url(profile.name)}" for profile in running.fleet.clouds]
    lines += [f"{'control':<16} http://{HOST}:{running.control}", "", "backends:"]
    lines += [stanza(profile, running.base_url(profile.name)) for profile in running.fleet.clouds]
    return "\n".join(lines)


def _as_json(running: Running) -> str:
    return json.dumps(
        {
            "control": f"http://{HOST}:{running.control}",
            "clouds": {
                profile.name: {
                    "base_url": running.base_url(profile.name),
                    "dialect": profile.dialect,
                    "stanza": stanza(profile, running.base_url(profile.name)),
                }
                for profile in running.fleet.clouds
            },
        }
    )
