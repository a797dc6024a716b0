"""What a document says of traces and the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.errors import DocumentError
from gateway.policy.compiled import Compiled, TelemetryRules
from gateway.policy.reload import changes

Compile = Callable[[str], Compiled]
DOCUMENT = """
models: {r2: {}}
backends:
  own: {preset: openai, base_url: "http://h/v1", serves: {r2: r2}OWN}
  cloud: {preset: deepseek, key: "${KEY:-sk-made-up}", serves: {r2: r2}CLOUD}
policies: {only: {tiers: [{backends: [own, cloud]}]}}
"""


def document(own: str = "", cloud: str = "") -> str:
    return DOCUMENT.replace("OWN", own).replace("CLOUD", cloud)


def test_nothing_said_means_what_the_rules_say(compile_text: Compile) -> None:
    assert compile_text(document()).telemetry == TelemetryRules()


def test_every_word_arrives(compile_text: Compile) -> None:
    words = "{endpoint: 'https://otel:4318/', sample: 0.01, slow: 5s, most: 7, recent: 2k, requests: all}"
    found = compile_text(document() + f"telemetry: {words}\n")
    assert found.telemetry == TelemetryRules("https://otel:4318", 0.01, 5.0, 7, 2000, True)
    assert changes(compile_text(document()), found) == ("telemetry changed",)


@pytest.mark.parametrize("endpoint", ["otel:4318", "http://user:pw@otel", "http://otel/?a=b", "ftp://otel"])
def test_an_endpoint_is_the_address_of_a_collector(compile_text: Compile, endpoint: str) -> None:
    with pytest.raises(DocumentError, match=r"telemetry\.endpoint: .*expected an address such as"):
        compile_text(document() + f"telemetry: {{endpoint: '{endpoint}'}}\n")


def test_engines_of_our_own_are_told_the_trace_and_public_clouds_are_not(compile_text: Compile) -> None:
    found = compile_text(document()).connections
    assert {name: connection.traced for name, connection in found.items()} == {"own": True, "cloud": False}


def test_a_backend_may_say_otherwise(compile_text: Compile) -> None:
    found = compile_text(document(", trace_context: hide", ", trace_context: send")).connections
    assert {name: connection.traced for name, connection in found.items()} == {"own": False, "cloud": True}
