"""`exporting`: OpenTelemetry set up from its environment variables, for `duologue serve --otel`."""

from __future__ import annotations

from ..errors import MissingExtra
from .telemetry import Telemetry


def exporting(*, opentelemetry: bool = True, prometheus: bool = False) -> Telemetry:
    """Return telemetry that exports by OTLP (HTTP, protobuf), as the variables `OTEL_…` say: see docs/observability.md.

    Providers that the application has set, for example `opentelemetry-instrument`, are used as they are. Raises
    MissingExtra without the extra `otel`, or `prometheus` if that is asked for.
    """
    if not opentelemetry:
        return Telemetry(opentelemetry=False, prometheus=prometheus)
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtra("OpenTelemetry's SDK with OTLP", "otel", str(error)) from error

    resource = Resource.create({SERVICE_NAME: "duologue"}).merge(OTELResourceDetector().detect())
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    # Without an exit handler: a collector that is dead must not hold up the end of the process.
    if not isinstance(tracers, TracerProvider):
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if not isinstance(meters, MeterProvider):
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    return Telemetry(tracers, meters, prometheus=prometheus)
