"""`CallMetrics`: the metrics of one call, made from the events of its feed."""

from __future__ import annotations

from typing import Any

from ..frames import Usage
from ..session.call_events import (
    CallBegan,
    CallEnding,
    CallEvent,
    ConnectionMoved,
    CostChanged,
    Failed,
    FeedEvent,
    HandedOff,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseReached,
    ServiceMoved,
    SpeechCut,
    ToolChanged,
    TurnTimed,
    UsageReported,
)
from . import names
from .instruments import (
    ACTIVE,
    AUDIO,
    CALL_DURATION,
    CALLS,
    CHARACTERS,
    CONNECTIONS,
    COST,
    ERRORS,
    FIRST_AUDIO,
    FIRST_CHUNK,
    HANDOFFS,
    INTERRUPTIONS,
    LEG,
    OPERATION_DURATION,
    TOKEN_USAGE,
    TOOL_DURATION,
    BoundedLabels,
    Instrument,
    Labels,
    Sink,
)
from .services import ServiceFacts, ServicesAtWork

MAX_OPEN = 256
"""Responses, and tools, that are followed at once. At the limit the oldest is forgotten."""


class _Timed:
    """A response in progress: the times of the request to the model, and of the first text or audio."""

    __slots__ = ("asked_at", "first_at", "model", "voice")

    def __init__(self, opened_at: float, services: ServicesAtWork) -> None:
        self.model, self.voice = services.model, services.get("tts")  # others may be at work when it is complete
        native = self.model is not None and self.model.kind == "engine"
        self.asked_at: float | None = opened_at if native else None
        self.first_at: float | None = None


