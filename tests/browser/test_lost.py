"""A browser that dies, and one that no longer answers: the server notices, ends the call, and nothing is left."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil
import pytest

from duologue.web import WebLimits

from .browser import Tab, opened
from .page import PageCall
from .server import Server

NOTICED_S = 10.0


async def processes_of(tab: Tab) -> list[psutil.Process]:
    """The browser's processes, its own last."""
    browser = tab.context.browser
    assert browser is not None
    devtools = await browser.new_browser_cdp_session()
    found = (await devtools.send("SystemInfo.getProcessInfo"))["processInfo"]
    [main] = [psutil.Process(process["id"]) for process in found if process["type"] == "browser"]
    return [*main.children(recursive=True), main]


@pytest.mark.real_clock
@pytest.mark.parametrize(
    ("transport", "fate", "reason"),
    [
        ("webrtc", signal.SIGKILL, "client lost"),
        ("websocket", signal.SIGKILL, "client disconnected"),
        ("websocket", signal.SIGSTOP, "client disconnected"),  # its socket stays open, and half of it is dead
    ],
)
async def test_a_lost_browser(chromium: str, server: Server, transport: str, fate: signal.Signals, reason: str) -> None:
    async with opened(chromium, f"{server.url}/?transport={transport}") as tab:
        call = PageCall(tab)
        await call.talk()
        session = await call.session()
        processes = await processes_of(tab)
        lost_at = time.time()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(fate)
        try:
            noticed = await server.until("client lost" if transport == "webrtc" else "client gone", session)
            ended = await server.until("ended", session)
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    assert noticed["time"] - lost_at <= NOTICED_S
    assert ended["reason"] == reason
    # A WebRTC client is waited for, in case it comes back.
    waited_s = WebLimits().reconnect_s if transport == "webrtc" else 0
    assert ended["time"] - lost_at <= NOTICED_S + waited_s
    assert (await server.until("left", session))["tasks"] == []
