"""`Callbacks`: a call as methods under the names of S2's operators, sync or async, and harmless when they fail."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from duologue.frames import ErrorRaised
from duologue.session.callbacks import Callbacks
from tests.session.test_modes import ModeCall

pytestmark = pytest.mark.virtual_clock


class Keeps(Callbacks):
    def __init__(self) -> None:
        self.came: list[tuple[Any, ...]] = []
        self.bytes = {"in": 0, "out": 0}

    def onSessionStart(self, session_id: str) -> None:
        self.came.append(("start",))

    def onSessionEnd(self, reason: str) -> None:
        self.came.append(("end", reason))

    def onStatus(self, status: str, reason: str) -> None:
        self.came.append(("status", status))

    async def onUserText(self, text: str, final: bool) -> None:
        await anyio.lowlevel.checkpoint()
        if final:
            self.came.append(("user", text))

    def onAssistantText(self, text: str, final: bool) -> None:
        if final:
            self.came.append(("assistant", text.strip()))

    def onUserSpeechStarted(self, at: float) -> None:
        self.came.append(("speaks", round(at, 1)))

    def onUserSpeechEnded(self, at: float) -> None:
        self.came.append(("silent", round(at, 1)))

    def onAudioIn(self, pcm: bytes, sample_rate: int, at: float) -> None:
        self.bytes["in"] += len(pcm)

    def onAudioOut(self, pcm: bytes, sample_rate: int, at: float) -> None:
        self.bytes["out"] += len(pcm)


async def test_a_call_becomes_calls_of_methods() -> None:
    keeps = Keeps()
    call = ModeCall("push_to_talk")
    stop = keeps.attach(call.session)
    async with call:
        await call.says(1.0)
        call.session.talk(True)
        await call.says(1.0)
        call.session.talk(False)
        await call.answered()
    assert keeps.came == [
        ("status", "connecting"),
        ("status", "armed"),
        ("start",),
        ("speaks", 1.0),
        ("status", "active"),
        ("silent", 2.0),
        ("status", "armed"),
        ("user", "one"),
        ("assistant", "Very well."),
        ("status", "ending"),
        ("end", "ended"),
    ]
    assert keeps.bytes["in"] == 32_000
    assert keeps.bytes["out"] > 0
    stop()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_callback_that_fails_is_reported_and_harms_nothing(asynchronous: bool) -> None:
    class Fails(Keeps):
        if asynchronous:

            async def onUserText(self, text: str, final: bool) -> None:
                raise ValueError("mine")
        else:

            def onUserText(self, text: str, final: bool) -> None:  # type: ignore[misc]
                raise ValueError("mine")

    keeps = Fails()
    call = ModeCall("continuous")
    call.may_fail = True
    keeps.attach(call.session)
    async with call:
        await call.types("hello")
        await call.answered()
    assert ("assistant", "Very well.") in keeps.came
    errors = {signal.processor for _, signal in call.signals if isinstance(signal, ErrorRaised)}
    assert errors == {"onUserText"}
