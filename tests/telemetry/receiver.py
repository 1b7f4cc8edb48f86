"""`Receiver`: an OTLP receiver on loopback, HTTP with protobuf, as a collector of OpenTelemetry has it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from duologue.telemetry import Telemetry


class Received:
    """One span, as it was received."""

    def __init__(self, span: Any) -> None:
        self.name: str = span.name
        self.id = span.span_id.hex()
        self.trace = span.trace_id.hex()
        self.parent = span.parent_span_id.hex()
        self.kind: int = span.kind
        self.start_s, self.end_s = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        self.failed = span.status.code == 2
        self.status: str = span.status.message
        self.attributes = attributes_of(span.attributes)
        self.events = [(event.name, attributes_of(event.attributes)) for event in span.events]
        self.links = [link.span_id.hex() for link in span.links]

    def __repr__(self) -> str:
        return f"<{self.name} {self.attributes}>"


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Attributes as plain data."""
    return {pair.key: _plain(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


class Receiver:
    """Receives spans and metrics while it is open. `telemetry` exports to it."""

    def __init__(self, *, words: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.spans: list[Received] = []
        self.metrics: dict[str, Any] = {}
        self._words = words

    def __enter__(self) -> Self:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                receiver._take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        url = f"{self.address}/v1"
        self._tracers = TracerProvider()
        self._tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{url}/metrics"), 3_600_000)
        self._meters = MeterProvider([reader])
        self.telemetry = Telemetry(self._tracers, self._meters, words=self._words)
        self.tracer = self._tracers.get_tracer("the application")
        return self

    def flush(self) -> None:
        """Wait until all that was made has been received."""
        assert self.telemetry.flush(30.0)
        assert self._tracers.force_flush()
        assert self._meters.force_flush()

    def __exit__(self, *args: object) -> None:
        self._tracers.shutdown()
        self._meters.shutdown()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path.endswith("/traces"):
            traces = ExportTraceServiceRequest.FromString(body)
            for scope in (scope for resource in traces.resource_spans for scope in resource.scope_spans):
                self.spans += [Received(span) for span in scope.spans]
            return
        metrics = ExportMetricsServiceRequest.FromString(body)
        for scopes in (scope for resource in metrics.resource_metrics for scope in resource.scope_metrics):
            self.metrics |= {metric.name: metric for metric in scopes.metrics}

    # -- what was received -----------------------------------------------------------------------------------------

    def named(self, beginning: str) -> list[Received]:
        """The spans whose names begin like this, in the order of their starts."""
        return sorted((span for span in self.spans if span.name.startswith(beginning)), key=lambda s: s.start_s)

    def one(self, beginning: str) -> Received:
        """The only one of these."""
        (span,) = self.named(beginning)
        return span

    def children(self, span: Received) -> list[Received]:
        """The children of a span."""
        return [child for child in self.spans if child.parent == span.id]

    def points(self, metric: str) -> Iterator[tuple[dict[str, Any], Any]]:
        """The labels and the points of a metric."""
        data = self.metrics[metric]
        for point in getattr(data, data.WhichOneof("data")).data_points:
            yield attributes_of(point.attributes), point

    def check_tree(self) -> Received:
        """Assert that the spans are one tree within their parents' beginnings. Returns the root."""
        (root,) = [span for span in self.spans if not span.parent]
        by_id = {span.id: span for span in self.spans}
        assert len(by_id) == len(self.spans)
        assert {span.trace for span in self.spans} == {root.trace}
        for span in self.spans:
            assert span.end_s >= span.start_s, span
            if span.parent:
                assert span.parent in by_id, span
                assert span.start_s >= by_id[span.parent].start_s - 1e-6, (span, by_id[span.parent])
        return root
