"""Whole calls with a provider that sends a field as null, negative or of another type: the call goes on."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

from duologue.frames import ResponseEnded, ResponseStarted, Usage
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.scripted.server import Act, Speak
from tests.services.native.calls import GEMINI, OPENAI, CountedCall, Provider, calling

ANY: list[Any] = [None, "yes", -1, [], {"a": [None]}]
NUMBERS: list[Any] = [None, "many", "12", -3, 1e300, True]

FIELDS: dict[str, dict[str, list[Any]]] = {
    "gemini": {
        "serverContent": [None, "yes", [], 7],
        "serverContent.turnComplete": [None, "yes", "true", 1, -1, []],
        "serverContent.generationComplete": ANY,
        "serverContent.interactionStatus": ANY,
        "serverContent.modelTurn": ANY,
        "serverContent.modelTurn.role": ANY,
        "serverContent.modelTurn.parts": [None, "yes", {}, [None, 5, "part"]],
        "serverContent.modelTurn.parts.0.inlineData.mimeType": [None, 5, "text/html", "audio/pcm;rate=x"],
        "serverContent.modelTurn.parts.0.inlineData.data": [None, 5, "%%%", []],
        "serverContent.outputTranscription": ANY,
        "serverContent.outputTranscription.text": ANY,
        "serverContent.inputTranscription": ANY,
        "serverContent.inputTranscription.text": [None, -1, [], True],
        "serverContent.inputTranscription.finished": ANY,
        "usageMetadata": ANY,
        "usageMetadata.promptTokenCount": NUMBERS,
        "usageMetadata.responseTokenCount": NUMBERS,
        "usageMetadata.responseTokensDetails": ANY,
        "usageMetadata.responseTokensDetails.0.tokenCount": NUMBERS,
        "usageMetadata.responseTokensDetails.0.modality": ANY,
        "sessionResumptionUpdate": ANY,
        "sessionResumptionUpdate.newHandle": [None, -1, [], True],
        "sessionResumptionUpdate.resumable": ANY,
    },
    "openai": {
        "type": [None, -1, [], {}],
        "event_id": ANY,
        "item_id": ANY,
        "output_index": ANY,
        "content_index": ANY,
        "delta": [None, -1, [], "%%%"],
        "transcript": ANY,
        "usage": ANY,
        "item": ANY,
        "item.content": ANY,
        "item.status": ANY,
        "part": ANY,
        "response": ANY,
        "response.id": ANY,
        "response.status": ANY,
        "response.status_details": ANY,
        "response.metadata": ANY,
        "response.output": ANY,
        "response.usage": ANY,
        "response.usage.input_tokens": NUMBERS,
        "response.usage.output_tokens": NUMBERS,
        "response.usage.output_token_details": ANY,
        "response.usage.output_token_details.audio_tokens": NUMBERS,
        "response_id": ANY,
        "audio_start_ms": NUMBERS,
        "audio_end_ms": NUMBERS,
        "rate_limits": ANY,
    },
}
"""The odd values of each field, by its place in a message."""

CASES = [
    pytest.param(provider, field, id=f"{provider.name} {field}")
    for provider in (GEMINI, OPENAI)
    for field in FIELDS[provider.name]
]


def with_odd(message: Any, path: list[str], value: Any) -> Any:
    """Return a message with this value at a place, or as it is if it has no such place."""
    message = copy.deepcopy(message)
    inner = message
    for step in path[:-1]:
        if isinstance(inner, list):
            inner = inner[int(step)] if inner else None
        else:
            inner = inner.get(step) if isinstance(inner, dict) else None
    if isinstance(inner, dict) and path[-1] in inner:
        inner[path[-1]] = value
    return message


def spoil(call: CountedCall, path: list[str], values: list[Any]) -> list[bool]:
    """Spoil a field of all messages that the provider sends, until the list that is returned has an entry."""
    connection, over, turns = call.server.connections[-1], list[bool](), itertools.cycle(values)
    send = connection.send

    def spoiled(message: Any) -> None:
        send(message if over or not isinstance(message, dict) else with_odd(message, path, next(turns)))

    connection.send = spoiled  # type: ignore[method-assign]
    return over


@pytest.mark.parametrize(("provider", "field"), CASES)
async def test_an_odd_field_is_reported_or_ignored_and_the_call_goes_on(provider: Provider, field: str) -> None:
    values = FIELDS[provider.name][field]
    answers: list[list[Act]] = [[Speak("One moment.", seconds=0.6)] for _ in range(9)]
    settings = ConnectionSettings(response_s=4, stall_s=5)
    async with calling(provider, lambda asked: answers.pop(0), connection=settings) as call:
        over = spoil(call, field.split("."), values)
        for _ in range(2):
            await call.says()
            await call.waits(2)
        over.append(True)
        await call.waits(12)
        assert not call.is_over
        assert not any(error.fatal for error in call.errors)
        answered = len(call.answered)
        await call.says()
        await call.waits(4)
        assert len(call.answered) > answered, "the next question is answered"
        assert call.log[-1] == "agent: One moment."
        assert not call.engine.parts.asks.busy
        for usage in call.came(Usage):
            counts = (usage.input_tokens, usage.output_tokens, usage.input_audio_tokens, usage.output_audio_tokens)
            assert all(0 <= count < 10_000 for count in counts), usage
    begun = [frame.response_id for frame in call.came(ResponseStarted)]
    assert sorted(begun) == sorted(frame.response_id for frame in call.came(ResponseEnded))
