"""The latency of calls beside calls whose tools block.

Each of `calls` calls has typed turns and mock services with fixed delays; a turn's latency runs from the text to the
first audio of its answer. They are measured alone, and beside as many calls that each keep two plain functions of
`block_s` seconds busy all the time, in turn, `rounds` times. The figures are the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from statistics import median

import anyio

from benchmarks._call import FIRST_AUDIO_S, FIRST_TOKEN_S
from benchmarks._report import arguments, percentile, report_against
from duologue import Cascade, Tool, Tools
from duologue.frames import BotAudio, Frame, UserText
from duologue.processors import Processor
from duologue.services.llm import Request, ToolRequest
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

PAUSE_S = (0.6, 1.0)
"""The shortest and the longest pause between two turns of a measured call."""


def call_with(llm: MockLLM, tools: Tools) -> BareCall:
    """Return a call without a transport."""
    tts = MockTTS(first_audio_s=FIRST_AUDIO_S, seconds_per_sentence=0.2, speed=5.0)
    return BareCall.through(Cascade(MockSTT(), llm, tts), tools, ends=False)


async def measured(number: int, duration_s: float) -> list[float]:
    """Return the latency of each turn of a call without tools, in milliseconds."""
    dice, latencies = random.Random(number), []
    heard = asyncio.Event()

    def tap(processor: Processor, direction: str, frame: Frame) -> None:
        if isinstance(frame, BotAudio):
            heard.set()

    async with call_with(MockLLM(lambda request: "Yes.", first_token_s=FIRST_TOKEN_S), Tools()) as call:
        call.session.observe(tap)
        ends_at = time.perf_counter() + duration_s
        while time.perf_counter() < ends_at:
            await anyio.sleep(dice.uniform(*PAUSE_S))
            heard.clear()
            began = time.perf_counter()
            await call.session.send(UserText(text="Hello?"))
            await heard.wait()
            latencies.append((time.perf_counter() - began) * 1000)
    return latencies


async def blocked(block_s: float) -> None:
    """Keep two plain functions of one call at work until this is cancelled."""

    def wait() -> str:
        """Wait."""
        time.sleep(block_s)
        return "done"

    def answer(request: Request) -> list[ToolRequest] | str:
        if request.messages[-1].role == "tool":
            return "Done."
        return [ToolRequest(call_id=name, name=name, arguments={}) for name in ("one", "two")]

    answered = asyncio.Event()
    tools = Tools([Tool(wait, name=name, timeout_s=60) for name in ("one", "two")])
    async with call_with(MockLLM(answer, first_token_s=0.0), tools) as call:
        call.session.conversation.listen(lambda item: answered.set() if item.text == "Done." else None)
        while True:
            answered.clear()
            await call.session.send(UserText(text="Wait."))
            await answered.wait()


async def latencies(calls: int, duration_s: float, block_s: float) -> dict[str, float]:
    """Return the figures of the measured calls, beside calls with blocking tools if `block_s` is positive."""
    found: list[float] = []

    async def one(number: int) -> None:
        found.extend(await measured(number, duration_s))

    async with anyio.create_task_group() as others:
        if block_s:
            for _ in range(calls):
                others.start_soon(blocked, block_s)
            await anyio.sleep(1.0)
        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(one, number)
        others.cancel_scope.cancel()
    return {"turns": len(found), **{f"p{part}_ms": round(percentile(found, part), 2) for part in (50, 95, 99)}}


async def main(calls: int, duration_s: float, block_s: float, rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of the rounds of both cases, which take turns, and of their differences."""
    await latencies(2, 1.0, 0.0)  # warm
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(await latencies(calls, duration_s, 0.0))
        beside.append(await latencies(calls, duration_s, block_s))
    differences = [
        {name: after[name] - before[name] for name in before} for before, after in zip(alone, beside, strict=True)
    ]
    cases = {"alone": alone, "beside blocking tools": beside, "difference": differences}
    return {
        case: {name: round(median(each[name] for each in found), 2) for name in found[0]}
        for case, found in cases.items()
    }


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # the functions outlive their calls
    given = arguments(__doc__ or "", {"calls": 20, "duration_s": 6.0, "block_s": 5.0, "rounds": 5})
    found = asyncio.run(main(given.calls, given.duration_s, given.block_s, given.rounds))
    report_against(found, as_json=given.json)
