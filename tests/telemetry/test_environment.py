"""OpenTelemetry's own variables hold where the document says nothing."""

from __future__ import annotations

import pytest

from gateway.policy.compiled import TelemetryRules
from gateway.telemetry.environment import resolved

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4318"}


@pytest.mark.parametrize(
    ("document", "variables", "endpoint"),
    [
        ("", {}, None),
        ("", ENDPOINT, ""),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://otel:4318/x"}, ""),
        ("http://own:4318", ENDPOINT, "http://own:4318"),
        ("http://own:4318", {"OTEL_TRACES_EXPORTER": "none"}, "http://own:4318"),
        ("", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, None),
        ("http://own:4318", {"OTEL_SDK_DISABLED": "True"}, None),
    ],
)
def test_where_traces_go(document: str, variables: dict[str, str], endpoint: str | None) -> None:
    assert resolved(TelemetryRules(document), variables)[1] == endpoint


@pytest.mark.parametrize(
    ("sampler", "argument", "sample"),
    [
        (None, None, None),
        (None, "0.25", 0.25),
        ("traceidratio", "0.5", 0.5),
        ("parentbased_traceidratio", "0.5", 0.5),
        ("always_on", "0.5", 1.0),
        ("parentbased_always_off", None, 0.0),
        (None, "7", None),
        (None, "much", None),
    ],
)
def test_how_many_are_sampled(sampler: str | None, argument: str | None, sample: float | None) -> None:
    said = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    variables = {name: value for name, value in said.items() if value is not None}
    assert resolved(TelemetryRules(), variables)[0].sample == sample
    assert resolved(TelemetryRules(sample=0.125), variables)[0].sample == 0.125
