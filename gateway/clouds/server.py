"""Pretend clouds as real HTTP servers on 127.0.0.1: one process, one loop, one port per cloud and one for control.

    async with await serve(load(Path("policies/clouds-demo.yaml"))) as running:
        running.ports["ark"], running.stats()["ark"], await running.set("ark", fail="crash")

The control port speaks JSON:

    GET  /stats             what every cloud saw (see `counts.Stats`)
    POST /clouds/{name}     {"fail": "crash", "limits": {"streams": 4}, "slots": 2, …}: from now on
    POST /script            [{"at": 5, "cloud": "ark", "set": {"fail": "crash"}}, …]: `at` seconds from now
    POST /reset             forget everything, tear off every connection, drop the scripts
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any

from gateway.clouds.fleet import FleetError, changed
from gateway.clouds.http import Call, Connection, Site
from gateway.clouds.profiles import Fleet
from gateway.clouds.site import CloudSite

HOST = "127.0.0.1"
_JSON = (("content-type", "application/json"),)


class Port:
    """One listening port that can be shut without being given away: connecting is refused, the number stays ours."""

    def __init__(self, number: int, site: Site, host: str = HOST) -> None:
        self._site = site
        self._host = host
        self._held: socket.socket | None = _bound(host, number)
        self._server: asyncio.Server | None = None
        self.number: int = self._held.getsockname()[1]

    async def open(self) -> None:
        if self._held is None:
            return
        held, self._held = self._held, None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._site), sock=held, backlog=2048)

    async def shut(self) -> None:
        """Stop listening; the port stays bound."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for _ in range(100):  # the loop may close the listening socket a little later
            try:
                self._held = _bound(self._host, self.number)
            except OSError:
                await asyncio.sleep(0.005)
            else:
                return
        raise OSError(f"port {self.number} was taken by somebody else")

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._held is not None:
            self._held.close()


