"""The environment, read once and frozen. Everything else is in the configuration document.

SPILLGATE_CONFIG      the configuration document: a file, a folder, or the text itself (see `cli.document`)
SPILLGATE_WORKERS     processes behind the one port (default 1); more than one need REDIS_URL
SPILLGATE_RELOAD      on (default) or off: whether changes of the document's files are looked for
SPILLGATE_ADMIN_KEY   opens /admin/v1 (with REDIS_URL), and /metrics and /status to callers that are not on this machine
SPILLGATE_ADMIN_PORT, SPILLGATE_ADMIN_HOST
                      a listener of its own for /admin/v1, which is nowhere else then (default host 127.0.0.1)
SPILLGATE_LOG         human (default) or json: what is said on standard error, and of requests on standard output
OTEL_…                where traces go and which, as OpenTelemetry has it (see `telemetry.environment`)
REDIS_URL             shared state: redis://, rediss://, redis+sentinel://, redis+cluster://
SPILLGATE_REPLICAS    the most processes that ever run at a time: a first start gets its shares at once, and each
                      goes on with its even part if the shared state was never reached (not told: 1)
SPILLGATE_DRAIN_SECONDS  seconds for what runs to end after a signal to stop, before it is cut (default 20)
SPILLGATE_DRAIN_NOTICE   seconds before that in which only readiness says so and work is still taken (default 0)
SPILLGATE_DRAIN_QUEUE    finish (default) or refuse: what becomes of those who wait for capacity then
PORT, HOST            where `serve` listens unless told on the command line
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. `variables` is for `${NAME}` references of the document."""

    host: str = "127.0.0.1"
    port: int = 8080
    admin_key: str = field(default="", repr=False)
    admin_port: int | None = None
    admin_host: str = "127.0.0.1"
    log: Literal["human", "json"] = "human"
    redis_url: str = field(default="", repr=False)
    replicas: int = 0
    workers: int = 1
    reload: bool = True
    drain_seconds: float = 20.0
    drain_notice: float = 0.0
    drain_queue: str = "finish"
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def enrols(self) -> bool:
        """Whether tenants may come at run time: then a gateway whose document names none is not open to everybody."""
        return bool(self.admin_key and self.redis_url)


def read(environ: Mapping[str, str]) -> Settings:
    """Read the environment. Raises `ValueError` naming the variable that is wrong."""
    port = environ.get("PORT") or "8080"
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"PORT must be a number up to 65535, not {port!r}")
    admin_port = environ.get("SPILLGATE_ADMIN_PORT", "")
    if admin_port and (not admin_port.isdigit() or int(admin_port) > 65535):
        raise ValueError(f"SPILLGATE_ADMIN_PORT must be a number up to 65535, not {admin_port!r}")
    if admin_port and not environ.get("SPILLGATE_ADMIN_KEY"):
        raise ValueError("SPILLGATE_ADMIN_PORT needs SPILLGATE_ADMIN_KEY: without a key there is no admin API")
    return Settings(
        host=environ.get("HOST") or "127.0.0.1",
        port=int(port),
        admin_key=environ.get("SPILLGATE_ADMIN_KEY", ""),
        admin_port=int(admin_port) if admin_port else None,
        admin_host=environ.get("SPILLGATE_ADMIN_HOST") or "127.0.0.1",
        log=cast("Literal['human', 'json']", _one_of(environ, "SPILLGATE_LOG", "human", "json")),
        redis_url=environ.get("REDIS_URL", ""),
        replicas=_count(environ, "SPILLGATE_REPLICAS", 0),
        workers=_count(environ, "SPILLGATE_WORKERS", 1),
        reload=_one_of(environ, "SPILLGATE_RELOAD", "on", "off") == "on",
        drain_seconds=_seconds(environ, "SPILLGATE_DRAIN_SECONDS", 20.0),
        drain_notice=_seconds(environ, "SPILLGATE_DRAIN_NOTICE", 0.0),
        drain_queue=_one_of(environ, "SPILLGATE_DRAIN_QUEUE", "finish", "refuse"),
        variables=dict(environ),
    )


def _one_of(environ: Mapping[str, str], name: str, default: str, other: str) -> str:
    word = environ.get(name) or default
    if word not in {default, other}:
        raise ValueError(f"{name} must be {default} or {other}, not {word!r}")
    return word


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    word = environ.get(name, "")
    if word and (not word.isdecimal() or int(word) < 1):
        raise ValueError(f"{name} must be a number from 1, not {word!r}")
    return int(word or default)


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    word = environ.get(name, "")
    if word and not word.replace(".", "", 1).isdecimal():
        raise ValueError(f"{name} must be a number of seconds, not {word!r}")
    return float(word or default)
