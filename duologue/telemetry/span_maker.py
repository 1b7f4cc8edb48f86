"""`SpanMaker`: makes the spans of one call within its bounds, and ends them in the errands."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from ..frames.text import well_formed
from . import names
from .errands import Errands
from .otel import Link, Span, SpanKind, Status, StatusCode, TraceContextTextMapPropagator, otel_context, trace
from .services import ServiceFacts

MAX_SPANS = 10_000
"""Spans of a call. Further spans are left out, and counted at the call's span."""
MAX_EVENTS = 100
"""Events of a span."""
MAX_ATTRIBUTE = 256
"""Characters of an attribute."""
MAX_WORDS = 4_096
"""Characters of an attribute with words."""

Attributes = dict[str, Any]


class OpenSpan:
    """A span that began, and the number of its events."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.events = 0


class SpanMaker:
    """Makes spans of one call. Times are session times in seconds; `began_ns` is the wall-clock time of zero."""

    def __init__(self, tracer: trace.Tracer, errands: Errands, *, words: bool) -> None:
        self.words = words
        """True if the spans have words, arguments and results."""
        self.began_ns = 0
        self.left_out = 0
        """Spans beyond the limit of the call."""
        self._tracer, self._errands = tracer, errands
        self._spans = 0

    def root(self, name: str, attributes: Attributes, links: tuple[Link, ...]) -> Span:
        """Begin the first span, at zero. It is a root: a call outlives the request that began it."""
        self._spans += 1
        return self._tracer.start_span(
            name, otel_context.Context(), attributes=cut_texts(attributes), links=links, start_time=self.began_ns
        )

    def begin(self, name: str, at: float, attributes: Attributes, parent: Span, links: tuple[Link, ...] = ()) -> Span:
        """Begin a span to which others will refer."""
        if not self._has_room():
            return trace.INVALID_SPAN
        within = trace.set_span_in_context(parent, otel_context.Context())
        return self._tracer.start_span(
            short_text(name),
            within,
            attributes=cut_texts(attributes),
            links=links,
            start_time=self._ns(at),
        )

    def end(self, span: Span, at: float, failed: str = "") -> None:
        """End a span, with the type of its error if it has failed."""
        if failed:
            span.set_attribute(names.ERROR_TYPE, failed)
            span.set_status(Status(StatusCode.ERROR))
        self._errands.put(partial(span.end, self._ns(at)))

    def tell(
        self,
        name: str,
        times: tuple[float, float],
        attributes: Attributes,
        parent: Span,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        failed: str = "",
    ) -> None:
        """Make a span that is over."""
        if self._has_room():
            if failed:
                attributes[names.ERROR_TYPE] = failed
            limit = MAX_WORDS if self.words else MAX_ATTRIBUTE
            ns = self._ns(times[0]), self._ns(max(times))
            self._errands.put(partial(self._make, short_text(name), ns, cut_texts(attributes, limit), parent, kind))

    def _make(self, name: str, ns: tuple[int, int], attributes: Attributes, parent: Span, kind: SpanKind) -> None:
        within = trace.set_span_in_context(parent, otel_context.Context())
        span = self._tracer.start_span(name, within, kind, attributes, start_time=ns[0])
        if names.ERROR_TYPE in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ns[1])

    def note(self, to: OpenSpan, name: str, at: float, attributes: Attributes) -> None:
        """Add an event to a span."""
        if to.events < MAX_EVENTS:
            to.events += 1
            to.span.add_event(f"duologue.{name}", cut_texts(attributes), self._ns(at))

    def _ns(self, at: float) -> int:
        return self.began_ns + int(at * 1e9)

    def _has_room(self) -> bool:
        if self._spans >= MAX_SPANS:
            self.left_out += 1
            return False
        self._spans += 1
        return True


def cut_texts(attributes: Attributes, limit: int = MAX_ATTRIBUTE) -> Attributes:
    """Return attributes with their texts cut, and without half characters, which no exporter can send."""
    return {name: short_text(value, limit) if isinstance(value, str) else value for name, value in attributes.items()}


def short_text(text: str, limit: int = MAX_ATTRIBUTE) -> str:
    """Return the beginning of a text, without half characters."""
    text = text[:limit]
    return text if text.isascii() else well_formed(text)


def span_name(operation: str, service: ServiceFacts | None) -> str:
    """Return the name of a span: the operation and the model."""
    return f"{operation} {service.model if service is not None else ''}".strip()


def span_kind(service: ServiceFacts | None) -> SpanKind:
    """Return CLIENT for a remote service, INTERNAL for one in this process."""
    return SpanKind.INTERNAL if service is None or service.in_process else SpanKind.CLIENT


def message(role: str, text: str) -> str:
    """Return a message in the form of the GenAI conventions, as JSON."""
    return msgspec.json.encode([{"role": role, "parts": [{"type": "text", "content": text}]}]).decode()


def json_text(value: Any) -> str:
    """Return a value as JSON; the name of its type if it has no JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except Exception:
        return type(value).__name__


def links_of(traceparent: str) -> tuple[Link, ...]:
    """Return a link to the span with this `traceparent`, and one to the span in whose context this is called."""
    links = []
    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, otel_context.Context())
    if (earlier := trace.get_current_span(found).get_span_context()).is_valid:
        links.append(Link(earlier, {"duologue.link": "earlier call"}))
    if (around := trace.get_current_span().get_span_context()).is_valid:
        links.append(Link(around, {"duologue.link": "request"}))
    return tuple(links)
