"""Messages of 100,000 levels, and ones with half a character: each service says that they are malformed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from duologue.errors import BadInput
from duologue.services.assemblyai.wire import decode_assemblyai
from duologue.services.cartesia.wire import decode_heard
from duologue.services.cartesia.wire import decode_speech as decode_sonic
from duologue.services.deepgram.messages import decode_flux, decode_listen
from duologue.services.deepgram.speech import decode_speak
from duologue.services.elevenlabs.stt import decode_scribe
from duologue.services.elevenlabs.tts import decode_speech
from duologue.services.google.text_api import answer_lost
from duologue.services.google.wire_in import decode_frame
from duologue.services.openai.chat_calls import StreamedCall
from duologue.services.openai.chat_wire import read_chunk
from duologue.services.openai.responses_answer import read_response_event
from duologue.services.openai.wire_in import decode_message
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Raw, Speak
from tests.services.model_servers import CHAT, RESPONSES, Vendor, through, told

READERS: dict[str, Callable[[str | bytes], Any]] = {
    "AssemblyAI": decode_assemblyai,
    "Cartesia, heard": decode_heard,
    "Cartesia, spoken": decode_sonic,
    "Deepgram Nova": decode_listen,
    "Deepgram Flux": decode_flux,
    "Deepgram, spoken": decode_speak,
    "ElevenLabs, heard": decode_scribe,
    "ElevenLabs, spoken": decode_speech,
    "Gemini Live": decode_frame,
    "OpenAI Realtime": lambda message: decode_message(message, []),
    "chat completions": read_chunk,
    "responses": read_response_event,
}


def deep(levels: int) -> str:
    return '{"type": "odd", "a": ' + "[" * levels + "]" * levels + "}"


@pytest.mark.parametrize("levels", [80, 500, 100_000])
@pytest.mark.parametrize("vendor", READERS)
def test_a_deep_message_is_malformed(vendor: str, levels: int) -> None:
    for message in (deep(levels), deep(levels).encode(), "[" * levels):
        with pytest.raises(BadInput):
            READERS[vendor](message)


def test_half_a_character_where_base64_belongs_is_malformed() -> None:
    for half in ("\ud83d", "\udc00\ud800"):
        audio = {"type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": half}
        part = {"inlineData": {"mimeType": "audio/pcm", "data": half}}
        frame = {"serverContent": {"modelTurn": {"parts": [part]}}}
        for ascii_only in (True, False):
            with suppress(BadInput):
                decode_message(json.dumps(audio, ensure_ascii=ascii_only), [])
            with suppress(BadInput):
                decode_frame(json.dumps(frame, ensure_ascii=ascii_only))


@pytest.mark.parametrize("vendor", [CHAT, RESPONSES], ids=str)
async def test_a_deep_event_between_the_words_is_told_and_the_rest_is_spoken(vendor: Vendor) -> None:
    garbage = Raw(f"data: {deep(100_000)}\n\n".encode())
    async with ScriptedOpenAIHTTP([[Speak("It rains."), garbage, Speak("Take a coat.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(6)
        assert call.log[1:] == ["agent: It rains. Take a coat."]
        assert ["not a message of the model server's" in problem for problem in told(call)] == [True]


def test_a_deep_answer_of_geminis_is_malformed() -> None:
    assert "malformed" in str(answer_lost(RecursionError("maximum recursion depth exceeded"), "gemini-3.8-flash"))


def test_deep_arguments_of_a_call_are_refused() -> None:
    call = StreamedCall(0, "c1")
    for levels in (80, 100_000):
        call.arguments = deep(levels)
        with pytest.raises(Exception, match="are not JSON"):
            call.parsed()
