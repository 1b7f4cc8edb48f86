"""`duologue talk`: a call with the demo's agents, by microphone and loudspeaker."""

from __future__ import annotations

import anyio
from rich.console import Console

from .. import Cascade, Handoff, Outcome, Pipeline, Session, Tools
from ..processors.turns.endpointing import Endpointing
from ..processors.turns.interruption import Interruption
from ..processors.turns.vad import Vad
from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
from ..session.latency import LatencyMeter
from ..transports.local import LocalAudioTransport
from .agents import RULES, agents, stages
from .view import CallView


def run_talk(input_device: str = "", output_device: str = "") -> int:
    """Talk until Ctrl-C. Returns the exit code."""
    console = Console()
    transport = LocalAudioTransport(_device(input_device), _device(output_device))
    session = Session(
        Pipeline(
            [
                transport.input(),
                Vad(),
                Endpointing(),
                Interruption(),
                Cascade(SphinxSTT(phrases=RULES.expected_phrases()), RulesLLM(RULES), EspeakTTS()),
                Handoff(agents(), stages()),
                Tools(),
                transport.output(),
            ]
        )
    )

    async def call() -> Outcome:
        with CallView(session, LatencyMeter(session), console):
            return await session.run()

    console.print("Say: " + "; ".join(["where is my order", "what are your opening hours", "speak to billing"]))
    console.print("Ctrl-C ends the call. Use headphones: the agent would hear itself.", style="dim")
    try:
        outcome = anyio.run(call)
    except KeyboardInterrupt:
        return 0
    if outcome.error is not None:
        raise outcome.error
    return 0


def _device(name: str) -> str | int | None:
    return int(name) if name.isdigit() else name or None
