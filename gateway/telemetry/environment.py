"""What OpenTelemetry's standard variables say, where the document says nothing.

OTEL_SDK_DISABLED=true, OTEL_TRACES_EXPORTER=none     no traces are exported
OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT                  where to; without it and without `telemetry: {endpoint}` nowhere
OTEL_EXPORTER_OTLP_[TRACES_]{HEADERS, TIMEOUT, COMPRESSION, CERTIFICATE, …}, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
                                                      read by the SDK
OTEL_METRICS_EXPORTER=none, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, OTEL_METRIC_EXPORT_INTERVAL (ms, 60000)
                                                      the same for metrics
OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG          [parentbased_](always_on | always_off | traceidratio), its ratio
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.policy.compiled import TelemetryRules

_FIXED = {"always_on": 1.0, "always_off": 0.0}


def resolved(rules: TelemetryRules, variables: Mapping[str, str]) -> tuple[TelemetryRules, str | None]:
    """The rules with a share that is known if anybody said one, and where traces go.

    None: nowhere; empty: where the variables say.
    """
    sample = _sample(variables) if rules.sample is None else rules.sample
    return replace(rules, sample=sample), _endpoint(rules, variables, "TRACES")


def metrics(rules: TelemetryRules, variables: Mapping[str, str]) -> tuple[str | None, float]:
    """Where metrics go, as for traces, and how often in seconds."""
    every = variables.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    interval = int(every) / 1000.0 if every.isdecimal() and int(every) else 60.0
    return _endpoint(rules, variables, "METRICS"), interval


def _endpoint(rules: TelemetryRules, variables: Mapping[str, str], signal: str) -> str | None:
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if rules.endpoint:
        return rules.endpoint
    if variables.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() == "none":
        return None
    named = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return "" if any(variables.get(name, "").strip() for name in named) else None


def _sample(variables: Mapping[str, str]) -> float | None:
    """None: not said, or not understood."""
    sampler = variables.get("OTEL_TRACES_SAMPLER", "traceidratio").strip().lower().removeprefix("parentbased_")
    if sampler in _FIXED:
        return _FIXED[sampler]
    try:
        ratio = float(variables.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError:
        return None
    return ratio if 0.0 <= ratio <= 1.0 else None
