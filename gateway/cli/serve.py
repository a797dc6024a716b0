"""`spillgate serve`"""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import uvicorn

from gateway import __version__
from gateway.app import Gateway
from gateway.cli import document
from gateway.cli.workers import Workers
from gateway.edge.drain import Drain
from gateway.edge.server import Protocol, Server
from gateway.policy.compiled import Compiled
from gateway.settings import Settings, read
from gateway.telemetry import logs

log = logging.getLogger("spillgate")
_WATCH_EVERY = 1.0
_BACKLOG = 4096


def arguments(parser: argparse.ArgumentParser) -> None:
    document.path_argument(parser)
    parser.add_argument("--host", help="address to listen on (default: HOST or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port, 0 for a free one (default: PORT or 8080)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes; more than one need REDIS_URL (default: SPILLGATE_WORKERS or 1)",
    )
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # a worker's: the socket it inherits
    parser.add_argument("--admin-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--no-reload", action="store_true", help="do not watch the document for changes (also: SPILLGATE_RELOAD=off)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        settings = read(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    logs.setup(settings.log)
    seen = _fingerprint(args.document)  # before it is read: a change in between is seen later, never missed
    compiled = document.read_or_report(args.document)
    if compiled is None:
        return 2
    host = args.host or settings.host
    args.workers = settings.workers if args.workers is None else args.workers
    if (refusal := _refusal(args, settings, compiled, host)) is not None:
        print(refusal, file=sys.stderr)
        return 2
    try:
        listener = _open(args.fd, host, settings.port if args.port is None else args.port)
        admin = None
        if settings.admin_port is not None:
            admin = _open(args.admin_fd, settings.admin_host, settings.admin_port)
    except OSError as error:
        print(error.strerror, file=sys.stderr)
        return 1
    if args.fd is None:
        _greet(compiled, listener, admin, settings)
    if args.workers > 1:
        return Workers(args.document, listener, admin, args.workers, reload=not args.no_reload).run()
    reloads = settings.reload and not args.no_reload and seen
    gateway = Gateway(compiled, settings)
    gateway.admin_port = admin.getsockname()[1] if admin is not None else None
    watch = _watch(gateway, args.document, seen) if reloads else None
    with asyncio.Runner(loop_factory=_loop) as runner:
        return runner.run(_serve(gateway, [listener, admin] if admin else [listener], args.document, watch))


def _refusal(args: argparse.Namespace, settings: Settings, compiled: Compiled, host: str) -> str | None:
    """Why this must not be served, if it must not."""
    if not compiled.tenants and not settings.enrols and not _is_loopback(host):
        return (
            f"refusing to listen on {host}: the document names no tenants, so anybody could use your keys. "
            "Add `tenants:`, or listen on 127.0.0.1; or make them at run time (SPILLGATE_ADMIN_KEY, REDIS_URL)."
        )
    if settings.admin_port and settings.admin_port == (settings.port if args.port is None else args.port):
        return "SPILLGATE_ADMIN_PORT must be another port than the gateway's own"
    if args.workers < 1:
        return "--workers must be at least 1"
    if args.workers > 1 and not settings.redis_url:
        return "--workers needs REDIS_URL: without shared state each worker would use the whole of every limit."
    if compiled.usage is not None and not compiled.usage.file and not settings.redis_url:
        return "usage.stream needs REDIS_URL: records of usage would go nowhere."
    return None


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def _serve(
    gateway: Gateway, listeners: list[socket.socket], path: Path | None, watch: Coroutine[Any, Any, None] | None
) -> int:
    config = uvicorn.Config(
        gateway,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        backlog=_BACKLOG,
    )
    server = Server(config, gateway.drain)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, gateway.drain, loop)
    loop.add_signal_handler(signal.SIGHUP, lambda: gateway.reload(lambda: document.read(path)))
    watcher = asyncio.create_task(watch) if watch is not None else None
    # What exists now lives as long as the process: spare the collector from walking it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    try:
        await server.serve(sockets=listeners)
    finally:
        if watcher is not None:
            watcher.cancel()
    return 0


def _stop(drain: Drain, loop: asyncio.AbstractEventLoop) -> None:
    """A signal. The first drains, the second hurries, the third finds nobody who listens and ends the process."""
    if drain.asked.is_set():
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    drain.ask()


Fingerprint = tuple[tuple[str, int, int, int], ...]


async def _watch(gateway: Gateway, path: Path | None, seen: Fingerprint) -> None:
    """Reload when a source file changes. Looks at sizes and times: it works on every mount, also on config maps."""
    while True:
        await asyncio.sleep(_WATCH_EVERY)
        now = _fingerprint(path)
        if now != seen:
            seen = now
            gateway.reload(lambda: document.read(path))


def _fingerprint(path: Path | None) -> Fingerprint:
    found = []
    for source in document.files(path):
        try:
            stat = source.stat()
        except OSError:
            continue
        found.append((str(source), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _open(fd: int | None, host: str, port: int) -> socket.socket:
    """The listener that was inherited, or a new one. Raises `OSError` whose text says where it could not listen."""
    if fd is not None:
        return socket.socket(fileno=fd)
    try:
        return _listen(host, port)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # whoever comes before the gateway is ready waits instead of being turned away
    except OSError:
        listener.close()
        raise
    return listener


def _greet(compiled: Compiled, listener: socket.socket, admin: socket.socket | None, settings: Settings) -> None:
    for warning in compiled.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not compiled.tenants and settings.enrols:
        print("no tenants in the document: serving those that are made at run time", file=sys.stderr)
    elif not compiled.tenants:
        print("no tenants in the document: serving this machine only, with any key", file=sys.stderr)
    if admin is not None:
        print(f"admin API: {_address(admin)}/admin/v1", file=sys.stderr)
    names = ", ".join(sorted(compiled.plan.models))
    print(f"spillgate {__version__} serves {names} at {_address(listener)}/v1", file=sys.stderr, flush=True)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
