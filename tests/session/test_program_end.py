"""`sys.exit()` in the application's code of one call: that call may end, the program and its other calls go on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from duologue import Cascade, Ear, MemoryTransport, Pipeline, Processor, Session, Tools, handles
from duologue.frames import BotText, ErrorRaised, Transcribed, UserText, UserTranscript
from duologue.testing import Call, MockLLM, MockSTT, MockTTS


def leaves(*args: Any) -> Any:
    sys.exit(3)


async def leaves_later(*args: Any) -> None:
    sys.exit(3)


class Leaver(Processor):
    @handles(UserText)
    async def text(self, frame: UserText) -> None:
        if frame.text == "leave":
            sys.exit(3)
        await self.push(frame)


PLACES: dict[str, Callable[[Session], Any]] = {
    "a listener of signals": lambda session: session.on(Transcribed, leaves),
    "an async listener of signals": lambda session: session.on(Transcribed, leaves_later),
    "a hook on transcripts": lambda session: session.intercept(UserTranscript, leaves),
    "an async hook on transcripts": lambda session: session.intercept(UserTranscript, leaves_later),
    "a watcher of the feed": lambda session: session.feed.on(leaves),
    "a listener of the log": lambda session: session.conversation.listen(leaves),
    "a listener of the caller's audio": lambda session: session.audio.said.add(leaves),
    "a function at the end": lambda session: session.on_ended(leaves),
    "an async function at the end": lambda session: session.on_ended(leaves_later),
}


def session_of(*processors: Processor, **options: Any) -> tuple[Session, MemoryTransport]:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(["hello"]), MockLLM(["Good day.", "Still here."]), MockTTS())
    parts = [transport.input(), Ear(), *processors, engine, Tools(), transport.output()]
    return Session(Pipeline(parts), **options), transport


@pytest.mark.parametrize("place", PLACES)
async def test_the_call_goes_on(place: str) -> None:
    session, transport = session_of()
    PLACES[place](session)
    async with Call(session, transport, may_fail=True) as call:
        await call.asks("hello")
        await call.types("are you there")
    assert call.log[-1].endswith("Still here.")
    if "end" not in place:
        assert any("SystemExit(3)" in error.message for error in call.errors)


async def test_a_sentence_that_was_not_checked_is_not_spoken() -> None:
    session, transport = session_of()
    session.intercept(BotText, leaves)
    async with Call(session, transport, may_fail=True) as call:
        await call.types("hello")
    assert not [line for line in call.log if "Good day" in line]
    assert any("SystemExit(3)" in error.message for error in call.errors)


async def test_a_processor() -> None:
    session, transport = session_of(Leaver())
    async with Call(session, transport, may_fail=True) as call:
        await session.send(UserText(text="leave"))
        await call.types("are you there")
    assert call.log[-1].endswith("Good day.")


async def test_the_policy_of_errors_and_a_task() -> None:
    session, transport = session_of(on_error=leaves)
    async with Call(session, transport, may_fail=True) as call:
        session.start_task(session.pipeline, leaves_later())
        await call.types("are you there")
    assert call.log[-1].endswith("Good day.")
    assert [error.message for error in call.came(ErrorRaised)] == [
        "SystemExit(3) does not end the program: session.end() ends the call"
    ]
