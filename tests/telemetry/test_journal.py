"""Lines in a file: whole, once, whoever else writes, whatever the disk says."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.telemetry.journal import Journal


def write(journal: Journal, *lines: bytes) -> None:
    asyncio.run(journal.write(1, lines))


def test_batches_are_appended_and_readable_to_the_group_at_most(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    journal = Journal(str(path))
    write(journal, b"a", b"b")
    write(journal, b"c")
    assert path.read_bytes() == b"a\nb\nc\n"
    assert path.stat().st_mode & 0o137 == 0
    asyncio.run(journal.aclose())


def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    journal = Journal(str(path))
    write(journal, b"a")
    path.rename(tmp_path / "old")
    write(journal, b"b")
    path.unlink()
    path.write_bytes(b"other\n")
    write(journal, b"c")
    assert ((tmp_path / "old").read_bytes(), path.read_bytes()) == (b"a\n", b"other\nc\n")
    asyncio.run(journal.aclose())


def test_a_line_that_was_left_unfinished_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_bytes(b'{"id":"x')
    write(Journal(str(path)), b"a")
    assert path.read_bytes() == b'{"id":"x\na\n'


@pytest.mark.parametrize(
    ("place", "error"),
    [(".", errno.EISDIR), ("missing/usage.jsonl", errno.ENOENT), ("pipe", errno.EINVAL), ("/dev/full", errno.ENOSPC)],
)
def test_a_place_that_cannot_be_written_is_an_error_and_never_hangs(tmp_path: Path, place: str, error: int) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError) as caught:
        write(Journal(str(tmp_path / place)), b"a")
    assert caught.value.errno == error


def test_while_another_process_writes_it_is_an_error_for_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.touch()
    journal = Journal(str(path))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            write(journal, b"a")
    write(journal, b"a")
    assert path.read_bytes() == b"a\n"


def test_a_batch_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    code = (
        "import asyncio, resource, signal, sys; from gateway.telemetry.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, {resource.RLIM_INFINITY}))\n"
        "journal = Journal(sys.argv[1])\n"
        "asyncio.run(journal.write(1, [b'x' * 99]))\n"
        "try: asyncio.run(journal.write(2, [b'y' * 99] * 200))\n"
        "except OSError as error: print(error.errno)\n"
        "asyncio.run(journal.write(2, [b'z' * 99]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG}\n"
    assert path.read_bytes() == b"x" * 99 + b"\n" + b"z" * 99 + b"\n"


def test_processes_that_share_a_file_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    code = (
        "import asyncio, sys; from gateway.telemetry.journal import Journal\n"
        "async def main():\n"
        "    journal = Journal(sys.argv[1])\n"
        "    for n in range(60):\n"
        "        while True:\n"
        "            try: await journal.write(n, [sys.argv[2].encode() * 3000] * 20)\n"
        "            except BlockingIOError: await asyncio.sleep(0.002)\n"
        "            else: break\n"
        "asyncio.run(main())\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    lines = path.read_bytes().splitlines()
    assert sorted({(line[:1], len(line), len(set(line))) for line in lines}) == [
        (n, 3000, 1) for n in (b"a", b"b", b"c")
    ]
    assert len(lines) == 3 * 60 * 20
