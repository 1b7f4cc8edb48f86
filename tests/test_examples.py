"""Every example runs, on the virtual clock, and does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

import examples.barge_in
import examples.handoff
import examples.hello
import examples.own_processor
import examples.tool
from duologue import Session

EXAMPLES = sorted(p for p in Path(examples.hello.__file__).parent.glob("*.py") if p.name != "__init__.py")


def said(session: Session, role: str) -> list[str]:
    return [item.text for item in session.conversation if item.kind == "message" and item.role == role]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_is_under_sixty_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 60


async def test_hello() -> None:
    session = await examples.hello.main()
    assert said(session, "caller") == ["hello", "what can you do"]
    assert said(session, "agent") == ["Hello! Nice to hear you.", "I can hear you, and I can speak."]


async def test_tool() -> None:
    session = await examples.tool.main()
    assert said(session, "agent") == [
        "In which city?",
        "It is 17 degrees in london.",
        "It is 21 degrees in paris.",
    ]
    results = [item.data for item in session.conversation if item.kind == "tool_result"]
    assert results == [{"temperature": 17}, {"temperature": 21}]


async def test_handoff() -> None:
    session = await examples.handoff.main()
    talkers = [item.agent for item in session.conversation if item.kind == "message" and item.role == "agent"]
    assert talkers == ["Reception", "Billing", "Billing"]
    assert said(session, "agent")[-1] == "You owe forty two dollars."


async def test_own_processor(capsys: pytest.CaptureFixture[str]) -> None:
    session = await examples.own_processor.main()
    assert said(session, "agent") == ["Hello! Is this quiet enough?"]
    assert "softened" in capsys.readouterr().out


async def test_barge_in() -> None:
    murmured, interrupted = await examples.barge_in.main()
    (story,) = [item for item in murmured.conversation if item.role == "agent"]
    assert story.status == "complete"
    assert story.text.endswith("the fish of the sea.")
    cut, reply = [item for item in interrupted.conversation if item.role == "agent"]
    assert cut.status == "interrupted"
    assert not cut.text.endswith("the fish of the sea.")
    assert reply.text == "All right, I stop."
