"""`serve --workers N`: several processes behind one listening socket, each a replica like any other.

The parent holds the socket (and the admin API's, if that has one of its own) and nothing else. A worker that dies is
started again, with growing pauses if it goes on; SIGTERM, SIGINT and SIGHUP are passed on, as often as they come.
Limits hold across workers because they share them through Redis, exactly as replicas on several machines do; so do
tenants and keys.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

log = logging.getLogger("spillgate")
_PAUSES = (0.1, 0.5, 2.0, 5.0)
_STEADY = 10.0
"""seconds after which a worker is no longer thought to be dying again and again"""


class Workers:
    """The children. `run` returns when all have ended after a signal."""

    def __init__(
        self, document: Path | None, listener: socket.socket, admin: socket.socket | None, count: int, *, reload: bool
    ) -> None:
        self._listeners = [listener, admin] if admin is not None else [listener]
        for each in self._listeners:
            each.set_inheritable(True)
        words = ["serve", *([str(document)] if document else []), "--workers", "1", "--fd", str(listener.fileno())]
        if admin is not None:
            words += ["--admin-fd", str(admin.fileno())]
        self._command = [sys.executable, "-m", "gateway", *words, *([] if reload else ["--no-reload"])]
        self._children: list[subprocess.Popen[bytes] | None] = [None] * count
        self._started = [0.0] * count
        self._deaths = [0] * count
        self._due = [0.0] * count
        self._stopping = False

    def run(self) -> int:
        """Start the workers and keep them until a signal says stop. 0 when all ended well."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        while not self._stopping:
            for place in range(len(self._children)):
                self._look_after(place)
            time.sleep(0.05)
        codes = [child.wait() for child in self._children if child is not None]
        # one that was only just starting ends by the signal itself
        fine = {0, -signal.SIGTERM, -signal.SIGINT}
        return 0 if fine.issuperset(codes) else 1

    def _look_after(self, place: int) -> None:
        child = self._children[place]
        now = time.monotonic()
        if child is not None:
            code = child.poll()
            if code is None:
                return
            steady = now - self._started[place] > _STEADY
            self._deaths[place] = 1 if steady else self._deaths[place] + 1
            pause = _PAUSES[min(self._deaths[place], len(_PAUSES)) - 1]
            log.warning("worker %d (process %d) ended with %d; again in %.1f s", place + 1, child.pid, code, pause)
            self._children[place] = None
            self._due[place] = now + pause
        elif now >= self._due[place] and not self._stopping:
            self._started[place] = now
            inherited = tuple(listener.fileno() for listener in self._listeners)
            # A group of its own: Ctrl-C in a terminal then reaches it once, by us, and not twice.
            self._children[place] = subprocess.Popen(self._command, pass_fds=inherited, process_group=0)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._stopping = True
        self._signal(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal(number)

    def _signal(self, number: int) -> None:
        for child in self._children:
            if child is not None and child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)
