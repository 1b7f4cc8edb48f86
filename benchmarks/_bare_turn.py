"""A turn of a bare asyncio program, with the timers and hand-overs of a call and without a framework.

It has a microphone's timer, and five tasks with queues between them: delivery, speech-to-text, language model,
text-to-speech, output. The services have the delays of `benchmarks._call`.
"""

from __future__ import annotations

import asyncio

from benchmarks._call import FIRST_AUDIO_S, FIRST_TOKEN_S, SENTENCE_TOKENS, STT_S, TOKEN_S
from benchmarks._watch import Watch

CHUNK_S = 0.02
END = "end of turn"


async def bare_turns(turns: int, idle_s: float, watch: Watch) -> list[float]:
    """Return the overhead of each turn in milliseconds: its time minus the real length of the services' sleeps."""
    loop = asyncio.get_running_loop()
    to_pipeline: asyncio.Queue[str] = asyncio.Queue()
    to_stt: asyncio.Queue[str] = asyncio.Queue()
    to_llm: asyncio.Queue[str] = asyncio.Queue()
    to_tts: asyncio.Queue[str] = asyncio.Queue()
    to_output: asyncio.Queue[str] = asyncio.Queue()
    took_s = 0.0
    ends = False
    sent_at = 0.0
    heard: asyncio.Future[float] = loop.create_future()
    next_at = loop.time()

    def beat() -> None:
        nonlocal next_at, ends, sent_at
        if ends:
            ends, sent_at = False, loop.time()
            watch.begin()
            to_pipeline.put_nowait(END)
        else:
            to_pipeline.put_nowait("audio")
        next_at += CHUNK_S
        timers[0] = loop.call_at(next_at, beat)

    timers = [loop.call_at(next_at, beat)]

    async def deliver() -> None:
        while True:
            if await to_pipeline.get() == END:
                to_stt.put_nowait(END)

    async def stt() -> None:
        nonlocal took_s
        while True:
            await to_stt.get()
            began = loop.time()
            await asyncio.sleep(STT_S)
            took_s = loop.time() - began
            to_llm.put_nowait("words")

    async def llm() -> None:
        nonlocal took_s
        while True:
            await to_llm.get()
            began = loop.time()
            due = began + FIRST_TOKEN_S
            for token in range(2 * SENTENCE_TOKENS):
                await asyncio.sleep(due - loop.time())
                due += TOKEN_S
                if token == SENTENCE_TOKENS - 1:
                    took_s += loop.time() - began
                to_tts.put_nowait("token")

    async def tts() -> None:
        nonlocal took_s
        while True:
            for _ in range(SENTENCE_TOKENS):
                await to_tts.get()
            began = loop.time()
            await asyncio.sleep(FIRST_AUDIO_S)
            if not heard.done():
                took_s += loop.time() - began
            to_output.put_nowait("audio")

    async def output() -> None:
        while True:
            await to_output.get()
            if not heard.done():
                watch.end()
                heard.set_result(loop.time())

    tasks = [loop.create_task(each()) for each in (deliver, stt, llm, tts, output)]
    overhead = []
    for _ in range(turns):
        await asyncio.sleep(idle_s)
        heard = loop.create_future()
        ends = True
        first_at = await heard
        overhead.append((first_at - sent_at - took_s) * 1000)
        await asyncio.sleep(0.3)
    timers[0].cancel()
    for task in tasks:
        task.cancel()
    return overhead
