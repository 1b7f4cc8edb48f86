"""Observability of calls: OpenTelemetry's spans and metrics, and Prometheus."""

from .telemetry import CallTelemetry, Telemetry

__all__ = ["CallTelemetry", "Telemetry"]
