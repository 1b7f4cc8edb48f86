"""A cascade of vendors' services, chosen by name; `duologue doctor` lists the names.

python -m examples.cascade --stt deepgram-flux --llm gemini --tts openai --scripted
DEEPGRAM_API_KEY=... OPENAI_API_KEY=... ELEVENLABS_API_KEY=... python -m examples.cascade

A caller asks a recorded question. With --scripted the vendors are servers in this process: no key, no network.
"""

from __future__ import annotations

import argparse

import anyio

from duologue import Agent, Cascade, Endpointing, Interruption, Vad
from duologue.audio.wav import read_wav
from duologue.services.vendors import Kind, find, offered
from duologue.session.latency import LatencyMeter
from duologue.testing import Call
from duologue.testing.scripted import Delays, ScriptedCascade, Speak

QUESTION = "tests/data/weather_question.wav"
SCRIPT = [[Speak("It is sunny in Paris, and 21 degrees.")]]
DELAYS = Delays(transcript_s=0.1, first_token_s=0.15, token_s=0.02, first_audio_s=0.08, pace=5.0)
NAMES: dict[Kind, str] = {"stt": "deepgram", "llm": "openai", "tts": "elevenlabs"}


async def ask(engine: Cascade) -> Call:
    """Ask the question. Prints the transcript, the answer and where the time went."""
    ears = (Vad(), Endpointing(), Interruption()) if engine.capabilities.manual_turns else ()
    call = Call.through(*ears, engine, agent=Agent(name="Ann", instructions="Answer in one sentence."))
    meter, question = LatencyMeter(call.session), read_wav(QUESTION)
    async with call:
        await call.caller.play(question.pcm, question.sample_rate)
        await call.hears()
    call.print()
    for turn in meter:
        stages = ", ".join(f"{stage} {ms:.0f}" for stage, ms in turn.stages_ms.items() if ms)
        print(f"heard {turn.total_ms:.0f} ms after the question: {stages}")
    return call


async def main(stt: str, llm: str, tts: str, *, scripted: bool = False) -> Call:
    """Make a call on the three services."""
    if scripted:
        async with ScriptedCascade(stt, llm, tts, SCRIPT, ["What is the weather in Paris?"], delays=DELAYS) as servers:
            return await ask(servers.cascade())
    return await ask(Cascade(find("stt", stt).load()(), find("llm", llm).load()(), find("tts", tts).load()()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for kind, usual in NAMES.items():
        parser.add_argument(f"--{kind}", default=usual, choices=[n for n, one in offered(kind).items() if one.keys])
    parser.add_argument("--scripted", action="store_true")
    given = parser.parse_args()
    anyio.run(lambda: main(given.stt, given.llm, given.tts, scripted=given.scripted))
