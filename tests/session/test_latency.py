"""The stages of a turn's latency, with and without tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from duologue import Cascade, Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.vad import Vad
from duologue.services.llm import Request, ToolRequest
from duologue.session.latency import STAGES, LatencyMeter, TurnLatency
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


async def find(seconds: float) -> str:
    """Find it."""
    await anyio.sleep(seconds)
    return "found"


def model(*seconds: float, first: str = "") -> Any:
    def reply(request: Request) -> Sequence[Any]:
        if any(message.role == "tool" for message in request.messages):
            return ["It is found."]
        calls = [
            ToolRequest(call_id=f"c{number}", name="find", arguments={"seconds": each})
            for number, each in enumerate(seconds)
        ]
        return [first, *calls] if first else calls

    return reply


async def latency(reply: Any) -> TurnLatency:
    cascade = Cascade(MockSTT(), MockLLM(reply, first_token_s=0.2), MockTTS())
    call = Call.through(Vad(), Endpointing(), cascade, Tools([find]))
    meter = LatencyMeter(call.session)
    async with call:
        await call.asks("hello there")
    (turn,) = meter
    assert sum(turn.stages_ms.values()) == pytest.approx(turn.total_ms)
    assert tuple(turn.stages_ms) == STAGES
    return turn


async def test_the_time_of_a_tool_is_not_the_models() -> None:
    stages = (await latency(model(3.0))).stages_ms
    assert stages["tool"] == pytest.approx(3000, abs=10)
    assert stages["first_token"] == pytest.approx(400, abs=20)  # two requests


async def test_tools_that_run_together_are_counted_once() -> None:
    assert (await latency(model(3.0, 2.0))).stages_ms["tool"] == pytest.approx(3000, abs=10)


async def test_a_tool_after_the_first_words_delays_nothing() -> None:
    stages = (await latency(model(3.0, first="Let me see. "))).stages_ms
    assert stages["tool"] == 0
    assert stages["first_token"] == pytest.approx(200, abs=20)


async def test_without_tools_there_is_no_time_for_them() -> None:
    assert (await latency(["Hello."])).stages_ms["tool"] == 0
