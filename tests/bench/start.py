"""From the start of the process to its first answer, over a pretend cloud: `python tests/bench/start.py [times]`.

Seconds on the wall are of a process with a warm disk; `/usr/bin/time -v` tells processor time and the largest resident
size of the same process. `gateway.app` is imported in processes of their own, before.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import httpx

from gateway.testing.processes import HOST, Clouds

E2E = Path(__file__).parents[1] / "e2e"
DOCUMENT = (
    '{models: {r2: {}}, backends: {own: {preset: vllm, base_url: "%s", serves: {r2: r2-own}}}, '
    "policies: {p: {tiers: [{backends: [own]}]}}}"
)
BODY = {"model": "r2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
FIELDS = {"user": r"User time \(seconds\): (\S+)", "sys": r"System time \(seconds\): (\S+)", "kB": r"Maximum .*: (\d+)"}


def imported() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gateway.app"], check=True)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return whole - (time.perf_counter() - began)


def first_answer(document: str) -> tuple[float, dict[str, float]]:
    env = {**os.environ, "SPILLGATE_CONFIG": document, "PORT": "0"}
    words = ["/usr/bin/time", "-v", sys.executable, "-m", "gateway", "serve"]
    began = time.perf_counter()
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=env)
    assert child.stderr is not None
    while not (found := re.search(rf"http://{HOST}:\d+/v1", child.stderr.readline())):
        pass
    httpx.post(f"{found.group(0)}/chat/completions", json=BODY, timeout=10).raise_for_status()
    took = time.perf_counter() - began
    (served,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(served), 15)
    text = child.communicate(timeout=10)[1]
    assert child.returncode == 0
    told = {name: re.search(pattern, text) for name, pattern in FIELDS.items()}
    return took, {name: float(match.group(1)) for name, match in told.items() if match}


def main(times: int) -> None:
    clouds = Clouds(E2E / "drain_fleet.yaml")
    httpx.get(f"{clouds.control}/stats")  # what this process has to import is imported
    try:
        found = [first_answer(DOCUMENT % clouds.urls["own"]) for _ in range(times)]
        imports = [imported() for _ in range(times)]
    finally:
        clouds.stop()
    took = sorted(seconds for seconds, _ in found)
    spent = sorted(told["user"] + told["sys"] for _, told in found)
    print(f"first answer  {took[0]:.2f} s, median {median(took):.2f}, longest {took[-1]:.2f}")
    print(f"processor     {spent[0]:.2f} s, median {median(spent):.2f} (user + system, /usr/bin/time -v)")
    print(f"resident      {max(told['kB'] for _, told in found) / 1024:.0f} MB at most (/usr/bin/time -v)")
    print(f"gateway.app   {min(imports):.2f} s to import, median {median(imports):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
