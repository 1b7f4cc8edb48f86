"""Calls whose caller is audio and whose engine is a cascade or a native one, with the same model behind each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from duologue.processors import Processor
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.cascade import Cascade
from duologue.services.context import SAY, Request, ToolRequest
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions, ServerVad
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import SPEECH_CHARACTERS_PER_S, Act, Asked, CallTool, Speak, Wait
from tests.processors.turns.calls import level_vad, loud

CLIENT_TURNS = ("cascade", "openai", "gemini")
"""The engines whose turns the pipeline's ear finds."""
ENGINES = (*CLIENT_TURNS, "openai-server", "gemini-server")
"""The same, and those whose provider finds the turns."""

Server: TypeAlias = ScriptedOpenAI | ScriptedGemini | None
Words: TypeAlias = Sequence[str] | Callable[[bytes], str]
"""The caller's words, turn by turn, or a recogniser of their audio (for native engines)."""
Reply: TypeAlias = Callable[[str], str | ToolRequest]
"""The model: takes the instructions and the caller's latest words, and returns the answer."""


def answers(asked: str) -> str:
    """Answer with the caller's words."""
    return f"You said: {asked.splitlines()[-1] if asked else 'nothing'}."


@asynccontextmanager
async def engine(kind: str, words: Words = (), reply: Reply = answers, **more: Any) -> AsyncIterator[Processor]:
    """An engine of this kind, as `started` starts it."""
    async with started(kind, words, reply, **more) as (agent, _):
        yield agent


@asynccontextmanager
async def started(
    kind: str,
    words: Words = (),
    reply: Reply = answers,
    *,
    delay_s: float = 0.15,
    interim_s: float | None = 0.3,
    **settings: Any,
) -> AsyncIterator[tuple[Processor, Server]]:
    """An engine of this kind, whose caller says `words`, turn by turn, and its server.

    The model needs `delay_s` seconds for its first word; the cascade has an interim word every `interim_s` seconds.
    `settings` are those of the native engine.
    """

    def of_request(request: Request) -> str | ToolRequest:
        told = [message.text for message in request.messages if message.role in ("user", "tool", "system")]
        return reply("\n".join([request.instructions, *told[-1:]]))

    def of_native(asked: Asked) -> Sequence[Act]:
        told = f"{asked.instructions}\n{asked.said}"
        for wanted in (asked.instructions, asked.said):
            if SAY in wanted:
                return [Wait(delay_s), Speak(wanted.rpartition(SAY)[2].strip(" ]\n"))]
        answer = reply(told)
        if isinstance(answer, ToolRequest):
            return [Wait(delay_s), CallTool(answer.name, dict(answer.arguments))]
        return [Wait(delay_s), Speak(answer)]

    if kind == "cascade":
        tts = MockTTS(s_per_character=1 / SPEECH_CHARACTERS_PER_S)
        stt = MockSTT([] if callable(words) else list(words) or [""], delay_s=0.1, interim_s=interim_s)
        yield Cascade(stt, MockLLM(of_request, first_token_s=delay_s), tts), None
        return
    vendor, _, server_turns = kind.partition("-")
    if vendor == "openai":
        async with ScriptedOpenAI(of_native, transcripts=words if callable(words) else list(words)) as openai:
            detection = ServerVad(silence_duration_ms=600) if server_turns else None
            options = OpenAIRealtimeOptions(turn_detection=detection)
            yield OpenAIRealtime(api_key="test", base_url=openai.url, options=options, **settings), openai
    else:
        async with ScriptedGemini(of_native, transcripts=words if callable(words) else list(words)) as google:
            live: dict[str, Any] = {"silence_duration_ms": 600} if server_turns else {"turn_detection": None}
            mine: dict[str, Any] = {"base_url": google.url, "ssl_context": google.ssl_context}
            yield GeminiLive(api_key="test", options=GeminiLiveOptions(**live), **mine, **settings), google


def ear(policy: InterruptionPolicy | None = None, *, by_words: bool = False, **endpointing: Any) -> list[Processor]:
    """The ear before the engine, with a detector by level. Unless `by_words`, 600 ms of silence end a turn."""
    silence: dict[str, Any] = {} if by_words else {"silence_ms": 600}
    return [Vad(level_vad()), Endpointing(**silence, **endpointing), Interruption(policy)]


async def speaks(call: Call, seconds: float = 1.0) -> None:
    """The caller makes a sound that counts as speech."""
    await call.caller.play(loud(seconds), 16_000)
