"""One valid document, the presets and the environment it is read with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.policy.compiled import Compiled, PresetInfo
from gateway.policy.load import load_text

ENV = {
    "ARK_API_KEY": "ark-key-nobody-may-see",
    "ACME_KEY": "acme-key-nobody-may-see",
    "ZETA_KEY": "zeta-key-nobody-may-see",
    "SHORT": "abc",
    "SPACED": "two words of a key",
    "BLANK": "",
    "RPM": "600",
    "CEL": "request.nobody-may-see",
}

PRESETS = {
    "volcengine-ark": PresetInfo("volcengine-ark", "https://ark.example/api/v3", key_env="ARK_API_KEY"),
    "deepseek": PresetInfo("deepseek", "https://deepseek.example"),
    "openai": PresetInfo("openai", None),
}

VALID = """\
models:
  r2:
    aliases: [deepseek-reasoner]
    policy: surge
  flash: {policy: cheap}
backends:
  own:
    preset: openai
    base_url: http://10.0.0.5:8000/v1
    serves: {r2: deepseek-r2}
    limits: {streams: 48}
  ark:
    preset: volcengine-ark
    serves: {r2: deepseek-v4-pro, flash: deepseek-v4-flash}
    key: ${ARK_API_KEY}
    account: ark-main
    limits: {streams: 200, rpm: 3000}
    price: {input: 1.0, output: 4.0}
policies:
  surge:
    tiers:
      - {backends: [own], choose: least-loaded}
      - {backends: [ark], when: 'request.class == "interactive"'}
    queue: {max_wait: 20s, max_length: 1000}
    retry: {budget: 0.1}
  cheap:
    tiers:
      - {backends: [ark, own], choose: weighted, weights: {ark: 2, own: 1}}
tenants:
  acme:
    keys: ["${ACME_KEY}"]
    class: interactive
  zeta:
    keys: ["${ZETA_KEY}"]
server:
  max_body: 16MiB
"""


@pytest.fixture
def valid() -> str:
    return VALID


@pytest.fixture
def env() -> dict[str, str]:
    return dict(ENV)


@pytest.fixture
def presets() -> dict[str, PresetInfo]:
    return dict(PRESETS)


@pytest.fixture
def compile_text(env: dict[str, str], presets: dict[str, PresetInfo]) -> Callable[[str], Compiled]:
    return lambda text: load_text(text, env, presets, name="doc.yaml")
