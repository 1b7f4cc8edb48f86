"""The far end of a native engine: the vendor's service, the connection in use, and how much of the log it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ...agents.engine import Capabilities, EngineConfig
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, MissingExtra
from ...frames import EndOfTurn
from ...session.conversation import Conversation, Item
from ...session.ledger import Ledger
from ..answers import Answers
from ..context import Budget, Message, messages
from ..remote.connection import Connection
from ..remote.dialect import Wire
from .dialect import Dialect

MAX_NOTES = 256
"""Items of the log that wait until the model is silent; the oldest are given up."""


class NativeService(Answers):
    """The half of a native engine that a vendor gives.

    A vendor gives `capabilities`, `check_config`, `dial` (an open connection of its SDK) and `dialect` (the translator
    for one connection).
    """

    model: str = ""
    extra: str = ""
    """The extra that brings the service."""
    replaceable: bool = False
    """True if another engine takes the call when this one is lost."""

    @property
    def capabilities(self) -> Capabilities:
        """The abilities of the model as data."""
        raise NotImplementedError

    def check_config(self, config: EngineConfig) -> None:
        """Raise ConfigurationError, with the reason, for a setting that the model does not take. Does no I/O."""

    def checked(self, config: EngineConfig) -> EngineConfig:
        """Return the configuration. Raises ConfigurationError for tools or settings that the model does not take."""
        check_tools(config.tools, self.extra)
        self.check_config(config)
        return config

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection, and resume the session of `handle` unless it is "". Raises ConnectionLost."""
        raise NotImplementedError

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """Return a translator for one connection."""
        raise NotImplementedError

    def owe_answer(self, by: str, at: float | None = None) -> None:
        """Ask for an answer to the caller's words as soon as the answers before it are given.

        `by` and `at` are those of an `EndOfTurn`; `at` is now by default.
        """
        self._unanswered = "words"
        self.queue(EndOfTurn(at=self.session.now() if at is None else at, by=by))


class Provider:
    """The connection in use, which may change in mid-call or be missing.

    A part that changes the engine's state calls `notify`; a part that depends on it waits in `until`.
    """

    def __init__(self) -> None:
        self.connection: Connection[Dialect] | None = None
        """The connection in use."""
        self.live = False
        """True while the engine has the call: before and after that it only keeps its connection."""
        self.given_up = False
        """True once there is no connection and no further attempt."""
        self._watchers: list[asyncio.Future[None]] = []
        self._reactions: list[Callable[[], None]] = []

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the connection in use, None while the engine does not have the call or is not connected."""
        return self.connection.dialect if self.live and self.connection is not None else None

    def send(self, messages: Iterable[str]) -> None:
        """Send messages on the connection in use, if the engine has the call."""
        if self.live and self.connection is not None:
            self.connection.send(messages)

    def notify(self) -> None:
        """Say that the engine's state has changed: conditions are checked again."""
        for react in self._reactions:
            react()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def on_change(self, react: Callable[[], None]) -> None:
        """Call `react` with each `notify`, before those that wait go on."""
        self._reactions.append(react)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition about the engine's state."""
        while not condition():
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher


class Note(NamedTuple):
    """An item of the log as a text for the model."""

    text: str
    role: str


