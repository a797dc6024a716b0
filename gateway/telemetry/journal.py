"""Records in a file, one line each. Several processes may share it, and it may be moved away at any time.

A batch goes in whole or not at all: under an advisory lock (`flock`), at the end, and cut off again when the disk is
full. The line that a process left unfinished when it was killed is ended before the next one. Nothing is synced: what
was written survives the process, not a power cut. A file that was moved (logrotate) is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
_MODE = 0o640
_PATIENCE = 1.0


class Journal:
    """A sink. See `recorder.Sink`: since a batch is whole or absent, its number is not needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._writing: asyncio.Future[None] | None = None

    async def write(self, number: int, lines: Sequence[bytes]) -> None:
        """Append. Raises `OSError`, also when another process writes at this moment. Not cut short when cancelled."""
        del number
        data = b"\n".join(lines) + b"\n"
        self._writing = asyncio.ensure_future(asyncio.to_thread(self._append, data))
        await asyncio.shield(self._writing)

    async def aclose(self) -> None:
        """Let go. A write that a dead disk holds up is left to itself."""
        if self._writing is not None and not self._writing.done():
            _, stuck = await asyncio.wait({self._writing}, timeout=_PATIENCE)
            if stuck:
                return
        self._let_go()

    def _append(self, data: bytes) -> None:
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
        try:
            self._whole(fd, data)
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _whole(self, fd: int, data: bytes) -> None:
        found = os.fstat(fd)
        regular = stat.S_ISREG(found.st_mode)
        if regular and found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
            data = b"\n" + data
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            if regular:
                os.ftruncate(fd, found.st_size)
            raise

    def _open(self) -> int:
        """The file that bears the name now."""
        if self._fd is not None:
            with contextlib.suppress(FileNotFoundError):
                there, ours = Path(self._path).stat(), os.fstat(self._fd)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return self._fd
            self._let_go()
        fd = os.open(self._path, _FLAGS, _MODE)
        if not stat.S_ISREG(mode := os.fstat(fd).st_mode) and not stat.S_ISCHR(mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "neither a file nor a device", self._path)
        self._fd = fd
        return fd

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
