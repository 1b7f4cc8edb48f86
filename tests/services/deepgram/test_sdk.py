"""The SDK's request: it is made by the SDK, over a connection of ours, and nothing else in the process changes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from deepgram.listen.v1 import client as nova

from duologue.errors import IncompatiblePackage
from duologue.services.deepgram import DeepgramSTT
from duologue.services.deepgram.wire import DIALLER, DeepgramClient, check_sdk
from duologue.services.remote.errors import ConnectionLost
from duologue.services.remote.websocket import WebSocketWire
from duologue.testing.scripted.deepgram import ScriptedDeepgram


def test_the_installed_sdk_fits() -> None:
    check_sdk()


def test_an_sdk_that_opens_its_sockets_in_another_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(self: Any, **query: Any) -> None: ...

    monkeypatch.setattr(nova.AsyncV1Client, "connect", connect)
    with pytest.raises(IncompatiblePackage, match=rf"deepgram-sdk .* has no {DIALLER}: pip install 'duologue\[deep"):
        check_sdk()


async def test_an_incompatible_sdk_ends_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(self: Any, **query: Any) -> None: ...

    monkeypatch.setattr(nova.AsyncV1Client, "connect", connect)
    with pytest.raises(IncompatiblePackage):
        await DeepgramSTT(api_key="test").dial(("",))


async def test_the_sdk_makes_the_request_and_the_process_keeps_its_sockets() -> None:
    before = vars(nova)[DIALLER]
    async with ScriptedDeepgram() as server:
        wire = await DeepgramSTT(api_key="test", base_url=server.url).dial(("",))
        assert isinstance(wire, WebSocketWire)
        assert vars(nova)[DIALLER] is before
        await wire.close()
        headers = server.got[0].headers
    assert headers["Authorization"] == "Token test"
    assert headers["X-Fern-SDK-Name"] == "deepgram-sdk"
    assert headers["x-deepgram-session-id"]
    assert server.got[0].kinds() == ["CloseStream"]


async def test_an_argument_that_the_sdk_lacks_ends_the_attempts() -> None:
    async with ScriptedDeepgram() as server:
        client = DeepgramClient("test", server.url, None)
        with pytest.raises(ConnectionLost, match="speling") as lost:
            await client.dial("listen", "v1", "", {"model": "nova-3", "speling": True})
        assert lost.value.fatal


def test_the_sdk_is_not_loaded_before_the_first_connection() -> None:
    program = (
        "import sys; from duologue.services.deepgram import DeepgramSTT; DeepgramSTT(api_key='k');"
        "print([name for name in sys.modules if name.split('.')[0] in ('deepgram', 'websockets', 'httpx')])"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"
