"""`duologue latency`: ten scripted questions, and the latency of each answer by stages."""

from __future__ import annotations

from pathlib import Path

import anyio
from rich.console import Console

from ..processors.processor import Processor
from ..services.openai import OpenAIRealtime
from ..testing.call import Call
from ..testing.clock import run as run_virtual
from .demo import Demo, cascade
from .local_model import serving

PROMPTS = (
    "hello there",
    "where is my order",
    "four five six seven",
    "okay thank you",
    "can I speak to billing please",
    "how much do I owe",
    "can I pay next week",
    "okay thank you",
    "can I speak to reception please",
    "thank you goodbye",
)


class Questions(Demo):
    """The demo's call with these questions. Each is asked after the caller has heard the answer to the one before."""

    async def _script(self, call: Call) -> None:
        await call.hears()
        for prompt in PROMPTS:
            await call.says(prompt)
            await call.hears(pause_s=1.0)
        call.caller.hang_up()


def run_latency(out: Path, *, native: bool = False, virtual: bool = False) -> int:
    """Ask all questions. Returns the exit code: 0 if all were answered.

    On the virtual clock computation takes no time: the figures consist of waits only.
    """
    console = Console()
    call = (run_virtual if virtual else anyio.run)(_ask, out, console, native)
    answers = len(list(call.meter))
    console.print(
        f"{answers} of {len(PROMPTS)} questions were answered, after {call.meter.median_ms():.0f} ms (median)."
    )
    for name in ("latency.csv", "latency.png"):
        console.print(f"  {out / name}")
    return 0 if answers == len(PROMPTS) else 1


async def _ask(out: Path, console: Console, native: bool) -> Questions:
    async def ask(engine: Processor) -> Questions:
        call = Questions(out, console, engine)
        await call.run()
        return call

    if not native:
        return await ask(cascade())
    async with serving() as url:
        return await ask(OpenAIRealtime(api_key="none", base_url=url))
