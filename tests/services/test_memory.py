"""Memory: what an agent remembers of a caller from one call to the next."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from duologue import Cascade, Memory, Session
from duologue.errors import ConfigurationError
from duologue.services.memory import MAX_NOTE, MAX_NOTES, MAX_TOLD, ModelNotes, SqliteMemory
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import Story, asked, story


async def call_of(memory: Memory, *said: str, may_fail: bool = False) -> tuple[Story, MockLLM]:
    llm = MockLLM(["Hello."])
    engine = Cascade(MockSTT(said or ["hello"]), llm, MockTTS(seconds_per_sentence=0.5))
    async with story(engine=engine, before=(memory,), may_fail=may_fail) as call:
        await call.says()
        await call.waits_until(3)
    return call, llm


async def test_the_next_call_knows_what_the_caller_said(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    first, _ = await call_of(Memory(path, caller="+44 20"), "my name is Ann")
    assert first.log == ["caller: my name is Ann", "agent: Hello."]
    second, llm = await call_of(Memory(path, caller="+44 20"), "hello again")
    assert second.log[0] == "memory: From earlier calls of this caller:\nmy name is Ann"
    assert "my name is Ann" in asked(llm.requests[0])[0]
    other, _ = await call_of(Memory(path, caller="+44 21"))
    assert other.log[0] == "caller: hello"
    third = Memory(path, caller="+44 20")
    await call_of(third)
    assert third.remembered == ("my name is Ann", "hello again")  # what was told is not what the caller said


async def test_a_function_makes_the_note_while_the_call_ends(tmp_path: Path) -> None:
    async def notes(session: Session) -> str:
        await anyio.sleep(2)
        return f"{len(session.conversation.rows())} rows"

    path = tmp_path / "memory.db"
    await call_of(Memory(path, caller=lambda session: "ann", notes=notes))
    assert await SqliteMemory(path).load("ann") == ["2 rows"]


async def test_a_model_makes_the_note(tmp_path: Path) -> None:
    model = MockLLM(["Ann wants a table.", "NOTHING."])
    path = tmp_path / "memory.db"
    await call_of(Memory(path, caller="ann", notes=ModelNotes(model)), "my name is Ann")
    assert await SqliteMemory(path).load("ann") == ["Ann wants a table."]
    assert model.requests[0].messages[0].text == "caller: my name is Ann\nagent: Hello."
    await call_of(Memory(path, caller="bob", notes=ModelNotes(MockLLM(["NOTHING."]))))
    assert await SqliteMemory(path).load("bob") == []


async def test_a_note_that_takes_too_long_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def notes(session: Session) -> str:
        await anyio.sleep(600)
        return "late"

    path = tmp_path / "memory.db"
    call, _ = await call_of(Memory(path, caller="ann", notes=notes))
    assert call.session.now() < 30
    assert await SqliteMemory(path).load("ann") == []


@pytest.mark.parametrize("caller", ["../../etc/passwd", "a'; DROP TABLE notes; --", "日本", "x" * 1000, "a\x00b"])
async def test_any_id_is_only_an_id(tmp_path: Path, caller: str) -> None:
    path = tmp_path / "memory.db"
    await call_of(Memory(path, caller=caller), "hi")
    memory = Memory(path, caller=caller)
    await call_of(memory)
    assert memory.remembered == ("hi",)
    assert set(os.listdir(tmp_path)) == {"memory.db"}


async def test_without_an_id_nothing_is_kept(tmp_path: Path) -> None:
    await call_of(Memory(tmp_path / "memory.db", caller=""))
    assert os.listdir(tmp_path) == []


async def test_notes_are_bounded(tmp_path: Path) -> None:
    store = SqliteMemory(tmp_path / "memory.db")
    for number in range(MAX_NOTES + 5):
        await store.save("ann", f"{number} " + "x" * 1000)
    kept = await store.load("ann")
    assert len(kept) == MAX_NOTES
    assert kept[-1].startswith(f"{MAX_NOTES + 4} ")
    call, _ = await call_of(Memory(store, caller="ann", notes=lambda session: "y" * 10_000))
    told = next(item.text for item in call.session.conversation if item.author == "memory")
    assert len(told) <= MAX_TOLD + 100
    assert f"{MAX_NOTES + 4} x" in told
    assert (await store.load("ann"))[-1] == "y" * MAX_NOTE
    await store.forget("ann")
    assert await store.load("ann") == []


async def test_calls_of_one_caller_at_once_lose_no_note(tmp_path: Path) -> None:
    store = SqliteMemory(tmp_path / "memory.db")
    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(store.save, "ann", f"note {number}")
    assert sorted(await store.load("ann")) == sorted(f"note {number}" for number in range(12))


class Broken:
    async def load(self, caller: str) -> Sequence[str]:
        raise OSError("the disk is gone")

    async def save(self, caller: str, note: str) -> None:
        raise OSError("the disk is full")


async def test_a_store_that_fails_is_reported_and_the_call_goes_on(tmp_path: Path) -> None:
    call, _ = await call_of(Memory(Broken(), caller="ann"), may_fail=True)
    assert call.log == ["caller: hello", "agent: Hello."]
    assert [error.message for error in call.errors] == ["the disk is gone", "the disk is full"]
    path = tmp_path / "memory.db"
    path.write_bytes(b"this is not a database" * 100)
    call, _ = await call_of(Memory(path, caller="ann"), may_fail=True)
    assert call.log == ["caller: hello", "agent: Hello."]
    assert path.read_bytes().startswith(b"this is not")


class Given:
    def __init__(self, notes: Any) -> None:
        self.notes = notes

    async def load(self, caller: str) -> Any:
        if self.notes is None:
            await anyio.sleep_forever()
        return self.notes

    async def save(self, caller: str, note: str) -> None:
        pass


@pytest.mark.parametrize(
    ("notes", "why"),
    [(None, "did not come within 2 s"), ([1, 2], "returned [1, 2]"), ("ann", "returned 'ann'"), (7, "not iterable")],
)
async def test_a_store_that_hangs_or_returns_rubbish_is_reported_and_the_call_goes_on(notes: Any, why: str) -> None:
    call, _ = await call_of(Memory(Given(notes), caller="ann"), may_fail=True)
    assert call.log == ["caller: hello", "agent: Hello."]
    assert [why in error.message for error in call.errors] == [True]


async def test_an_id_may_be_looked_up(tmp_path: Path) -> None:
    async def caller(session: Session) -> str:
        await anyio.sleep(0.5)
        return "ann"

    path = tmp_path / "memory.db"
    await call_of(Memory(path, caller=caller))
    assert await SqliteMemory(path).load("ann") == ["hello"]


async def test_long_ids_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    for last in ("1", "2", "1"):
        memory = Memory(path, caller="a" * 300 + last)
        await call_of(memory, f"I am {last}")
    assert memory.remembered == ("I am 1",)


async def test_an_id_that_is_not_a_text_is_reported(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.db", caller=lambda session: 7)  # type: ignore[arg-type, return-value]
    call, _ = await call_of(memory, may_fail=True)
    assert call.log == ["caller: hello", "agent: Hello."]
    assert [error.message for error in call.errors] == ["the caller's id is 7: it is a text"]


async def test_nobody_is_known_by_none(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.db", caller=lambda session: None)  # type: ignore[arg-type, return-value]
    call, _ = await call_of(memory)
    assert os.listdir(tmp_path) == []
    assert call.errors == []


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot keep notes"):
        Memory(7, caller="ann")  # type: ignore[arg-type]
    wrong: Any = "notes"
    with pytest.raises(ConfigurationError, match="cannot make notes"):
        Memory("memory.db", caller="ann", notes=wrong)


def test_a_file_of_sqlite_is_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    anyio.run(SqliteMemory(path).save, "ann", "likes tea")
    rows = sqlite3.connect(path).execute("SELECT caller, note FROM notes").fetchall()
    assert rows == [("ann", "likes tea")]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    anyio.run(SqliteMemory(path).save, "ann", "likes tea")
    assert path.stat().st_mode & 0o777 == 0o600
