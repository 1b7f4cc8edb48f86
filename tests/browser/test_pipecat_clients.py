"""Pipecat's own JavaScript client with its stock transports, from the npm registry, against `duologue serve`."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from playwright.async_api import TimeoutError

from .browser import Sound, Tab, opened
from .microphone import write_microphone
from .page import plain, understood
from .server import PATIENCE_S, Server, running

JS = Path(__file__).parents[1] / "web" / "js"
SCRIPT = {4.0: "what are your opening hours", 14.0: "where is my order"}
HOURS = ("We are open from nine in the morning until five.", "On Sundays we are closed.")
ORDER = "Order 4567 is on its way."
LOCATION = "You are in Oslo."
OWN_PAGE = ("--disable-features=LocalNetworkAccessChecks",)
"""A page that Playwright makes up counts as one of the public internet, which may not open a local WebSocket."""
TOKEN = "a token for the tests"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client and what it needs, in one file."""
    builder = JS / "node_modules" / ".bin" / "esbuild"
    if not builder.exists():
        pytest.fail("the JavaScript clients are not installed: `make js` installs them, and Node.js with them")
    out = tmp_path_factory.mktemp("bundle") / "client.js"
    source = JS / "pipecat" / "client.js"
    subprocess.run([builder, source, "--bundle", f"--outfile={out}", "--log-level=error"], check=True)
    return out


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the agent of `pipecat.py`."""
    with running(tmp_path_factory.mktemp("pipecat"), "tests.browser.pipecat:make_session", token=TOKEN) as server:
        yield server


class Client:
    """Pipecat's client in a tab."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    async def do(self, expression: str, argument: Any = None) -> Any:
        """Let the page do something."""
        return await self.tab.page.evaluate(expression, argument)

    async def told(self, event: str) -> list[Any]:
        """The data of all events of a name, up to now."""
        return [entry["data"] for entry in await self.do("call.events") if entry["event"] == event]

    async def until(self, event: str, expected: str = "") -> Any:
        """Wait for an event whose data contain a text."""
        js = "([name, text]) => call.events.find(e => e.event === name && JSON.stringify(e.data).includes(text))"
        try:
            found = await self.tab.page.wait_for_function(js, arg=[event, expected], timeout=PATIENCE_S * 1000)
        except TimeoutError as error:
            came = [f"{entry['event']} {entry['data']}" for entry in (await self.do("call.events"))[-30:]]
            raise AssertionError(f"no {event} with {expected!r} has come; the last events: {came}") from error
        return (await found.json_value())["data"]

    async def heard(self, *expected: str) -> list[str]:
        """Which of these sentences were played."""
        sounds = await self.tab.sounds("track") or await self.tab.sounds("played")
        return understood(together(sounds), expected)


