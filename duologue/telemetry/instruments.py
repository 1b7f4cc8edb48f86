"""The instruments: the metrics of calls, with their units, labels and buckets, for OpenTelemetry and Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ..frames.text import well_formed
from . import names

LATENCY_S = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
OPERATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
CALL_S = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
LATENESS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

MAX_VALUES = 100
"""Different values of one label. Further values count as `other`."""
MAX_LENGTH = 100
"""Characters of a label's value."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric. The labels are those that it may have: none holds words, or the id of a call or a person."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SERVICE = (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL)

ACTIVE = Instrument("duologue.calls.active", "gauge", "{call}", "Calls in progress.")
CALLS = Instrument("duologue.calls", "counter", "{call}", "Calls that have ended, by outcome.", ("duologue.outcome",))
CALL_DURATION = Instrument("duologue.call.duration", "histogram", "s", "Duration of a call.", (), CALL_S)
FIRST_AUDIO = Instrument(
    "duologue.turn.first_audio",
    "histogram",
    "s",
    "Time from the end of the caller's speech to the agent's first sound.",
    (),
    LATENCY_S,
)
LEG = Instrument(
    "duologue.turn.leg", "histogram", "s", "The legs of the time to the first sound.", ("duologue.leg",), LATENCY_S
)
INTERRUPTIONS = Instrument("duologue.interruptions", "counter", "{interruption}", "Interruptions of the agent.")
OPERATION_DURATION = Instrument(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "Duration of an answer of a model, a transcript, a response's speech.",
    (*_SERVICE, names.ERROR_TYPE),
    OPERATION_S,
)
FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "Time from the request to the first text of a model, or its first audio.",
    _SERVICE,
    LATENCY_S,
)
TOKEN_USAGE = Instrument(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Tokens of a request and its answer.",
    (*_SERVICE, names.TOKEN_TYPE),
    TOKENS,
)
TOOL_DURATION = Instrument(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "Duration of a tool's call.",
    (names.TOOL_NAME, names.ERROR_TYPE),
    OPERATION_S,
)
CHARACTERS = Instrument(
    "duologue.characters", "counter", "{character}", "Characters that were spoken by a TTS.", _SERVICE[1:]
)
AUDIO = Instrument(
    "duologue.audio", "counter", "s", "Audio that services took and gave.", (*_SERVICE[1:], "duologue.side")
)
COST = Instrument("duologue.cost", "counter", "USD", "The cost of the services, as far as their prices are known.")
ERRORS = Instrument("duologue.errors", "counter", "{error}", "Errors that were reported.", (names.ERROR_TYPE,))
HANDOFFS = Instrument("duologue.handoffs", "counter", "{handoff}", "Hand-offs, by outcome.", ("duologue.outcome",))
CONNECTIONS = Instrument(
    "duologue.connections",
    "counter",
    "{change}",
    "Changes of services' connections, by the new state.",
    ("duologue.service", "duologue.state"),
)
LATENESS = Instrument(
    "duologue.loop.lateness", "histogram", "s", "Lateness of a timer of the event loop.", (), LATENESS_S
)

INSTRUMENTS = (
    ACTIVE,
    CALLS,
    CALL_DURATION,
    FIRST_AUDIO,
    LEG,
    INTERRUPTIONS,
    OPERATION_DURATION,
    FIRST_CHUNK,
    TOKEN_USAGE,
    TOOL_DURATION,
    CHARACTERS,
    AUDIO,
    COST,
    ERRORS,
    HANDOFFS,
    CONNECTIONS,
    LATENESS,
)

Labels = dict[str, str]


class Sink(Protocol):
    """Takes measurements: OpenTelemetry's meter, or Prometheus' registry."""

    def add(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Add to a counter or a gauge, or record a value of a histogram."""


class BoundedLabels:
    """Bounds the values of labels. A value that finds no room counts as `other`."""

    def __init__(self, most: int = MAX_VALUES) -> None:
        self._most = most
        self._known: dict[str, set[str]] = {}

    def of(self, labels: Labels) -> Labels:
        """Return labels with at most `MAX_VALUES` different values each."""
        return {name: self._value(name, value) for name, value in labels.items()}

    def _value(self, name: str, value: str) -> str:
        known = self._known.setdefault(name, set())
        value = value[:MAX_LENGTH] if value.isascii() else well_formed(value[:MAX_LENGTH])
        if value not in known:
            if len(known) >= self._most:
                return names.UNKNOWN
            known.add(value)
        return value


class OtelSink:
    """Gives measurements to a meter of OpenTelemetry."""

    def __init__(self, meter_provider: object | None = None) -> None:
        from opentelemetry import metrics

        meter = metrics.get_meter("duologue", meter_provider=meter_provider)  # type: ignore[arg-type]
        self._instruments = {}
        for one in INSTRUMENTS:
            described = {"unit": one.unit, "description": one.description}
            if one.kind == "histogram":
                made = meter.create_histogram(one.name, explicit_bucket_boundaries_advisory=one.buckets, **described)
                self._instruments[one.name] = made.record
            elif one.kind == "gauge":
                self._instruments[one.name] = meter.create_up_down_counter(one.name, **described).add
            else:
                self._instruments[one.name] = meter.create_counter(one.name, **described).add

    def add(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Add to a counter or a gauge, or record a value of a histogram."""
        self._instruments[instrument.name](value, labels)
