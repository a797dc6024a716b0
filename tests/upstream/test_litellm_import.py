"""litellm is loaded late, stays local, and is the right one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from gateway.upstream import presets
from gateway.upstream.litellm import imported


def python(*lines: str) -> str:
    words = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_the_import_opens_no_socket_and_looks_nothing_up() -> None:
    said = python(
        "import sys, gateway.upstream.litellm as driver",
        "seen = []",
        "def watch(name, args):",
        "    if name in {'socket.connect', 'socket.getaddrinfo', 'socket.sendto', 'subprocess.Popen'}:",
        "        seen.append(name)",
        "sys.addaudithook(watch)",
        "litellm = driver.imported()",
        "print(seen, litellm.callbacks, litellm.success_callback, litellm.telemetry, len(litellm.model_cost) > 1000)",
    )
    assert said == "[] [] [] False True"


def test_a_gateway_without_such_a_backend_never_imports_it() -> None:
    said = python(
        "import asyncio, sys",
        "from gateway.app import Gateway",
        "from gateway.policy.load import load_text",
        "from gateway.settings import read",
        "from gateway.upstream import presets",
        "text = 'models: {r2: {}}\\npolicies: {p: {tiers: [{backends: [own]}]}}\\nbackends: {own: {preset: vllm, '",
        "text += 'base_url: \"http://127.0.0.1:9/v1\", serves: {r2: x}}}'",
        "gateway = Gateway(load_text(text, {}, presets.usable()), read({}))",
        "async def life():",
        "    inbox = asyncio.Queue(); inbox.put_nowait({}); inbox.put_nowait({})",
        "    async def send(message): print(message['type'])",
        "    await gateway({'type': 'lifespan'}, inbox.get, send)",
        "asyncio.run(life())",
        "print(sorted({'litellm', 'openai', 'boto3', 'aiohttp', 'httpx'} & set(sys.modules)))",
    )
    assert said.splitlines() == ["lifespan.startup.complete", "lifespan.shutdown.complete", "[]"]


def test_the_installed_one_is_none_of_those_that_stole_keys() -> None:
    assert version("litellm") not in {"1.82.7", "1.82.8"}


def test_every_provider_that_a_document_may_name_is_one_of_litellms() -> None:
    names = {provider.value for provider in imported().LlmProviders}
    assert presets.infos()["litellm"].providers <= names
    assert not presets.infos()["litellm"].providers & {"vllm", "petals", "oobabooga", "nlp_cloud", "github_copilot"}


def test_looking_whether_it_is_installed_says_so_and_changes_no_other_preset() -> None:
    found = presets.usable()
    assert found["litellm"].lacks == ""
    assert found == presets.infos()