class ProviderMemory:
    """A position in the log, and the items behind it that the model must still be sent.

    A provider knows by itself what the caller says and what it answers. Notes, hand-offs, texts of others than the
    caller and results of tools that its connection does not wait for reach it as text, once it is silent: some
    providers break an answer off for a text. They are `due` until then, on whichever connection.

    A `handle` resumes a session that knows the log up to the position at which the handle was given.
    """

    def __init__(self, conversation: Conversation, ledger: Ledger, replay_messages: int) -> None:
        self._conversation = conversation
        self._ledger = ledger
        self._replay_messages = replay_messages
        self._handle = ""
        self._known: frozenset[str] = frozenset()  # ids of the items before the position
        self._due: dict[str, None] = {}  # ids, in the order in which they fell due
        self._stop: Callable[[], None] | None = None
        self.resumed = False
        """True if the session in use was resumed by a handle: it is not replayed."""

    def start(self, handle: str = "") -> None:
        """Follow the log, with a handle that stands for all that it holds now."""
        if self._stop is None:
            self._stop = self._conversation.listen(self._logged)
        self._due.clear()
        self.handle_given(handle)

    def stop(self) -> None:
        """Leave the log: another engine has the call."""
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._due.clear()

    # -- items that are due ----------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if _note(item) is None:
            return
        self._due[item.id] = None
        if len(self._due) > MAX_NOTES:
            del self._due[next(iter(self._due))]

    def due(self) -> list[Item]:
        """Return the items of the log that the model must still be sent, in the order in which they fell due."""
        items = (self._conversation.get(item_id) for item_id in self._due)
        return [item for item in items if item is not None]

    @property
    def is_due(self) -> bool:
        """True while an item is due."""
        return bool(self._due)

    def take_due(self, dialect: Dialect) -> list[str]:
        """Return the messages that send the model all that is due. After that nothing is."""
        notes = [note for item in self.due() if (note := _note(item)) is not None]
        self._due.clear()
        return [message for text, role in notes for message in dialect.text(text, role=role)]

    def result_given(self, call_id: str) -> None:
        """The provider has received the result of a call as a result: it is not due as text."""
        for item in self.due():
            if item.call_id == call_id:
                del self._due[item.id]

    # -- a new session ---------------------------------------------------------------------------------------------

    def replay(self, limit: int = 0) -> tuple[Message, ...]:
        """Return the latest `limit` messages of caller and agent for a session that knows nothing; then nothing is due.

        Without a limit it is that of the connection's settings.
        """
        self._due.clear()
        budget = Budget(messages=limit or self._replay_messages)
        return messages(self._conversation, self._ledger, open_calls=False, budget=budget)

    def connected(self, *, resumed: bool) -> None:
        """A session is in use that was resumed, or that is new: then the handle is void."""
        self.resumed = resumed
        if not resumed:
            self._handle = ""

    def handle_given(self, handle: str) -> None:
        """The provider has given a handle, which stands for the log as it is now without what is due."""
        if handle:
            self._handle = handle
            self._known = frozenset(item.id for item in self._conversation if item.id not in self._due)

    def usable_handle(self, unanswered: Container[str]) -> str:
        """Return the handle if it stands for all that a new session must know, else "".

        It need not know items in `unanswered`, which the provider will hear again, and notes that are due.
        """
        if not self._handle:
            return ""
        behind = (item for item in reversed(self._conversation.items) if item.id not in self._known)
        return self._handle if all(self._may_lack(item, unanswered) for item in behind) else ""

    def _may_lack(self, item: Item, unanswered: Container[str]) -> bool:
        if item.id in unanswered:
            return True
        if item.kind in ("note", "handoff"):
            return not item.text or item.id in self._due
        return False


def _note(item: Item) -> Note | None:
    """The text with which the model is sent an item, None for an item that it knows by itself."""
    if item.kind in ("note", "handoff"):
        return Note(item.text, "system") if item.text and item.role == "system" else None
    if item.kind == "tool_result":
        return Note(f"The tool {item.name} has returned: {item.text}", "system")
    if item.kind == "message" and item.role == "caller" and item.author and item.text:
        return Note(f"[{item.author}] {item.text}", "user")
    return None


def check_tools(tools: Iterable[ToolSpec], extra: str) -> None:
    """Raise ConfigurationError for two tools with one name, and for parameters that are not the schema of an object.

    Raises MissingExtra, naming the `extra`, without the package `jsonschema`.
    """
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ConfigurationError(f"two tools are named {tool.name!r}")
        names.add(tool.name)
        if problem := _schema_problem(msgspec.json.encode(tool.parameters), extra):
            raise ConfigurationError(f"the parameters of tool {tool.name!r} are not a {problem}")


@lru_cache(maxsize=1024)
def _schema_problem(parameters: bytes, extra: str) -> str:
    """Return why parameters (JSON) are not valid, "" if they are. Cached: it takes 2 ms, and hand-offs repeat it."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
    except ImportError as error:
        raise MissingExtra("jsonschema", extra) from error
    schema = msgspec.json.decode(parameters)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path)
        return f"JSON schema{f' at {place}' if place else ''}: {error.message}"
    return "" if schema.get("type", "object") == "object" else "schema of an object"