def together(sounds: list[Sound]) -> Sound:
    """The audio of several players at the same time (the WebSocket transport has many, each short)."""
    rate, block = sounds[0].rate, sounds[0].block
    starts = [int((sound.times_ms[0] / 1000) * rate) - block for sound in sounds]
    began = min(starts)
    mixed = np.zeros(max(s - began + len(sound.samples) for s, sound in zip(starts, sounds, strict=True)), np.int32)
    for start, sound in zip(starts, sounds, strict=True):
        mixed[start - began : start - began + len(sound.samples)] += sound.samples
    whole = mixed[: len(mixed) // block * block].clip(-32768, 32767).astype(np.int16)
    times = (began + block * np.arange(1, len(whole) // block + 1)) / rate * 1000
    return Sound(rate, whole, times)


@asynccontextmanager
async def calling(chromium: str, server: Server, bundle: Path, kind: str, microphone: Path) -> AsyncIterator[Client]:
    async with opened(chromium, "about:blank", microphone=microphone, arguments=OWN_PAGE) as tab:
        page, address = tab.page, f"{server.url}/pipecat-client"
        await page.route(address, lambda route: route.fulfill(body="<!doctype html><title>Pipecat</title>"))
        await page.route(f"{server.url}/favicon.ico", lambda route: route.fulfill(status=204))
        await page.goto(address)
        await page.add_script_tag(path=bundle)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        client = Client(tab)
        ready = await client.do("given => pipecat(...given)", [kind, f"{server.url}/start", headers])
        assert ready["version"] == "2.2.0"
        assert ready["about"]["library"] == "duologue"
        yield client


@pytest.mark.real_clock
@pytest.mark.parametrize("kind", ["webrtc", "websocket"])
async def test_the_stock_client_calls(
    chromium: str, answering: Server, bundle: Path, tmp_path: Path, kind: str
) -> None:
    wav = write_microphone(tmp_path / "microphone.wav", SCRIPT)
    async with calling(chromium, answering, bundle, kind, wav) as client:
        assert await client.do("call.client.state") == "ready"
        assert await client.until("serverMessage") == {"welcome": kind}

        # It is understood, and hears the answer.
        await client.until("userStartedSpeaking")
        await client.until("userStoppedSpeaking")
        said = await client.until("userTranscript", '"final":true')
        assert said["text"] == SCRIPT[4.0]
        await client.until("botStartedSpeaking")
        await client.until("botOutput", '"spoken_status":"completed"')
        await client.until("botStoppedSpeaking")
        outputs = await client.told("botOutput")
        assert [output["text"] for output in outputs if output["spoken_status"] == "completed"] == list(HOURS)
        assert {output["spoken_status"] for output in outputs} == {"new", "in-progress", "completed"}
        assert "".join(text["text"] for text in await client.told("botLlmText")) == " ".join(HOURS)

        # A function call.
        await client.until("llmFunctionCallInProgress", "get_order")
        stopped = await client.until("llmFunctionCallStopped", "get_order")
        assert stopped["cancelled"] is False
        await client.until("botOutput", f'"accumulated_text":"{ORDER}"')
        await client.until("metrics", "tokens")

        # Text, and a function of the client's. After a pause, so that the recording has two utterances.
        await anyio.sleep(1)
        await client.do("call.client.sendText('where am I')")
        assert (await client.until("userLlmText", "where am I"))["text"] == "where am I"
        await client.until("botOutput", '"spoken_status":"completed","spoken_progress":{"accumulated_text":"You are')
        ran = await client.told("ranInTheClient")
        assert ran == [{"exact": "true"}]

        # The application's messages, both ways.
        answer = await client.do("call.client.sendClientRequest('who am I', {n: 1})")
        assert answer == {"connection": kind, "given": {"n": 1}}
        refused = await client.do("call.client.sendClientRequest('nothing').catch(e => e.data.error)")
        assert "'nothing'" in refused

        await anyio.sleep(0.5)  # what is on its way is played
        heard = await client.heard(" ".join(HOURS), LOCATION)
        assert plain(" ".join(HOURS)) in heard
        assert plain(LOCATION) in heard
        assert len(await client.told("messageError")) == 1
        assert client.tab.errors == []
        await client.do("call.client.disconnect()")
        assert await client.do("call.client.state") == "disconnected"


@pytest.mark.real_clock
@pytest.mark.parametrize("kind", ["webrtc", "websocket"])
async def test_the_stock_client_interrupts_and_ends_the_call(
    chromium: str, answering: Server, bundle: Path, tmp_path: Path, kind: str
) -> None:
    wav = write_microphone(tmp_path / "microphone.wav", {4.0: SCRIPT[4.0]})
    async with calling(chromium, answering, bundle, kind, wav) as client:
        await client.until("botOutput", '"spoken_status":"in-progress"')
        await client.do("call.client.sendText('goodbye')")
        await client.until("botOutput", '"accumulated_text":"Goodbye."')
        outputs = await client.told("botOutput")
        assert [o["text"] for o in outputs if o["spoken_status"] == "completed"] == ["Goodbye."]

        await client.do("call.client.disconnectBot()")
        assert (await client.until("serverMessage", "duologue.ended"))["reason"] == "client disconnected the agent"
        await client.until("disconnected")
