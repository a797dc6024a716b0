"""The demo as a process: it comes up, and it takes its children with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_demo_that_is_stopped_leaves_no_process_behind(number: signal.Signals) -> None:
    words = [sys.executable, "-m", "gateway", "demo", "--fast"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = ""
            while not re.search(r"^ +1\.0 s calm", said, re.MULTILINE):
                line = process.stdout.readline()
                assert line, said
                said += line
            assert "curl -N http://127.0.0.1:" in said
            assert 'OpenAI(base_url="http://127.0.0.1:' in said
            children = children_of(process.pid)
            assert len(children) == 2
            began = time.monotonic()
            process.send_signal(number)
            process.communicate(timeout=15)
        finally:
            process.kill()
    assert process.returncode == 130
    assert time.monotonic() - began < 8
    assert not any(is_alive(child) for child in children)
