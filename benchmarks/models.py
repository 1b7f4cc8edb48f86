"""The CPU time of one answer of a language model over HTTP, beside the bare SDK for the same messages.

A conversation of 10 or 400 messages is sent, and 100 tokens come back, from a server in this process that has them
ready; its time is part of every figure. Services and SDKs answer in turns, and the median counts.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from benchmarks._report import arguments, report
from duologue.services.context import Message, Request
from duologue.services.google import GeminiLLM
from duologue.services.openai import OpenAILLM
from duologue.services.remote import RemoteLLM
from duologue.testing.scripted.http import HTTPRequest, ScriptedHTTP

MESSAGES = (10, 400)
TOKENS = 100
ANSWERS = 15
TEXT = "hello there how are you doing today"


def stream_of(pieces: list[dict[str, Any]], end: bytes = b"") -> bytes:
    """Return a stream of events with these pieces."""
    return b"".join(f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces) + end


def chat() -> bytes:
    """Return an answer of OpenAI's."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    word = {**head, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
    last = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return stream_of([word] * TOKENS + [last], b"data: [DONE]\n\n")


def contents() -> bytes:
    """Return an answer of Gemini's."""
    word = {"candidates": [{"content": {"parts": [{"text": "word "}], "role": "model"}, "index": 0}]}
    return stream_of([word] * TOKENS + [{"candidates": [{"finishReason": "STOP"}]}])


def gives(body: bytes) -> Callable[[HTTPRequest], Awaitable[None]]:
    """Return a route with one answer."""

    async def give(request: HTTPRequest) -> None:
        await request.begin(200, {"Content-Type": "text/event-stream"})
        await request.send(body)
        await request.end()

    return give


async def take(llm: RemoteLLM, request: Request) -> None:
    """Read an answer of a service."""
    async for _ in llm.generate(request):
        pass


async def milliseconds(answers: dict[str, Callable[[], Awaitable[None]]]) -> dict[str, float]:
    """Return the median CPU time of each kind of answer."""
    taken: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(ANSWERS + 1):
        for name, answer in answers.items():
            began = time.process_time()
            await answer()
            taken[name].append(time.process_time() - began)
    return {name: round(statistics.median(times[1:]) * 1000, 2) for name, times in taken.items()}


async def measure() -> dict[str, float]:
    """Return all figures, in milliseconds."""
    server = ScriptedHTTP()
    server.route("POST", "/v1/chat/completions", gives(chat()))
    server.route("POST", "/v1beta/models/*", gives(contents()))
    figures: dict[str, float] = {}
    async with server:
        address = f"http://{server.address}"
        openai_llm, gemini_llm = OpenAILLM("m", base_url=f"{address}/v1"), GeminiLLM(api_key="x", base_url=address)
        openai = AsyncOpenAI(api_key="x", base_url=f"{address}/v1")
        options = types.HttpOptions(base_url=address, api_version="v1beta")
        google = genai.Client(api_key="x", vertexai=False, http_options=options)
        for count in MESSAGES:
            sides = ["user" if number % 2 == 0 else "assistant" for number in range(count)]
            request = Request(instructions="", messages=tuple(Message(role=side, text=TEXT) for side in sides))  # type: ignore[arg-type]
            messages: Any = [{"role": side, "content": TEXT} for side in sides]
            turns: Any = [{"role": side.replace("assistant", "model"), "parts": [{"text": TEXT}]} for side in sides]

            async def openai_sdk(messages: Any = messages) -> None:
                async for _ in await openai.chat.completions.create(model="m", messages=messages, stream=True):
                    pass

            async def google_sdk(turns: Any = turns) -> None:
                async for _ in await google.aio.models.generate_content_stream(model="m", contents=turns):
                    pass

            found = await milliseconds(
                {
                    "openai_llm_ms": partial(take, openai_llm, request),
                    "openai_sdk_ms": openai_sdk,
                    "gemini_llm_ms": partial(take, gemini_llm, request),
                    "google_sdk_ms": google_sdk,
                }
            )
            figures |= {f"{count}_messages_{name}": value for name, value in found.items()}
        await openai_llm.close()
        await gemini_llm.close()
        await openai.close()
        await google.aio.aclose()
    return figures


if __name__ == "__main__":
    arguments_given = arguments("The CPU time of an answer of a language model, in milliseconds.")
    report(anyio.run(measure), as_json=arguments_given.json)
