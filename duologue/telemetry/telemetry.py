"""`Telemetry`: spans and metrics of calls, for OpenTelemetry and Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..session.call_events import CallEnding, CallEvent, FeedEvent
from .errands import Errands
from .instruments import LATENESS, BoundedLabels, OtelSink, Sink
from .metrics import CallMetrics
from .services import ServicesAtWork

log = logging.getLogger("duologue")

SCOPE = "duologue"
"""The name of the tracer and of the meter."""
FLUSH_S = 5.0


class Telemetry:
    """Makes spans and metrics of the sessions that it is attached to. It reads their feeds, and changes nothing.

    Spans go to `tracer_provider`, metrics to `meter_provider`, by default to those that the application has set for
    the process. `prometheus` also keeps the metrics for `metrics_text`; without `opentelemetry` they are all. Nothing
    private is in them: no words of either side, no instructions, no arguments and results of tools. With `words` the
    spans have the words, and the arguments and results.

    An exporter never delays a call: spans end in a thread of their own, and what does not fit is dropped and counted
    (`dropped`). An error of OpenTelemetry is logged once, and ends the telemetry of that call.

    Raises MissingExtra without the extra `otel`, or `prometheus` if that is asked for.
    """

    def __init__(
        self,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        *,
        words: bool = False,
        opentelemetry: bool = True,
        prometheus: bool = False,
    ) -> None:
        self._words = words
        self._errands = Errands()
        self._providers = tuple(provider for provider in (tracer_provider, meter_provider) if provider is not None)
        self._tracer: Any = None
        self._prometheus: Any = None
        self._labels = BoundedLabels()
        sinks: list[Sink] = []
        if opentelemetry:
            from .otel import trace

            self._tracer = trace.get_tracer(SCOPE, _released(), tracer_provider)
            sinks.append(OtelSink(meter_provider))
        if prometheus:
            from .prometheus import PrometheusSink

            self._prometheus = PrometheusSink()
            sinks.append(self._prometheus)
        self._sinks = tuple(sinks)

    @property
    def dropped(self) -> int:
        """The spans that found no room, because an exporter is too slow."""
        return self._errands.dropped

    def attach(self, session: Any, *, earlier: str = "") -> CallTelemetry:
        """Follow a session from now on. Call this before `Session.run`.

        `earlier` is the `traceparent` of an earlier call that this one goes on with: the call's span has a link to it.
        """
        return CallTelemetry(session, self.readers(session, earlier))

    def readers(self, session: Any, earlier: str = "") -> list[FeedReader]:
        """Return the readers of one call's events, which follow nothing by themselves: `attach` registers them."""
        services = ServicesAtWork(session)
        readers: list[FeedReader] = []
        if self._tracer is not None:
            from .span_maker import links_of
            from .spans import CallSpans

            links = links_of(earlier)
            readers.append(CallSpans(session, self._tracer, self._errands, services, words=self._words, links=links))
        if self._sinks:
            readers.append(CallMetrics(self._sinks, self._labels, services))
        return readers

    def late(self, seconds: float) -> None:
        """Record the lateness of the event loop: see `LoopWatch`."""
        for sink in self._sinks:
            try:
                sink.add(LATENESS, max(0.0, seconds), {})
            except Exception:
                log.debug("the lateness could not be recorded", exc_info=True)

    @property
    def metrics_type(self) -> str:
        """The media type of `metrics_text`, "" without `prometheus`."""
        media_type: str = self._prometheus.media_type if self._prometheus is not None else ""
        return media_type

    def metrics_text(self) -> bytes:
        """Return the metrics in Prometheus' text format. Empty without `prometheus`."""
        text: bytes = self._prometheus.text() if self._prometheus is not None else b""
        return text

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until all spans that have ended, and the metrics, are exported, at the end of a program.

        Blocks the thread. Returns False if it takes longer than `timeout_s` seconds. Providers of the process that were
        not given to this object are flushed by the application.
        """
        for provider in self._providers:
            if (flush := getattr(provider, "force_flush", None)) is not None:
                self._errands.put(partial(flush, int(timeout_s * 1000)), beyond=True)
        return self._errands.flush(timeout_s)


class FeedReader(Protocol):
    """Makes something of the events of one call."""

    @property
    def kinds(self) -> tuple[type[CallEvent], ...]:
        """The types of events that it takes."""

    @property
    def traceparent(self) -> str:
        """The call's span as W3C's `traceparent`, "" without one."""

    def take(self, event: FeedEvent) -> None:
        """Take the next event."""


class CallTelemetry:
    """The telemetry of one call."""

    def __init__(self, session: Any, readers: list[FeedReader]) -> None:
        self._id = session.id
        self._readers = readers
        for reader in readers:
            session.feed.on(self._guarded(reader.take), *reader.kinds)

    @property
    def traceparent(self) -> str:
        """The call's span as W3C's `traceparent`, "" before it has begun and without spans."""
        return next((reader.traceparent for reader in self._readers if reader.traceparent), "")

    def _guarded(self, take: Callable[[FeedEvent], None]) -> Callable[[FeedEvent], None]:
        """Return a listener that never raises. After an error it takes nothing but the end of the call."""
        failed = False

        def listener(event: FeedEvent) -> None:
            nonlocal failed
            if failed and not isinstance(event, CallEnding):
                return
            try:
                take(event)
            except (Exception, SystemExit) as error:  # of a sampler, a processor of spans, a view of metrics
                if not failed:
                    log.warning("session %s: its telemetry ends: %s", self._id, type(error).__name__)
                failed = True

        return listener


def _released() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("duologue")
    except PackageNotFoundError:
        return ""
