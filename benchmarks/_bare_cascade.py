"""A call of a bare asyncio program: it sends and receives the messages of a cascade with the vendors' SDKs alone.

ElevenLabs' SDK has no asynchronous text-to-speech over a WebSocket: the program uses `websockets`, as their guide does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from deepgram import AsyncDeepgramClient
from deepgram.environment import DeepgramClientEnvironment
from openai import AsyncOpenAI
from websockets.asyncio.client import connect

from benchmarks._call import CHUNK, MICROPHONE_HZ
from benchmarks._vendors import Vendors
from duologue.services.elevenlabs.tts_options import DEFAULT_VOICE
from duologue.services.openai.chat_options import DEFAULT_TEXT_MODEL

CHUNK_S = 0.02
SILENCE_S = 0.6
"""Seconds of silence that the program sends after the speech, as the pipeline's endpointing does."""


@dataclass
class Turn:
    """The times of a turn on the event loop's clock and the CPU seconds of the process, before it and after it."""

    began: float
    cpu_before: float
    ended: float = 0.0
    cpu_after: float = 0.0


async def bare_call(vendors: Vendors, speech: bytes, period_s: float, turns: list[Turn] | None = None) -> None:
    """Ask this question every `period_s` seconds, until cancelled.

    `turns` receives each turn, from the last chunk of silence to the first audio.
    """
    url = vendors.given["stt"]["base_url"]
    environment = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)
    deepgram = AsyncDeepgramClient(api_key=vendors.given["stt"]["api_key"], environment=environment)
    openai = AsyncOpenAI(**vendors.given["llm"])
    address = vendors.given["tts"]["base_url"].replace("http", "ws", 1)
    speak = f"{address}/v1/text-to-speech/{DEFAULT_VOICE}/multi-stream-input?output_format=pcm_24000&auto_mode=true"
    key = {"xi-api-key": vendors.given["tts"]["api_key"]}
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop, turn = asyncio.get_running_loop(), 0
    listening: Any = deepgram.listen.v1.connect(
        model="nova-3", encoding="linear16", sample_rate=MICROPHONE_HZ, interim_results=True
    )
    async with listening as ear, connect(speak, additional_headers=key, compression=None) as mouth, openai:

        async def listen() -> None:
            async for message in ear:
                if getattr(message, "from_finalize", False):
                    heard.put_nowait(message.channel.alternatives[0].transcript)

        async def play() -> None:
            async for message in mouth:
                got = json.loads(message)
                if got.get("audio"):
                    base64.b64decode(got["audio"])
                    if turns and not turns[-1].ended:
                        turns[-1].ended, turns[-1].cpu_after = loop.time(), time.process_time()

        tasks = [asyncio.create_task(listen()), asyncio.create_task(play())]
        try:
            while True:
                turn, due = turn + 1, loop.time()
                next_turn = due + period_s
                question = speech + bytes(int(SILENCE_S / CHUNK_S) * CHUNK)
                for place in range(0, len(question), CHUNK):
                    await ear.send_media(question[place : place + CHUNK])
                    due += CHUNK_S
                    if place < len(question) - CHUNK:
                        await asyncio.sleep(due - loop.time())
                if turns is not None:
                    turns.append(Turn(due - CHUNK_S, time.process_time()))
                await ear.send_finalize()
                await _answer(openai, mouth, await heard.get(), f"turn{turn}")
                while (due := due + CHUNK_S) < next_turn:  # the microphone stays on
                    await asyncio.sleep(max(0.0, due - loop.time()))
        finally:
            for task in tasks:
                task.cancel()


async def _answer(openai: AsyncOpenAI, mouth: Any, words: str, context: str) -> None:
    messages: list[Any] = [{"role": "user", "content": words}]
    stream = await openai.chat.completions.create(
        model=DEFAULT_TEXT_MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    await mouth.send(json.dumps({"context_id": context, "text": " "}))
    sentence = ""
    async for chunk in stream:
        sentence += chunk.choices[0].delta.content or "" if chunk.choices else ""
        if sentence.rstrip().endswith("."):
            await mouth.send(json.dumps({"context_id": context, "text": f"{sentence.strip()} "}))
            await mouth.send(json.dumps({"context_id": context, "flush": True}))
            sentence = ""
    await mouth.send(json.dumps({"context_id": context, "close_context": True}))
