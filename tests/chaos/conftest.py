"""A Redis whose clock can be set: a proxy that tells every script call the time that the test wants.

Our scripts take the server's time unless their last argument names another (that is how histories are replayed in
the store's tests). A gateway leaves it empty; the proxy fills it in. Everything else passes as it is.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

HOST = "127.0.0.1"


class ClockProxy:
    """Listens on a free port, in threads; `offset` (seconds) is added to the time of day from the next call on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self._server.getsockname()[1]}/0"
        self.offset = 0.0
        self.told = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection((HOST, self._target))
            except OSError:
                return
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        reader = client.makefile("rb")
        try:
            while head := reader.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(reader.readline()[1:])
                    words.append(reader.read(size + 2)[:-2])
                if words[0].upper() in (b"EVAL", b"EVALSHA") and not words[-1]:
                    words[-1] = str(round((time.time() + self.offset) * 1000)).encode()
                    self.told += 1
                server.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
        except OSError:
            pass
        finally:
            _hang_up(server)


@pytest.fixture
def clock_of() -> Iterator[Callable[[int], ClockProxy]]:
    """Makes a proxy in front of the Redis on a port."""
    made: list[ClockProxy] = []

    def make(port: int) -> ClockProxy:
        made.append(ClockProxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        _hang_up(sink)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
