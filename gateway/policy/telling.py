"""The words of `telemetry:`, a part of the vocabulary (see `schema`)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from gateway.policy.kinds import about, count, duration, share, text


class TelemetryWord(Struct, frozen=True):
    """What is told of requests: traces and log lines. Never what was asked or answered."""

    endpoint: Annotated[
        str,
        text("An OpenTelemetry collector (OTLP over HTTP), without /v1/traces. Default: OTEL_EXPORTER_OTLP_ENDPOINT."),
    ] = ""
    sample: (
        Annotated[
            float, share("The share of requests that are always traced. Default: OTEL_TRACES_SAMPLER_ARG, else 0.1.")
        ]
        | None
    ) = None
    slow: Annotated[float, duration("A request that waits longer for its first token is traced.", above=0)] = 20.0
    most: Annotated[
        int, count("Traces per second of requests that were slow, failed or spilled; more are left out.", least=0)
    ] = 100
    recent: Annotated[
        int, count("How many traces Redis keeps for `spillgate trace`, if there is one. 0: none.", least=0, most=10**6)
    ] = 5000
    requests: Annotated[Literal["none", "all"], about("Which requests get a line in the log.")] = "none"
