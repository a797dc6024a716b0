"""A real OTLP/HTTP endpoint for tests: takes protobuf, decodes it, and keeps spans and metrics."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | bool | int | float | list[str]


class Collector:
    """Listens on a free port of loopback until `close`. `status`: what it answers."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[dict[str, Value]] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                if collector.status == 200:
                    (collector.take_metrics if self.path == "/v1/metrics" else collector.take)(body)
                self.send_response(collector.status)
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                """Nothing is said on standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, body: bytes) -> None:
        """What was posted, decoded."""
        for found in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({pair.key: _value(pair.value) for pair in found.resource.attributes})
            for scope in found.scope_spans:
                self.spans += scope.spans

    def take_metrics(self, body: bytes) -> None:
        """The same for metrics."""
        for found in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self.resources.append({pair.key: _value(pair.value) for pair in found.resource.attributes})
            for scope in found.scope_metrics:
                self.metrics += scope.metrics

    def trace(self, request: str, within: float = 10.0) -> list[Span]:
        """All spans of the trace of a request, as soon as they have come."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            for span in tuple(self.spans):
                if attributes(span).get("spillgate.request_id") == request:
                    return [other for other in self.spans if other.trace_id == span.trace_id]
            time.sleep(0.02)
        raise AssertionError(f"no trace of {request} among {len(self.spans)} spans")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes(span: Span) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in span.attributes}


def _value(any_: Any) -> Value:
    kind = any_.WhichOneof("value")
    if kind == "array_value":
        return [item.string_value for item in any_.array_value.values]
    found: Value = getattr(any_, kind)
    return found


def seconds(span: Span) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def below(spans: list[Span], parent: Span, wanted: Callable[[Span], bool] = lambda _: True) -> list[Span]:
    """The spans right below another, in the order in which they began."""
    found = [span for span in spans if span.parent_span_id == parent.span_id and wanted(span)]
    return sorted(found, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))