class Running:
    """A fleet that listens. `ports` is per cloud, `control` the control port."""

    def __init__(self, fleet: Fleet, host: str = HOST) -> None:
        self.fleet = fleet
        self._host = host
        self._sites = {profile.name: CloudSite(profile, fleet.seed) for profile in fleet.clouds}
        self._doors: dict[str, Port] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._scripts: set[asyncio.Task[None]] = set()
        self._control_site = ControlSite(self)
        self._control: Port | None = None

    @property
    def ports(self) -> dict[str, int]:
        return {name: door.number for name, door in self._doors.items()}

    @property
    def control(self) -> int:
        return self._control.number if self._control is not None else 0

    def base_url(self, name: str) -> str:
        return f"http://{self._host}:{self._doors[name].number}/v1"

    async def start(self) -> None:
        """Listen everywhere. Raises `OSError` when a port is taken; then nothing listens."""
        try:
            for name, site in self._sites.items():
                self._doors[name] = Port(self.fleet.named[name].port, site, self._host)
            self._control = Port(self.fleet.control, self._control_site)
            for name, door in self._doors.items():
                if self._sites[name].cloud.profile.fail != "crash":
                    await door.open()
            await self._control.open()
        except OSError:
            await self.aclose()
            raise

    def stats(self) -> dict[str, dict[str, Any]]:
        """What every cloud saw: the fields of `counts.Stats`, by name."""
        now = asyncio.get_running_loop().time()
        return {name: asdict(site.cloud.stats(now)) for name, site in self._sites.items()}

    async def set(self, name: str, **changes: object) -> None:
        """Change one cloud from now on, in the words of the fleet file. Raises `KeyError`, `FleetError`."""
        site, door = self._sites[name], self._doors[name]
        profile = changed(site.cloud.profile, changes)
        site.change(profile)
        if profile.fail == "crash":
            await door.shut()
            site.hang_up()  # who was accepted while the port was being shut
        else:
            await door.open()

    def script(self, events: object) -> None:
        """Change clouds at times from now on. Raises `FleetError` if any step is wrong; then none happens."""
        steps = self._checked(events)
        task = asyncio.create_task(self._play(steps))
        self._scripts.add(task)
        task.add_done_callback(self._scripts.discard)

    async def reset(self) -> None:
        """As if just started: fleet file's profiles, empty counts, no scripts, no connections."""
        for task in self._scripts:
            task.cancel()
        for name, site in self._sites.items():
            site.reset()
            door = self._doors[name]
            await (door.shut() if site.profile.fail == "crash" else door.open())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that a control request asked for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Stop listening, tear off everybody, end the scripts."""
        for task in (*self._scripts, *self._tasks):
            task.cancel()
        for door in (*self._doors.values(), *([self._control] if self._control else [])):
            door.close()
        for site in self._sites.values():
            site.close()
        for connection in list(self._control_site.connections):
            connection.abort()
        await asyncio.sleep(0)  # let the loop run what the aborts have scheduled

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _checked(self, events: object) -> list[tuple[float, str, dict[str, object]]]:
        problems, steps = [], []
        for index, event in enumerate(events if isinstance(events, list) else [None]):
            at, name, change = _step(event)
            if name not in self._sites or change is None or at is None:
                problems.append(
                    f"{index}: expected {{at: seconds, cloud: name, set: {{…}}}} with a cloud of this fleet"
                )
                continue
            try:
                changed(self._sites[name].cloud.profile, change)
            except FleetError as error:
                problems += [f"{index}.set.{problem}" for problem in error.problems]
            steps.append((at, name, change))
        if problems:
            raise FleetError(problems)
        return sorted(steps, key=lambda step: step[0])

    async def _play(self, steps: list[tuple[float, str, dict[str, object]]]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for at, name, change in steps:
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            await self.set(name, **change)


class ControlSite:
    """The control port's answers."""

    def __init__(self, running: Running) -> None:
        self.connections: set[Connection] = set()
        self._running = running

    def left(self, connection: Connection) -> None:
        """Nothing to undo."""

    def handle(self, call: Call, connection: Connection) -> None:
        if (call.method, call.path) == ("GET", "/stats"):
            connection.reply(200, _JSON, json.dumps(self._running.stats()).encode())
        else:
            self._running.spawn(self._act(call, connection))

    async def _act(self, call: Call, connection: Connection) -> None:
        status, answer = await self._perform(call)
        connection.reply(status, _JSON, json.dumps(answer).encode())

    async def _perform(self, call: Call) -> tuple[int, dict[str, object]]:
        try:
            body = json.loads(call.body or b"{}")
            match call.method, call.path.strip("/").split("/"):
                case "POST", ["clouds", name] if name in self._running.ports:
                    if not isinstance(body, dict):
                        raise FleetError(["expected a mapping"])
                    await self._running.set(name, **body)
                case "POST", ["script"]:
                    self._running.script(body)
                case "POST", ["reset"]:
                    await self._running.reset()
                case _:
                    return 404, {"error": "GET /stats, POST /clouds/{name}, POST /script, POST /reset"}
        except ValueError as error:
            return 400, {"error": f"not JSON: {error}"}
        except FleetError as error:
            return 400, {"error": error.problems}
        return 200, {"ok": True}


async def serve(fleet: Fleet, host: str = HOST) -> Running:
    """Start every cloud of a fleet and its control port; the caller must `aclose` it (or use it as a context).

    The clouds listen at `host`, an IPv4 address; the control port only ever on this machine.

    Raises `OSError` when a port is taken.
    """
    running = Running(fleet, host)
    await running.start()
    return running


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _step(event: object) -> tuple[float | None, str, dict[str, object] | None]:
    if not isinstance(event, Mapping):
        return None, "", None
    at, change = event.get("at"), event.get("set")
    when = float(at) if isinstance(at, int | float) and not isinstance(at, bool) and at >= 0 else None
    return when, str(event.get("cloud")), change if isinstance(change, dict) else None
