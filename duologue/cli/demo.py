"""`duologue demo`: a spoken call between a simulated caller and two agents, recorded and measured.

The first act runs on a cascade, the second on a native engine, with a swap to the cascade and back in the middle.
"""

from __future__ import annotations

import json
from pathlib import Path

import anyio
from rich.console import Console

from .. import Cascade, Handoff, Outcome, Pipeline, Session, Switch, Tools
from ..audio.pcm import deinterleave, rms_dbfs
from ..audio.wav import read_wav
from ..frames import Transfer
from ..processors.processor import Processor
from ..processors.recorder import Recorder
from ..processors.turns.endpointing import Endpointing
from ..processors.turns.interruption import Interruption
from ..processors.turns.vad import Vad
from ..services.local import EspeakTTS, RulesLLM, SphinxSTT
from ..services.local.recognizer import Grammar, Recognizer
from ..services.openai import OpenAIRealtime
from ..session.call_events import FeedEvent, HandedOff, SpeechHeld
from ..session.latency import LatencyMeter
from ..testing.call import Call
from ..testing.caller import SimulatedCaller
from ..testing.clock import run as run_virtual
from ..transports.memory import MemoryTransport
from .agents import RULES, agents, stages
from .guard import writing
from .local_model import serving
from .view import CallView

CALLER_VOICE = "en-us+f2"


def cascade() -> Cascade:
    """Return the offline services as one engine."""
    return Cascade(SphinxSTT(phrases=RULES.expected_phrases()), RulesLLM(RULES), EspeakTTS())


class Demo:
    """One call and its files. With a `Switch` the engine is swapped in the middle of the call, and back."""

    def __init__(self, out: Path, console: Console, engine: Processor) -> None:
        self.out, self._console = out, console
        self._swaps = isinstance(engine, Switch)
        self.swapped: list[HandedOff] = []
        self.transport = MemoryTransport()
        self.session = Session(
            Pipeline(
                [
                    self.transport.input(),
                    Recorder(out / "call.wav"),
                    Vad(),
                    Endpointing(),
                    Interruption(),
                    engine,
                    Handoff(agents(), stages()),
                    Tools(),
                    self.transport.output(),
                ]
            ),
            id="demo",
        )
        self.meter = LatencyMeter(self.session)
        self.caller = SimulatedCaller(self.transport, CALLER_VOICE)
        self.silenced_at: list[float] = []
        """Session times at which the caller's speech put the agent's speech on hold; its first words interrupt."""
        self.session.feed.on(self._happened, HandedOff, SpeechHeld)

    async def run(self) -> Outcome:
        """Make the call and write the files. Returns its outcome."""
        with writing(self.out):
            pass
        with CallView(self.session, self.meter, self._console):
            async with Call(self.session, self.transport, self.caller) as call:
                await self._script(call)
        with writing(self.out):
            self._write()
        return call.outcome

    def _happened(self, event: FeedEvent) -> None:
        match event:
            case HandedOff(state="completed") if event.source == event.target:
                self.swapped.append(event)
            case SpeechHeld(held=True) if "caller" in event.owners:
                self.silenced_at.append(event.at)

    async def _swap(self, engine: str) -> None:
        """Move the call to another engine, also while somebody speaks."""
        if self._swaps:
            await self.session.send(Transfer(engine=engine, reason="as an experiment"))

    async def _script(self, call: Call) -> None:
        await call.hears()
        await call.asks("where is my order")
        await call.asks("four five six seven")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.says, "what are your opening hours")
            await call.waits(0.7)
            await self._swap("cascade")  # in the middle of the caller's sentence
        await call.agent_begins()
        await call.waits(3.0)
        await call.asks("thank you that is enough")
        await self._swap("native")
        await call.says("I have a question about my bill")
        await call.hears(pause_s=1.2)
        await call.asks("how much do I owe")
        await call.asks("can I pay next week")
        await call.asks("thank you goodbye")
        call.caller.hang_up()

    def _write(self) -> None:
        rows = {"session_id": self.session.id, "conversation": self.session.conversation.rows()}
        (self.out / "conversation.json").write_text(json.dumps(rows, indent=2) + "\n")
        self.meter.write_csv(self.out / "latency.csv")
        self.meter.write_picture(self.out / "latency.png")

    def check(self) -> list[tuple[str, str]]:
        """Transcribe the recording. Returns each of the caller's lines with its transcript."""
        wav = read_wav(self.out / "call.wav")
        left, _ = deinterleave(wav.pcm, 2)
        recognizer = Recognizer(Grammar.from_phrases(RULES.expected_phrases()))
        heard = []
        for line in self.caller.lines:
            start, end = (2 * int(max(0.0, at) * wav.sample_rate) for at in (line.start_s - 0.3, line.end_s + 0.5))
            heard.append((line.text, recognizer.recognize(left[start:end], wav.sample_rate).text))
        return heard

    def level_after_barge_in(self) -> float:
        """Return the agent's level in dBFS, from 100 ms after the barge-in to the end of the caller's line."""
        wav = read_wav(self.out / "call.wav")
        _, right = deinterleave(wav.pcm, 2)
        silenced = self.silenced_at[0]
        until = next(line.end_s for line in self.caller.lines if line.end_s > silenced)
        start, end = (2 * int(at * wav.sample_rate) for at in (silenced + 0.1, until))
        return rms_dbfs(right[start:end])


def run_demo(out: Path, *, virtual: bool = False, act: int = 0) -> int:
    """Run one act of the demo, or both (0). Returns the exit code: 0 if the calls went as planned."""
    console, run, good = Console(), run_virtual if virtual else anyio.run, True
    if act != 2:
        console.rule("Act one: a call on a cascade")
        good = _print_report(*run(_first_act, out, console), console)
    if act != 1:
        console.rule("Act two: the same call on a native engine, over OpenAI's protocol")
        demo, outcome = run(_second_act, out / "native", console)
        good = _print_report(demo, outcome, console) and len(demo.swapped) == 2 and good
        console.print(f"Engines changed in mid-call: {len(demo.swapped)}, the first while the caller was speaking.")
    return 0 if good else 1


async def _first_act(out: Path, console: Console) -> tuple[Demo, Outcome]:
    demo = Demo(out, console, cascade())
    return demo, await demo.run()


async def _second_act(out: Path, console: Console) -> tuple[Demo, Outcome]:
    async with serving() as url:
        native = OpenAIRealtime(api_key="none", base_url=url)
        demo = Demo(out, console, Switch({"native": native, "cascade": cascade()}))
        return demo, await demo.run()


def _print_report(demo: Demo, outcome: Outcome, console: Console) -> bool:
    """Print a report of the call. Returns True if it went as planned."""
    console.print(f"\nThe call ended: {outcome.reason}.")
    for name in ("call.wav", "conversation.json", "latency.csv", "latency.png"):
        console.print(f"  {demo.out / name}")
    checks = demo.check()
    right = sum(_same(said, heard) for said, heard in checks)
    console.print(
        f"From the recording's left channel, {right} of {len(checks)} of the caller's lines are understood again."
    )
    for said, heard in checks:
        if not _same(said, heard):
            console.print(f"  [red]said {said!r}, heard {heard!r}")
    if demo.silenced_at:
        console.print(f"Agent's channel from 100 ms after the barge-in: {demo.level_after_barge_in():.0f} dBFS.")
    if outcome.error is not None:
        console.print(f"[red]{outcome.error}")
    return outcome.error is None and right == len(checks) and bool(demo.silenced_at)


def _same(said: str, heard: str) -> bool:
    return said.lower() == heard.lower()
