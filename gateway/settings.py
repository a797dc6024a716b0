"""The environment, read once and frozen. Everything else is in the configuration document.

SPILLGATE_ADMIN_KEY   opens /admin/v1 (with REDIS_URL), and /metrics and /status to callers that are not on this machine
SPILLGATE_ADMIN_PORT, SPILLGATE_ADMIN_HOST
                      a listener of its own for /admin/v1, which is nowhere else then (default host 127.0.0.1)
SPILLGATE_LOG         human (default) or json
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


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. `variables` is for `${NAME}` references of the document."""

    host: str = "127.0.0.1"
    port: int = 8080
    admin_key: str = field(default="", repr=False)
    admin_port: int | None = None
    admin_host: str = "127.0.0.1"
    log: str = "human"
    redis_url: str = field(default="", repr=False)
    replicas: int = 0
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
    port = environ.get("PORT", "8080")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"PORT must be a number up to 65535, not {port!r}")
    admin_port = environ.get("SPILLGATE_ADMIN_PORT", "")
    if admin_port and (not admin_port.isdigit() or int(admin_port) > 65535):
        raise ValueError(f"SPILLGATE_ADMIN_PORT must be a number up to 65535, not {admin_port!r}")
    if admin_port and not environ.get("SPILLGATE_ADMIN_KEY"):
        raise ValueError("SPILLGATE_ADMIN_PORT needs SPILLGATE_ADMIN_KEY: without a key there is no admin API")
    log = environ.get("SPILLGATE_LOG", "human")
    if log not in {"human", "json"}:
        raise ValueError(f"SPILLGATE_LOG must be human or json, not {log!r}")
    replicas = environ.get("SPILLGATE_REPLICAS", "")
    if replicas and (not replicas.isdigit() or int(replicas) < 1):
        raise ValueError(f"SPILLGATE_REPLICAS must be a number from 1, not {replicas!r}")
    queue = environ.get("SPILLGATE_DRAIN_QUEUE", "finish")
    if queue not in {"finish", "refuse"}:
        raise ValueError(f"SPILLGATE_DRAIN_QUEUE must be finish or refuse, not {queue!r}")
    return Settings(
        host=environ.get("HOST", "127.0.0.1"),
        port=int(port),
        admin_key=environ.get("SPILLGATE_ADMIN_KEY", ""),
        admin_port=int(admin_port) if admin_port else None,
        admin_host=environ.get("SPILLGATE_ADMIN_HOST", "127.0.0.1"),
        log=log,
        redis_url=environ.get("REDIS_URL", ""),
        replicas=int(replicas or 0),
        drain_seconds=_seconds(environ, "SPILLGATE_DRAIN_SECONDS", 20.0),
        drain_notice=_seconds(environ, "SPILLGATE_DRAIN_NOTICE", 0.0),
        drain_queue=queue,
        variables=dict(environ),
    )


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    word = environ.get(name, "")
    if word and not word.replace(".", "", 1).isdecimal():
        raise ValueError(f"{name} must be a number of seconds, not {word!r}")
    return float(word) if word else default
