"""The parts of OpenTelemetry's API that spans are made with. Needs the extra `otel`."""

from __future__ import annotations

from ..errors import MissingExtra

try:
    from opentelemetry import context as otel_context
    from opentelemetry import trace
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise MissingExtra("OpenTelemetry", "otel", str(error)) from error

__all__ = [
    "Link",
    "Span",
    "SpanKind",
    "Status",
    "StatusCode",
    "TraceContextTextMapPropagator",
    "otel_context",
    "trace",
]
