"""Calls through `CartesiaTTS`, whose server is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from duologue.services.cartesia import CartesiaTTS, CartesiaTTSOptions
from duologue.testing.scripted.cartesia import ScriptedCartesia
from duologue.testing.scripted.cartesia_script import CartesiaGot
from tests.services.remote.calls import WritingCall
from tests.session.calls import settled

VOICE = "f786b574-daa5-4673-aa0c-cbe3e8534c02"
OTHER_VOICE = "a5136bf9-224c-4d76-b823-52bd5efcffcc"


class CartesiaSpeakingCall(WritingCall):
    """A call through `CartesiaTTS`, with an agent that writes."""

    def __init__(self, server: ScriptedCartesia, tts: CartesiaTTS) -> None:
        self.server = server
        super().__init__(tts)

    @property
    def got(self) -> CartesiaGot:
        return self.server.got[-1]


@asynccontextmanager
async def speaking(
    options: CartesiaTTSOptions | None = None, *, timeout_s: float = 10.0, language: str = "", **behaviour: Any
) -> AsyncIterator[CartesiaSpeakingCall]:
    async with ScriptedCartesia(**behaviour) as server:
        tts = CartesiaTTS(api_key="test", base_url=server.url, options=options)
        tts.timeout_s, tts.language = timeout_s, language
        async with CartesiaSpeakingCall(server, tts) as call:
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "CartesiaTTS" in task.get_name()]
    assert all(got.closed is not None for got in server.got)
