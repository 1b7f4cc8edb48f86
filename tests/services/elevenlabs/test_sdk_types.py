"""The messages of both sides fit the SDK's own types."""

from __future__ import annotations

from typing import Any, get_args

import anyio
import elevenlabs.types as types
import pytest
from elevenlabs.v_1_speech_to_text_realtime.types import ReceiveTranscription

from duologue.services.elevenlabs import (
    ElevenLabsSTTOptions,
    ElevenLabsTTSOptions,
    PronunciationDictionary,
    VoiceSettings,
)
from tests.services.elevenlabs.calls import listening, speaking

CLIENT = types.WebsocketTtsClientMessageMulti


def check(message: dict[str, Any], kind: Any, *, ignored: frozenset[str] = frozenset()) -> None:
    """The message has the fields of the type, with its values, and no others."""
    made = kind.model_validate({name: value for name, value in message.items() if value is not None})
    undeclared = set(made.model_extra or ()) - ignored
    assert not undeclared, f"{kind.__name__} has no {undeclared}"


def kind_of(message: dict[str, Any], known: set[str]) -> Any:
    """The SDK's type of a client's message on the multi-context WebSocket."""
    if message.get("close_context"):
        return types.CloseContext
    if message.get("flush"):
        return types.FlushContext
    if "context_id" not in message:
        return CLIENT
    if message["context_id"] not in known:
        known.add(message["context_id"])
        return types.InitializeConnectionMulti
    return types.SendTextMulti if message["text"] else types.KeepContextAlive


async def test_text_to_speech() -> None:
    options = ElevenLabsTTSOptions(
        voice_settings=VoiceSettings(stability=0.5, use_speaker_boost=True),
        dictionaries=(PronunciationDictionary("d", "v"),),
        auto_mode=False,
        chunk_length_schedule=(50, 100),
        inactivity_timeout_s=6,
    )
    async with speaking(options, pace=1.0) as agent:
        await agent.says("Hello there. ", "How are you?")
        await agent.until_ended(1)
        await agent.says("This one is interrupted.")
        await anyio.sleep(0.2)
        agent.session.interrupt()
        response = await agent.begins()
        await agent.writes(response, "This one waits. ")
        await agent.until(lambda: {"text": "", "context_id": "context_3"} in agent.messages, "a wait", 20)
        await agent.ends(response)
        await agent.until_ended(3)
        await agent.until(lambda: {"text": ""} in agent.messages, "a quiet connection", 20)
    (got,) = agent.server.got
    known: set[str] = set()
    kinds = [kind_of(message, known) for message in got.messages]
    for message, kind in zip(got.messages, kinds, strict=True):
        check(message, kind)
    assert len(set(kinds)) == 6
    for message in got.sent:
        if message.get("isFinal"):
            check(message, types.FinalOutputMulti)
        else:
            check(message, types.AudioOutputMulti, ignored=frozenset({"isFinal"}))
            assert message["alignment"] is None or types.Alignment.model_validate(message["alignment"]).chars


@pytest.mark.parametrize("timed", [True, False])
async def test_speech_to_text(timed: bool) -> None:
    received = {kind.model_fields["message_type"].default: kind for kind in get_args(ReceiveTranscription)}
    options = ElevenLabsSTTOptions(word_times=timed)
    async with listening(options, transcripts=["hello there"], interim_s=0.2, session_limit_s=20) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await caller.until(lambda: len(caller.server.got) == 2, "the limit of the session", 30)
    sent = [message for got in caller.server.got for message in got.sent]
    for message in sent:
        check(message, received[message["message_type"]])
    kinds = {message["message_type"] for message in sent}
    assert len(kinds) == (5 if timed else 4)
