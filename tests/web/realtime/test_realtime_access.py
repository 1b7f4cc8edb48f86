"""A Realtime client whose caller's access was revoked."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from .calls import Mocks, call, speech

ITEM = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}


async def test_a_revoked_caller_loses_nothing_by_a_message_without_end() -> None:
    mocks = Mocks()
    async with call(mocks) as client:
        mocks.sessions[0].set_access("revoked", by="supervisor")
        for levels in (200, 100_000):
            await client.connection.send_raw('{"type": "response.create", "a": ' + "[" * levels + "]" * levels + "}")
            assert (await client.refused())["code"] == "access_revoked"
        mocks.sessions[0].set_access("active", by="supervisor")
        await client.type("hello")
        await client.send("response.create")
        await client.until("response.done")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("conversation.item.create", {"item": ITEM}),
        ("response.create", {}),
        ("response.cancel", {}),
        ("input_audio_buffer.commit", {}),
        ("input_audio_buffer.clear", {}),
        ("session.update", {"session": {"type": "realtime", "instructions": "Be rude."}}),
        ("no.such.event", {}),
    ],
)
async def test_a_revoked_caller_gets_no_word_in_and_no_answer(kind: str, fields: dict[str, Any]) -> None:
    mocks = Mocks()
    async with call(mocks, client_may_configure=True) as client:
        mocks.sessions[0].set_access("revoked", by="supervisor")
        await client.send(kind, **fields)
        assert (await client.refused())["code"] == "access_revoked"
        await client.speak(speech(1.0))
        await anyio.sleep(3)
        assert mocks.llms[0].requests == []
        assert mocks.llms[0].config.prompt == "Be kind."
        assert len(mocks.sessions[0].conversation) == 0
        mocks.sessions[0].set_access("active", by="supervisor")
        await client.type("hello")
        await client.send("response.create")
        await client.until("response.done")
