"""The README's claims hold: its code runs, and the names in it exist."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

import duologue
import duologue.frames
from benchmarks._call import speech
from duologue.cli.app import app
from duologue.frames import BotAudio
from duologue.session import Session
from duologue.testing.tones import tone
from tests.transports.test_local import Card

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
AGENT, PROCESSOR = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


async def test_the_voice_agent_answers_at_the_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    code, last = AGENT.rstrip().rsplit("\n", 1)
    assert last == "print(run(session))"
    names: dict[str, Any] = {}
    exec(code, names)
    session: Session = names["session"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(card.run)
        tasks.start_soon(session.run)
        card.spoken = bytes(16_000) + speech("how are you") + bytes(64_000)
        with anyio.fail_after(60):
            while not (
                card.audible and any(card.audible) and session.ledger.unsettled == () and len(session.conversation) == 2
            ):
                await asyncio.sleep(0.1)
        session.cancel()
        tasks.cancel_scope.cancel()
    assert any(card.audible)
    assert [(item.role, item.text) for item in session.conversation] == [
        ("caller", "how are you"),
        ("agent", "Very well, thanks."),
    ]


async def test_the_processor_lowers_the_voice() -> None:
    names = vars(duologue.frames) | {name: getattr(duologue, name) for name in ("Processor", "handles")}
    exec(PROCESSOR, names)
    made: list[BotAudio] = []
    softer = names["Softer"]()

    class Ear(duologue.Processor):
        @duologue.handles(BotAudio)
        async def hear(self, frame: BotAudio) -> None:
            made.append(frame)

    session = Session(duologue.Pipeline([softer, Ear()]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        await anyio.sleep(0.1)
        frame = BotAudio(turn=0, response_id="r", audio=tone(0.1, 16_000, hz=440), sample_rate=16_000)
        await session.send(frame)
        session.cancel()
    assert abs(made[0].samples).max() == pytest.approx(abs(frame.samples).max() / 2, abs=1)


def test_what_it_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_it_names_every_example() -> None:
    named = set(re.findall(r"`(?:python -m )?examples\.(\w+)`", README))
    assert named == {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__", "offline"}


def test_it_names_every_command_and_options_that_exist() -> None:
    runner = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})
    rows = dict(re.findall(r"^\| `duologue ([\w-]+)` \| (.*) \|$", README, re.MULTILINE))
    assert set(rows) == {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    for command, text in rows.items():
        shown = re.sub(r"\x1b\[[0-9;]*m", "", runner.invoke(app, [command, "--help"]).output)
        assert [option for option in re.findall(r"`(--[\w-]+)`", text) if option not in shown] == []


def test_its_make_targets_exist() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= set(targets)
