"""What the application and the caller do enters a replay again."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from duologue import Agent, Cascade, Ear, Pipeline, Session, Tools
from duologue.agents.tool_context import ToolContext
from duologue.errors import ToolError
from duologue.frames import BotText, Dtmf, ToolCall, UserImage, UserText, UserTranscript
from duologue.services.llm import ToolRequest
from duologue.session.boundary import entering_methods
from duologue.testing import Call, MockLLM, MockSTT, MockTTS, Replay, clock, replay
from duologue.trace import Trace, read
from duologue.transports.memory import MemoryTransport
from tests.images.samples import quarters, saved

Act = Callable[[Call], Awaitable[None]]


async def fails() -> str:
    """Fail."""
    await anyio.sleep(0.1)
    raise ToolError("out of order")


async def reports(context: ToolContext) -> str:
    """Report progress."""
    context.progress("half of it")
    await anyio.sleep(1.5)
    context.respond = True
    return "all of it"


def blocks() -> str:
    """Work in a thread."""
    return "blocked"


async def endless() -> str:
    """Never end by itself, and take its time to stop."""
    try:
        await anyio.sleep(100.0)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
    return ""


def make_session(transport: Any, *, tool: str = "", hooks: bool = False, **options: Any) -> Session:
    """Make the session of a call: an agent with tools, one of which its model calls."""
    answers: list[Any] = ["From nine to five, every day but Sunday.", "You are welcome.", "Goodbye."]
    if tool:
        answers.insert(0, ToolRequest(call_id="1", name=tool, arguments={}))
    engine = Cascade(MockSTT(["when are you open", "thank you"]), MockLLM(answers), MockTTS())
    agent = Agent(name="Desk", instructions="You answer.", tools=(fails, reports, blocks, endless))
    pipeline = Pipeline([transport.input(), Ear(), engine, Tools(), transport.output()])
    session = Session(pipeline, agent=agent, **options)
    if hooks:
        session.intercept(UserTranscript, _polite)
        session.intercept(BotText, lambda text: None if "Sunday" in text.text else text)
        session.intercept(ToolCall, _slow)
    return session


async def _polite(frame: UserTranscript) -> UserTranscript:
    await anyio.sleep(0.2)
    return UserTranscript(text=f"please, {frame.text}", final=frame.final)


async def _slow(call: ToolCall) -> ToolCall:
    await anyio.sleep(3.0)  # longer than a hook may take
    return call


def again(folder: Path, act: Act, **options: Any) -> Replay:
    """Record a call in which `act` happens, and replay it."""
    trace = Trace(folder, replay=True)
    kept = {key: options.pop(key) for key in ("tool", "hooks") if key in options}

    async def main() -> None:
        transport = MemoryTransport()
        session = make_session(transport, trace=trace, **kept, **options)
        async with Call(session, transport, may_fail=True) as call:
            await call.says("when are you open")
            await act(call)
            await call.settles()

    clock.run(main)
    path = folder / f"{trace.call}.jsonl"
    return replay(path, lambda transport: make_session(transport, **kept, **options), folder=folder / "again")


async def interrupts(call: Call) -> None:
    await call.agent_begins()
    await call.waits(0.7)
    call.session.interrupt("the desk's button")


async def types(call: Call) -> None:
    await call.session.send(UserText(text="and on Sundays?"))
    call.transport.send_frame(Dtmf(digit="7"))


async def plays(call: Call) -> None:
    await call.agent_begins()
    playback = call.session.playback
    playback.volume = 0.25
    playback.pause()
    await call.waits(1.0)
    playback.resume()
    await call.waits(0.5)
    playback.stop()


async def notes(call: Call) -> None:
    item = call.session.conversation.add("note", "system", text="The caller is a regular.")
    call.session.conversation.update(item.id, text="The caller is new.")
    call.session.expect("digits")


async def mutes(call: Call) -> None:
    call.session.set_access("muted", by="desk")
    await call.waits(0.5)
    call.session.set_access("active", by="desk")


async def withdraws(call: Call) -> None:
    call.session.audio.consent.withdraw(by="button")
    await call.says("thank you")
    call.session.audio.consent.give(by="button")


async def reports_an_error(call: Call) -> None:
    call.session.report(ToolError("the printer is out of paper"), "printer")


async def hangs_up(call: Call) -> None:
    await call.agent_begins()
    call.transport.hang_up()


async def ends(call: Call) -> None:
    await call.session.end("the desk closes")


async def cancels(call: Call) -> None:
    await call.agent_begins()
    call.session.cancel("the desk closes now")


@pytest.mark.parametrize(
    "act",
    [interrupts, types, plays, notes, mutes, reports_an_error, hangs_up, ends, cancels],
    ids=lambda act: act.__name__,
)
def test_what_the_application_does_enters_again(act: Act, tmp_path: Path) -> None:
    replayed = again(tmp_path, act)
    assert replayed.identical, (replayed.first_difference, replayed.differences)


def test_audio_without_consent_is_not_in_the_file_and_the_replay_says_so(tmp_path: Path) -> None:
    replayed = again(tmp_path, withdraws)
    assert replayed.missing
    assert replayed.missing[0].endswith("s of the caller's audio, without their consent: silence instead")
    kept = sum(piece[3] for record in read(replayed.recorded) if record.source == "audio"
               for piece in record.private["pieces"])  # fmt: skip
    fed = sum(piece[2] for record in read(replayed.recorded) if record.source == "audio"
              for piece in record.private["pieces"])  # fmt: skip
    assert kept < fed


async def waits(call: Call) -> None:
    await call.waits(0.1)


@pytest.mark.parametrize("tool", ["fails", "reports", "blocks"])
def test_what_tools_do_comes_from_the_file(tool: str, tmp_path: Path) -> None:
    replayed = again(tmp_path, waits, tool=tool)
    assert replayed.identical, (replayed.first_difference, replayed.differences)


async def stops_the_tool(call: Call) -> None:
    await call.waits(2.0)
    call.session.interrupt("the caller cannot wait")
    await call.waits(1.0)


def test_a_tool_that_is_cancelled_takes_as_long_to_stop(tmp_path: Path) -> None:
    replayed = again(tmp_path, stops_the_tool, tool="endless")
    assert replayed.identical, (replayed.first_difference, replayed.differences)


@pytest.mark.parametrize("tool", ["", "blocks"])
def test_hooks_answer_from_the_file(tool: str, tmp_path: Path) -> None:
    replayed = again(tmp_path, waits, tool=tool, hooks=True)
    assert replayed.identical, (replayed.first_difference, replayed.differences)


async def talks(call: Call) -> None:
    call.session.talk(True)
    await call.says("thank you")
    call.session.talk(False)


def test_the_button_of_push_to_talk(tmp_path: Path) -> None:
    replayed = again(tmp_path, talks, mode="push_to_talk")
    assert replayed.identical, (replayed.first_difference, replayed.differences)


async def arms(call: Call) -> None:
    await call.settles()
    await call.session.arm()
    await call.says("thank you")


def test_a_call_of_one_turn_is_armed_again(tmp_path: Path) -> None:
    replayed = again(tmp_path, arms, mode="one_turn")
    assert replayed.identical, (replayed.first_difference, replayed.differences)


WATCHING = {"intercept", "observe", "on", "on_ended", "on_fence", "run", "start_task"}
"""The methods of a session that only set something up, and are called again by what makes the session."""


def test_every_method_by_which_the_application_acts_enters_through_the_boundary() -> None:
    methods = {name for name, _ in inspect.getmembers(Session, inspect.isfunction) if not name.startswith("_")}
    assert methods - WATCHING == set(entering_methods(Session))


def test_an_image_from_the_web_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def fetch(url: str, rules: object) -> tuple[bytes, str]:
        fetched.append(url)
        await anyio.sleep(0.4)
        return saved(quarters(), "PNG"), "image/png"

    async def shows(call: Call) -> None:
        call.transport.send_frame(UserImage(url="https://example.com/cat.png"))
        await call.waits(1.0)

    monkeypatch.setattr("duologue.services.pictures.fetch", fetch)
    replayed = again(tmp_path, shows)
    assert replayed.identical, (replayed.first_difference, replayed.differences)
    assert fetched == ["https://example.com/cat.png"]
