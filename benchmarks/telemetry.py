"""The cost of telemetry: many calls with spans and metrics, and the same without, in turns.

The calls are those of `benchmarks.sessions`: a cascade of mock services, webrtcvad on every frame, a question every
few seconds. Half of the rounds have OpenTelemetry's spans (a batch processor with an exporter that serializes them as
OTLP does, and sends nothing) and its metrics, or Prometheus' metrics alone. The figure is the median of the rounds' CPU
time, with telemetry over without. On a machine with other work it scatters by more than the cost: `ms_per_turn` is the
CPU time of telemetry alone, on the recorded events of a call, and `share` its part of a turn's.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from statistics import median

import anyio
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks._call import Call, speech
from benchmarks._report import arguments, report
from benchmarks.sessions import Probe, _one
from duologue import Session
from duologue.session.call_events import FeedEvent, TurnTimed
from duologue.telemetry import Telemetry

WARM_UP_S = 7.0
BUDGET = 1.10


class Serializes(SpanExporter):
    """Does an exporter's work on this machine, and sends nothing."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Serialize the spans."""
        self.spans += len(spans)
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def telemetry(kind: str) -> Telemetry | None:
    """Return telemetry with both exporters ("otel"), with Prometheus' metrics ("metrics"), or None ("")."""
    if kind == "otel":
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(Serializes()))
        return Telemetry(tracers, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
    return Telemetry(opentelemetry=False, prometheus=True) if kind == "metrics" else None


async def measure(sessions: int, seconds: float, kind: str) -> tuple[float, int]:
    """Return the CPU seconds that these calls take, and the turns in them."""
    probes: list[Probe] = [Probe([]) for _ in range(sessions)]
    calls, dice, observed = [Call(probe) for probe in probes], random.Random(1), telemetry(kind)
    if observed is not None:
        for call in calls:
            observed.attach(call.session)
    async with anyio.create_task_group() as tasks:
        for call, probe in zip(calls, probes, strict=True):
            tasks.start_soon(_one, call, probe, dice.uniform(0.0, WARM_UP_S / 2))
        await anyio.sleep(WARM_UP_S)
        before = sum(len(call.llm.requests) for call in calls)
        cpu = time.process_time()
        await anyio.sleep(seconds)
        cpu = time.process_time() - cpu
        turns = sum(len(call.llm.requests) for call in calls) - before
        for call, probe in zip(calls, probes, strict=True):
            assert probe.microphone is not None
            probe.microphone.stop()
            call.session.cancel("measured")
    return cpu, turns


async def record(seconds: float = 20.0) -> tuple[Session, list[FeedEvent], int]:
    """Return the events of one call of this length, and its turns."""
    probe: Probe = Probe([])
    call, events = Call(probe), list[FeedEvent]()
    call.session.feed.on(events.append)
    call.session.feed.on(events.append, TurnTimed)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_one, call, probe, 0.0)
        await anyio.sleep(seconds)
        assert probe.microphone is not None
        probe.microphone.stop()
        call.session.cancel("measured")
    return call.session, events, len(call.llm.requests)


def fold_ms(kind: str, session: Session, events: list[FeedEvent], turns: int, times: int = 100) -> float:
    """Return the CPU milliseconds for a turn of a recorded call, of all threads: telemetry alone."""
    observed = telemetry(kind)
    assert observed is not None
    cpu = time.process_time()
    for _ in range(times):
        for reader in observed.readers(session):
            for event in events:
                if type(event) in reader.kinds:
                    reader.take(event)
    observed.flush(60.0)
    return (time.process_time() - cpu) * 1000 / (times * turns)


async def main(sessions: int, seconds: float, rounds: int) -> dict[str, float]:
    """Return all figures."""
    speech()
    kinds = ("", "metrics", "otel")
    cpu: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds if number % 2 else reversed(kinds):
            used, turns = await measure(sessions, seconds, kind)
            cpu[kind].append(used / max(1, turns))
    recorded = await record()
    bare = median(cpu[""])
    figures: dict[str, float] = {"sessions": sessions, "rounds": rounds, "cpu_ms_per_turn": round(bare * 1000, 2)}
    for kind in kinds[1:]:
        ratios = [with_it / without for with_it, without in zip(cpu[kind], cpu[""], strict=True)]
        figures[f"{kind}_ratio"] = round(median(ratios), 3)
        alone = min(fold_ms(kind, *recorded) for _ in range(3))
        figures[f"{kind}_ms_per_turn"] = round(alone, 3)
        figures[f"{kind}_share"] = round(alone / (bare * 1000), 4)
    figures["at_most"] = BUDGET
    return figures


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    options = arguments("The cost of telemetry.", {"sessions": 20, "seconds": 12.0, "rounds": 5})
    figures = asyncio.run(main(options.sessions, options.seconds, options.rounds))
    report(figures, as_json=options.json)
