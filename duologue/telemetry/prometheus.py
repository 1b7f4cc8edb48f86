"""`PrometheusSink`: the metrics in Prometheus' text format."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtra
from .instruments import INSTRUMENTS, Instrument, Labels

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
except ImportError as error:
    raise MissingExtra("Prometheus", "prometheus", str(error)) from error

_UNITS = {"s": "seconds", "USD": "usd"}


def prometheus_name(instrument: Instrument) -> str:
    """Return the metric's name, with its unit. Prometheus adds `_total` to counters."""
    unit = _UNITS.get(instrument.unit, "")
    return "_".join(part for part in (instrument.name.replace(".", "_"), unit) if part)


class PrometheusSink:
    """Keeps the metrics in a registry of their own, or in that of the application."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._metrics: dict[str, Any] = {}
        for one in INSTRUMENTS:
            labels = [label.replace(".", "_") for label in one.labels]
            name = prometheus_name(one)
            described: dict[str, Any] = {"labelnames": labels, "registry": self.registry}
            if one.kind == "histogram":
                self._metrics[one.name] = Histogram(name, one.description, buckets=one.buckets, **described)
            else:
                kind = Gauge if one.kind == "gauge" else Counter
                self._metrics[one.name] = kind(name, one.description, **described)

    def add(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Add to a counter or a gauge, or record a value of a histogram."""
        metric = self._metrics[instrument.name]
        if instrument.labels:
            metric = metric.labels(*(labels.get(label, "") for label in instrument.labels))
        if instrument.kind == "histogram":
            metric.observe(value)
        else:
            metric.inc(value)

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)
