"""A call can be followed in the log, without the words of either side unless they are asked for."""

from __future__ import annotations

import logging

import pytest

from duologue import Agent, Cascade, Endpointing, Handoff, Pipeline, Session, Tool, Tools, Vad
from duologue.services.context import ToolRequest
from duologue.testing import Call, MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport


async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a secret"


async def a_call(log_words: bool) -> None:
    line = MemoryTransport()
    llm = MockLLM([ToolRequest(call_id="c1", name="look_up", arguments={"word": "plum"}), "It is a plum."])
    pipeline = [
        line.input(),
        Vad(),
        Endpointing(),
        Cascade(MockSTT(["What is it?"]), llm, MockTTS()),
        Handoff([Agent(name="Ann", tools=[Tool(look_up)])]),
        Tools(),
        line.output(),
    ]
    async with Call(Session(Pipeline(pipeline), id="call-7", log_words=log_words), line) as call:
        await call.asks("What is it?")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "duologue.call"]


async def test_info_has_the_begin_and_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "duologue"):
        await a_call(log_words=False)
    first, *rest, last = lines(caplog)
    assert first.startswith("session call-7: begins: Pipeline[")
    assert "ended after" in last
    assert "hung up" in last
    assert not any("tool" in line for line in rest)


async def test_debug_has_each_turn_and_tool_without_words(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "duologue"):
        await a_call(log_words=False)
    text = "\n".join(lines(caplog))
    for line in (
        "transcript, 11 characters",
        "tool look_up (c1) called",
        "tool look_up (c1) answered after",
        "answered after",
    ):
        assert line in text
    assert "first_token" in text  # the stages of a turn
    for word in ("What is it", "plum", "secret"):
        assert word not in text


async def test_words_are_logged_if_they_are_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "duologue"):
        await a_call(log_words=True)
    text = "\n".join(lines(caplog))
    assert "What is it?" in text
    assert "plum is a secret" in text


async def test_the_log_has_no_call_below_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duologue"):
        await a_call(log_words=False)
    assert lines(caplog) == []