class CallMetrics:
    """Follows one call. `labels` are shared by the calls of a process, and so are their bounds."""

    traceparent = ""
    kinds: tuple[type[CallEvent], ...] = (
        CallBegan,
        CallEnding,
        ConnectionMoved,
        CostChanged,
        Failed,
        HandedOff,
        Recognised,
        ResponseComplete,
        ResponseOpened,
        ResponseReached,
        ServiceMoved,
        SpeechCut,
        ToolChanged,
        TurnTimed,
        UsageReported,
    )

    def __init__(self, sinks: tuple[Sink, ...], labels: BoundedLabels, services: ServicesAtWork) -> None:
        self._sinks, self._labels, self._services = sinks, labels, services
        self._active = self._ended = False
        self._usd = 0.0
        self._responses: dict[str, _Timed] = {}
        self._tools: dict[str, tuple[str, float]] = {}

    def take(self, event: FeedEvent) -> None:
        """Take the next event of the call."""
        if self._ended:
            return
        if not self._active:
            self._active = True
            self._add(ACTIVE, 1)
        match event:
            case TurnTimed():
                self._add(FIRST_AUDIO, event.total_ms / 1000)
                for stage, ms in event.stages_ms.items():
                    self._add(LEG, ms / 1000, {"duologue.leg": stage})
            case ResponseOpened():
                self._opened(event)
            case ResponseReached():
                self._reached(event)
            case ResponseComplete():
                self._complete(event)
            case Recognised(final=True):
                service = self._services.get("stt") or self._services.get("engine")
                self._operated(names.SPEECH_TO_TEXT, service, max(0.0, event.at - event.end_s))
            case ToolChanged():
                self._tool(event)
            case UsageReported():
                self._used(event.used)
            case CostChanged():
                self._costs(event)
            case SpeechCut():
                self._add(INTERRUPTIONS, 1)
            case HandedOff():
                self._services.forget()
                if event.state != "started":
                    self._add(HANDOFFS, 1, {"duologue.outcome": event.state})
            case ServiceMoved():
                self._services.forget()
            case ConnectionMoved():
                self._add(CONNECTIONS, 1, {"duologue.service": event.engine, "duologue.state": event.state})
            case Failed():
                self._add(ERRORS, 1, {names.ERROR_TYPE: event.category})
            case CallEnding():
                self._end(event)

    def _end(self, event: CallEnding) -> None:
        self._ended = True
        self._add(ACTIVE, -1)
        self._add(CALLS, 1, {"duologue.outcome": names.known_reason(event.reason)})
        self._add(CALL_DURATION, event.at)

    # -- answers and tools -----------------------------------------------------------------------------------------

    def _opened(self, event: ResponseOpened) -> None:
        self._responses[event.id] = _Timed(event.at, self._services)
        if len(self._responses) > MAX_OPEN:
            del self._responses[next(iter(self._responses))]

    def _reached(self, event: ResponseReached) -> None:
        answer = self._responses.get(event.id)
        if answer is None:
            return
        if event.point == "asked":
            answer.asked_at = event.at
        elif event.point == "written":
            self._answered(answer, event.at)
        elif answer.first_at is None:
            answer.first_at = event.at
            if answer.asked_at is not None:
                self._add(FIRST_CHUNK, event.at - answer.asked_at, self._of(names.CHAT, answer.model))

    def _complete(self, event: ResponseComplete) -> None:
        answer = self._responses.pop(event.id, None)
        if answer is None:
            return
        failed = "service" if event.status == "failed" else ""
        self._answered(answer, event.at, failed)
        if answer.voice is not None and answer.first_at is not None:
            self._operated(names.TEXT_TO_SPEECH, answer.voice, event.at - answer.first_at, failed)

    def _answered(self, answer: _Timed, at: float, failed: str = "") -> None:
        if answer.asked_at is not None:
            self._operated(names.CHAT, answer.model, at - answer.asked_at, failed)
            answer.asked_at = None

    def _operated(self, operation: str, service: ServiceFacts | None, seconds: float, failed: str = "") -> None:
        labels = self._of(operation, service)
        self._add(OPERATION_DURATION, seconds, labels | ({names.ERROR_TYPE: failed} if failed else {}))

    def _tool(self, event: ToolChanged) -> None:
        if event.state == "called" and event.item is not None:
            name = event.name if self._services.knows_tool(event.name) else names.UNKNOWN
            self._tools[event.call_id] = name, event.at
            if len(self._tools) > MAX_OPEN:
                del self._tools[next(iter(self._tools))]
        elif event.state == "answered" and (tool := self._tools.pop(event.call_id, None)) is not None:
            failed = names.tool_failure(event.result)
            labels = {names.TOOL_NAME: tool[0]} | ({names.ERROR_TYPE: failed} if failed else {})
            self._add(TOOL_DURATION, event.at - tool[1], labels)

    # -- consumption -----------------------------------------------------------------------------------------------

    def _used(self, used: Usage) -> None:
        service = self._services.of(used.service)
        labels = self._of(names.CHAT, service, used.model)
        for kind, tokens in (("input", used.input_tokens), ("output", used.output_tokens)):
            if tokens:
                self._add(TOKEN_USAGE, tokens, {**labels, names.TOKEN_TYPE: kind})
        del labels[names.OPERATION]
        if used.characters:
            self._add(CHARACTERS, used.characters, labels)
        for side, seconds in (("caller", used.input_audio_s), ("agent", used.output_audio_s)):
            if seconds > 0:
                self._add(AUDIO, seconds, {**labels, "duologue.side": side})

    def _costs(self, event: CostChanged) -> None:
        # Estimates count at the end only: they may prove too high, and a counter cannot take them back.
        usd = event.cost.usd - event.cost.carried_usd - (0.0 if event.final else event.cost.estimated_usd)
        if usd > self._usd:
            self._add(COST, usd - self._usd)
            self._usd = usd

    def _of(self, operation: str, service: ServiceFacts | None, model: str = "") -> Labels:
        labels = {names.OPERATION: operation, names.PROVIDER: service.provider if service is not None else "_OTHER"}
        if model := model or (service.model if service is not None else ""):
            labels[names.REQUEST_MODEL] = model
        return labels

    def _add(self, instrument: Instrument, value: float, labels: Labels | None = None) -> None:
        bounded: Any = self._labels.of(labels) if labels else {}
        for sink in self._sinks:
            sink.add(instrument, value, bounded)
