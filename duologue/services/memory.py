"""`Memory`: the notes on a caller that an agent keeps from one call to the next."""

from __future__ import annotations

import inspect
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ..errors import ConfigurationError, DeadlineExceeded
from ..frames import SessionEnding, SessionStarted, UserText
from ..processors.kernel.host import Host
from ..processors.kernel.lane import Overdue
from ..processors.kernel.tasks import Work
from ..processors.kernel.threads import Pool
from ..processors.processor import Processor, handles
from ..session.boundary import ask_outside
from ..session.session import Session
from .context import Message, Request
from .llm import LLM
from .own_model import OwnModel

AUTHOR = "memory"
"""The author of the notes, in the log and to the model."""
MAX_NOTES = 20
"""Notes that are kept of a caller. Older notes are deleted."""
MAX_NOTE = 2_000
"""The longest note, in characters; a longer one is cut."""
MAX_TOLD = 6_000
"""Characters of notes that a call begins with, the newest first."""
MAX_CALLER = 256
"""The longest id of a caller that is kept, in characters. Of a longer one, the SHA-256 is kept."""
BUSY_S = 5.0
"""Seconds that a write waits for those of other calls."""
LOAD_S = 2.0
"""Seconds that the beginning of a call waits for the notes."""
FILES = Pool("memory", 8)
"""Threads for files of notes: a file that is locked, or a disk that hangs, holds up other notes at most."""

Notes: TypeAlias = Callable[[Session], str | Awaitable[str | None] | None]
"""Returns the note on a call, "" or None for none."""


@runtime_checkable
class MemoryStore(Protocol):
    """A store of notes."""

    async def load(self, caller: str) -> Sequence[str]:
        """Return the notes on a caller, oldest first."""

    async def save(self, caller: str, note: str) -> None:
        """Add a note on a caller."""


class SqliteMemory:
    """Notes in a SQLite file. Many calls, and several processes, may use it at once: each note is one transaction."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    async def load(self, caller: str) -> Sequence[str]:
        """Return the notes on a caller, oldest first."""
        return await FILES.run(self._load, caller, label="load")

    async def save(self, caller: str, note: str) -> None:
        """Add a note on a caller, and delete those beyond the newest `MAX_NOTES`."""
        await FILES.run(self._save, caller, note, label="save")

    async def forget(self, caller: str) -> None:
        """Delete all notes on a caller."""
        await FILES.run(self._run, "DELETE FROM notes WHERE caller = ?", (caller,), label="forget")

    def _open(self) -> sqlite3.Connection:
        if not self._path.exists():  # SQLite gives its journal the same mode
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self._path, timeout=BUSY_S)
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, caller TEXT NOT NULL, at REAL, note TEXT)"
            )
            connection.execute("CREATE INDEX IF NOT EXISTS notes_by_caller ON notes (caller, id)")
        return connection

    def _load(self, caller: str) -> list[str]:
        if not self._path.exists():
            return []
        with closing(self._open()) as connection:
            found = connection.execute("SELECT note FROM notes WHERE caller = ? ORDER BY id", (caller,)).fetchall()
        return [str(note) for (note,) in found]

    def _save(self, caller: str, note: str) -> None:
        with closing(self._open()) as connection, connection:
            connection.execute("INSERT INTO notes (caller, at, note) VALUES (?, ?, ?)", (caller, time.time(), note))
            connection.execute(
                "DELETE FROM notes WHERE caller = ? AND id NOT IN"
                " (SELECT id FROM notes WHERE caller = ? ORDER BY id DESC LIMIT ?)",
                (caller, caller, MAX_NOTES),
            )

    def _run(self, statement: str, values: tuple[Any, ...]) -> None:
        with closing(self._open()) as connection, connection:
            connection.execute(statement, values)


def callers_words(session: Session) -> str:
    """Return the caller's messages, one on each line: the default note."""
    said = [item.text for item in session.conversation if item.role == "caller" and item.text and not item.author]
    return "\n".join(said)


NOTE = (
    "You keep notes on the callers of a telephone line. Write what the next agent should know about this caller: name,"
    " preferences, what was agreed, what is open. A few short sentences, names and dates exactly, in the language of"
    " the call. Leave out passwords, card numbers and the like. Answer NOTHING if there is nothing to keep."
)
"""The default instructions for a note."""


