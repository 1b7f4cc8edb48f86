"""Exporters that are slow, dead, raise or block: the call does not notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

from duologue import Cascade
from duologue.telemetry import Telemetry
from duologue.telemetry.errands import Errands
from duologue.testing import Call, MockLLM, MockSTT, MockTTS


class Exporter(SpanExporter):
    """Exports nothing, in its own manner."""

    def __init__(self, manner: str) -> None:
        self.manner = manner
        self.open = threading.Event()
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.manner == "blocks":
            self.open.wait(60)
        if self.manner == "slow":
            time.sleep(0.05)
        if self.manner == "raises":
            raise RuntimeError("no")
        if self.manner == "exits":
            raise SystemExit(3)
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


async def talk(telemetry: Telemetry) -> Call:
    call = Call.through(Cascade(MockSTT(), MockLLM(["Hello."]), MockTTS()))
    telemetry.attach(call.session)
    async with call:
        await call.types("Hello")
        await call.settles()
    return call


@pytest.mark.parametrize("manner", ["blocks", "slow", "raises", "exits"])
async def test_a_bad_exporter_does_not_touch_the_call(manner: str) -> None:
    exporter, provider = Exporter(manner), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(provider)
    call = await talk(telemetry)
    assert call.log == ["caller: Hello", "agent: Hello."]
    assert not call.errors
    if manner == "blocks":
        assert not telemetry.flush(0.01)
    exporter.open.set()
    assert telemetry.flush(60.0)
    assert (exporter.exported > 0) is (manner in ("blocks", "slow"))


class Breaks(Sampler, SpanProcessor):
    """A part of the application's set-up that raises for every span."""

    def should_sample(self, *args: Any, **options: Any) -> SamplingResult:
        raise RuntimeError("no")

    def get_description(self) -> str:
        return "breaks"


async def test_an_error_of_the_set_up_ends_the_telemetry_of_the_call_alone() -> None:
    call = await talk(Telemetry(TracerProvider(sampler=Breaks(), shutdown_on_exit=False)))
    assert call.log == ["caller: Hello", "agent: Hello."]
    assert not call.errors
    assert call.outcome.bug is None


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    errands, gate, done = Errands(max_waiting=2), threading.Event(), []
    began = threading.Event()

    def wait() -> None:
        began.set()
        gate.wait(60)

    errands.put(wait)
    assert began.wait(60)
    for number in range(5):
        errands.put(lambda number=number: done.append(number))  # type: ignore[misc]
    assert errands.dropped == 3
    gate.set()
    assert errands.flush(60)
    assert done == [0, 1]