class ModelNotes(OwnModel):
    """Notes by a language model: `Memory("memory.db", caller=id, notes=ModelNotes(OpenAILLM("gpt-5.4-nano")))`.

    The model sees the latest `messages` of the call. It belongs to the memory, and has no other place.
    """

    def __init__(self, model: LLM, *, instructions: str = NOTE, messages: int = 100) -> None:
        super().__init__(model)
        if messages < 1:
            raise ConfigurationError(f"messages is {messages!r}: it is at least 1")
        self.instructions, self.messages = instructions, messages

    async def __call__(self, session: Session) -> str:
        """Return a note on the call, "" for none."""
        items = [item for item in session.conversation if item.kind == "message" and item.text]
        call = "\n".join(f"{item.author or item.role}: {item.text}" for item in items[-self.messages :])
        note = await self.ask(
            Request(instructions=self.instructions, messages=(Message(role="user", text=call),)), MAX_NOTE
        )
        return "" if note.strip(".").upper() == "NOTHING" else note


class Memory(Processor):
    """Remembers callers: put it into the pipeline before the engine, `Memory("memory.db", caller=id)`.

    `caller` is the id of the caller, or a function of the session, `def` or `async def`, that returns it; with "" or
    None nothing is remembered. `store` is the path of a SQLite file, or a `MemoryStore`. When the call begins, the
    model receives the notes on the caller, at most `MAX_TOLD` characters, the newest first; the log has them under the
    author "memory". When it ends, `notes(session)`, a `def`, an `async def` or `ModelNotes`, returns the note to keep,
    cut at `MAX_NOTE` characters. By default it is the caller's messages. It runs while everything is still open, within
    `Deadlines.farewell_s`.

    A store that fails, or has not returned the notes within `LOAD_S` seconds, is reported, and the call goes on. A call
    that ends before it has a message leaves no note.
    """

    def __init__(
        self,
        store: str | Path | MemoryStore,
        *,
        caller: str | Callable[[Session], str | Awaitable[str]],
        notes: Notes = callers_words,
    ) -> None:
        if isinstance(store, str | Path):
            store = SqliteMemory(store)
        elif not isinstance(store, MemoryStore):
            raise ConfigurationError(f"{store!r} cannot keep notes: it is a path, or has load and save")
        if not callable(notes):
            raise ConfigurationError(f"{notes!r} cannot make notes: it cannot be called")
        self.store: MemoryStore = store
        self._caller = caller
        self._notes = notes
        self._id = ""
        self.remembered: tuple[str, ...] = ()
        """The notes with which the call began, oldest first."""
        self._stop: Callable[[], None] = lambda: None

    def _join(self, host: Host) -> None:
        super()._join(host)
        if isinstance(self._notes, OwnModel):
            self._notes.join(host)

    async def open(self) -> None:
        """Load the notes on the caller."""
        if isinstance(self._notes, OwnModel):
            await self._notes.model.open()
        self._stop = self.session.on(SessionEnding, self._keep)
        try:
            await Work[None](self, f"{self.name}.load", LOAD_S).run(self._load())
        except Overdue:
            self.session.report(DeadlineExceeded(f"the notes did not come within {LOAD_S:g} s"), self.name)
        except Exception as error:
            self.session.report(error, self.name)

    async def _load(self) -> None:
        found: Any = self._caller(self.session) if callable(self._caller) else self._caller
        if inspect.isawaitable(found):
            found = await found
        if not isinstance(found, str | None):
            raise ConfigurationError(f"the caller's id is {found!r:.60}: it is a text")
        self._id = (found or "").strip()
        if not self._id:
            return
        if len(self._id) > MAX_CALLER:  # cut, two callers could have one id
            self._id = sha256(self._id.encode(errors="surrogatepass")).hexdigest()
        notes = await ask_outside("tool", "memory.load", partial(self.store.load, self._id), self._id)
        if isinstance(notes, str) or not all(isinstance(note, str) for note in notes):
            raise ConfigurationError(f"the store returned {notes!r:.60}: it returns a list of texts")
        self.remembered = tuple(notes)[-MAX_NOTES:]

    async def close(self) -> None:
        """Stop listening."""
        self._stop()
        if isinstance(self._notes, OwnModel):
            await self._notes.model.close()

    @handles(SessionStarted)
    async def started(self, signal: SessionStarted) -> None:
        """Give the model the notes."""
        told, left = [], MAX_TOLD
        for note in reversed(self.remembered):
            if (left := left - len(note)) < 0:
                break
            told.append(note)
        if told:
            text = "\n".join(["From earlier calls of this caller:", *reversed(told)])
            await self.push(UserText(text=text, author=AUTHOR, respond=False))

    async def _keep(self, signal: SessionEnding) -> None:
        if not self._id or not any(item.kind == "message" and not item.author for item in self.session.conversation):
            return
        try:
            note = self._notes(self.session)
            if inspect.isawaitable(note):
                note = await note
            if note and note.strip():
                kept = note.strip()[:MAX_NOTE]
                await ask_outside("tool", "memory.save", partial(self.store.save, self._id, kept), [self._id, kept])
        except Exception as error:
            self.session.report(error, self.name)
