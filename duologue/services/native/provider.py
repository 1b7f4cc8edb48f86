"""The far end of a native engine: the vendor's service, the connection in use, and its memory of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ...agents.engine import Capabilities, EngineConfig
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, MissingExtra, ServiceError
from ...frames import EndOfTurn
from ...session.conversation import Conversation
from ...session.item import Item
from ...session.ledger import Ledger
from ...session.tool_calls import RegisteredCall, late_text
from ..answers import Answers
from ..context import Budget, Message, messages
from ..remote.connection import Connection
from ..remote.dialect import Wire
from .dialect import Called, Dialect
from .reply import Ask

MAX_NOTES = 256
"""The most items of the log that wait until the model is silent; the oldest are dropped."""


class NativeService(Answers):
    """The half of a native engine that a vendor implements.

    A vendor implements `capabilities`, `check_config`, `dial` (an open connection of its SDK) and `dialect` (the
    translator for one connection).
    """

    model: str = ""
    extra: str = ""
    """The extra that installs the service's packages."""
    eager_starts: int = 2
    """Answers that are begun in a turn of the caller before its end is certain; 0 begins none. One that is thrown away
    costs the tokens of its request, and of the answer until it was cancelled."""
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
        if self.in_session and self.session.microphone.mode == "push_to_talk":
            config = self.with_manual_turns(config)
        check_tools(config.tools, self.extra)
        if config.model not in ("", self.model):
            raise ConfigurationError(f"{self.name} cannot change to the model {config.model!r}: it has {self.model!r}")
        self.check_config(config)
        return config

    def with_manual_turns(self, config: EngineConfig) -> EngineConfig:
        """Return the configuration with which the provider leaves the caller's turns to the pipeline."""
        return msgspec.structs.replace(config, options={**config.options, "turn_detection": None})

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection, and resume the session of `handle` unless it is "". Raises ConnectionLost."""
        raise NotImplementedError

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """Return a translator for one connection."""
        raise NotImplementedError

    def ask_again(self, failed: Ask) -> None:
        """Request once more the answer that the provider has failed to give by itself."""
        raise NotImplementedError

    def new_calls(self, asked: Sequence[Called], turn: int) -> list[Called]:
        """Return the calls that are to be made, without those that a resumed session tells again."""
        raise NotImplementedError

    def owe_answer(self, by: str, end: EndOfTurn | None = None) -> None:
        """Request an answer to the caller's words, after the answers that are owed already.

        `by` is the cause, as in `EndOfTurn`; `end` is the end of the turn that it answers, by default one now.
        """
        self._unanswered = "words"
        self.queue(msgspec.structs.replace(end or EndOfTurn(at=self.session.now()), by=by))


class Provider:
    """Holds the connection in use, which may change in mid-call or be missing.

    A part that changes the engine's state calls `notify`; a part that waits for a state awaits `until`.
    """

    def __init__(self) -> None:
        self.connection: Connection[Dialect] | None = None
        """The connection in use."""
        self.live = False
        """True while the engine has the call. Before and after that it only keeps its connection open."""
        self.given_up = False
        """True once connecting has been given up."""
        self.want: Callable[[], None] = lambda: None
        """Called when a connection is wanted for an answer."""
        self._watchers: list[asyncio.Future[None]] = []
        self._reactions: list[Callable[[], None]] = []

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the connection in use, None while the engine does not have the call or is not connected."""
        return self.connection.dialect if self.live and self.connection is not None else None

    @property
    def uninterruptible(self) -> bool:
        """True if the provider is set not to be interrupted by the caller's speech."""
        return (dialect := self.dialect) is not None and not dialect.interruptible

    def send(self, messages: Iterable[str]) -> None:
        """Send messages on the connection in use, if the engine has the call."""
        if self.live and self.connection is not None:
            self.connection.send(messages)

    def notify(self) -> None:
        """Announce a change of the engine's state: the conditions of `until` are checked again."""
        for react in self._reactions:
            react()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def on_change(self, react: Callable[[], None]) -> None:
        """Call `react` at each `notify`, before the tasks in `until` continue."""
        self._reactions.append(react)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the engine's state is true."""
        while not condition():
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher


class Note(NamedTuple):
    """An item of the log as a text for the model."""

    text: str
    role: str


class ProviderMemory:
    """Tracks a position in the log, and the items after it that must still be sent to the model.

    A provider knows the caller's speech and its own answers. Notes, hand-offs, texts that are not the caller's, and
    tool results for which its connection does not wait are sent as text when the model is silent, because some
    providers break off an answer at a text. Until then these items are `due`, also on a later connection.

    `since` returns the id of the first item that the agent may know, "" for all.

    A `handle` resumes a session that knows the log up to the position at which the provider gave the handle.
    """

    def __init__(
        self, conversation: Conversation, ledger: Ledger, replay_messages: int, since: Callable[[], str] = lambda: ""
    ) -> None:
        self._since = since
        self._conversation = conversation
        self._ledger = ledger
        self._replay_messages = replay_messages
        self._handle = ""
        self._known: frozenset[str] = frozenset()  # ids of the items before the position
        self._due: dict[str, None] = {}  # ids, in the order in which they became due
        self._stop: Callable[[], None] | None = None
        self.resumed = False
        """True if the session in use was resumed by a handle, which rules out a replay."""

    def start(self, handle: str = "", known: Container[str] | None = None) -> None:
        """Follow the log. A handle that is given here stands for the whole log as it is now, or its `known` items."""
        if self._stop is None:
            self._stop = self._conversation.listen(self._logged)
        self._due.clear()
        self.handle_given(handle)
        if known is not None:
            for item in self._conversation:
                if item.id not in known:
                    self._logged(item)
            self._known = frozenset(item.id for item in self._conversation if item.id in known)

    def stop(self) -> None:
        """Stop following the log, because another engine has the call."""
        if self._stop is not None:
            self._stop()
            self._stop = None
        self._due.clear()

    # -- due items -------------------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if _note(item) is None:
            return
        self._due[item.id] = None
        if len(self._due) > MAX_NOTES:
            del self._due[next(iter(self._due))]

    def due(self) -> list[Item]:
        """Return the items that must still be sent to the model, in the order in which they became due."""
        items = (self._conversation.get(item_id) for item_id in self._due)
        return [item for item in items if item is not None]

    @property
    def is_due(self) -> bool:
        """True while an item is due."""
        return bool(self._due)

    def take_due(self, dialect: Dialect) -> list[str]:
        """Return the messages for all due items, which are then no longer due."""
        due = self.due()
        self._due.clear()
        calls = self._conversation.calls
        late = {call.id: call for call in calls.news}
        notes = [note for item in due if (note := _note(item, late.get(item.call_id))) is not None]
        calls.told(late[item.call_id] for item in due if item.call_id in late)
        return [message for text, role in notes for message in dialect.text(text, role=role)]

    def result_given(self, call_id: str) -> None:
        """Note that the provider has received a call's result as a result: it is not due as text."""
        for item in self.due():
            if item.call_id == call_id:
                del self._due[item.id]
        if (call := self._conversation.calls.get(call_id)) is not None:
            self._conversation.calls.told((call,))

    # -- a new session ---------------------------------------------------------------------------------------------

    def replay(self, limit: int = 0) -> tuple[Message, ...]:
        """Return the latest `limit` messages of caller and agent for a new session. Nothing is due afterwards.

        Without a `limit`, the one of the connection's settings counts.
        """
        self._due.clear()
        told = self._latest(limit)
        self._conversation.calls.told(self._conversation.calls.news)
        return told

    def _latest(self, limit: int = 0) -> tuple[Message, ...]:
        budget = Budget(messages=limit or self._replay_messages)
        return messages(self._conversation, self._ledger, open_calls=False, budget=budget, since=self._since())

    def to_replay(self) -> int:
        """Return the number of messages of caller and agent that a new session is going to receive."""
        return _message_count(self._latest())

    def replay_on(self, connection: Connection[Dialect], report: Callable[[Exception], None]) -> int:
        """Send the replay on a new connection, and `report` messages that cannot be sent.

        Returns the number of messages of caller and agent that are sent.
        """
        told = self.replay()
        if not told:
            return 0
        dialect = connection.dialect
        try:
            wire = dialect.history(told)
        except Exception as error:  # a connection that knows less is better than one that is not set up
            report(ServiceError(f"not all of the conversation is replayed: {error}"))
            told = _tellable(dialect, told)
            wire = dialect.history(told) if told else []
        connection.send(wire)
        return _message_count(told)

    def connected(self, *, resumed: bool) -> None:
        """Note that another session is in use, a resumed or a new one. A new one makes the handle void."""
        self.resumed = resumed
        if not resumed:
            self._handle = ""

    def handle_given(self, handle: str) -> None:
        """Take a handle from the provider. It stands for the log as it is now, without the due items."""
        if handle:
            self._handle = handle
            lacking = self._due
            self._known = frozenset(i.id for i in self._conversation if not (i.id in lacking or _comes(i)))

    def usable_handle(self, unanswered: Container[str]) -> str:
        """Return the handle if it covers everything that a new session must know, else "".

        It need not cover the items in `unanswered`, whose audio is sent again, nor due notes and hand-offs.
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


def _comes(item: Item) -> bool:
    """Return True for an image that is not ready, and has not been sent."""
    return item.name == "image" and item.status == "in_progress"


def _message_count(told: tuple[Message, ...]) -> int:
    return sum(message.role in ("user", "assistant") for message in told)


def _tellable(dialect: Dialect, told: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages that the dialect can translate. Calls and results stay in pairs."""

    def can_be_told(message: Message) -> bool:
        try:
            dialect.history((message,))
        except Exception:
            return False
        return True

    told = tuple(message for message in told if can_be_told(message))
    results = {message.call_id for message in told if message.role == "tool"}
    told = tuple(message for message in told if all(call.call_id in results for call in message.calls))
    calls = {call.call_id for message in told for call in message.calls}
    return tuple(message for message in told if message.role != "tool" or message.call_id in calls)


def _note(item: Item, late: RegisteredCall | None = None) -> Note | None:
    """Return the text that describes an item to the model, None for an item that the model knows already.

    `late` is the call of a result if the model knows that the tool still runs, or was cancelled.
    """
    if item.kind in ("note", "handoff"):
        return Note(item.text, "system") if item.text and item.role == "system" else None
    if item.kind == "tool_result":
        text = f"The tool {item.name} has returned: {item.text}"
        if late is not None:
            text = late_text(item.name, item.text, running=late.state == "late")
        return Note(text, "system")
    if item.kind == "message" and item.role == "caller" and item.author and item.text:
        return Note(f"[{item.author}] {item.text}", "user")
    return None


def check_tools(tools: Iterable[ToolSpec], extra: str) -> None:
    """Raise ConfigurationError for two tools with one name, or for parameters that are not an object's JSON schema.

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
    """Return the reason why parameters (JSON) are invalid, else "". Cached: it takes 2 ms, and hand-offs repeat it."""
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
    except RecursionError:  # the validator makes about ten calls for each level
        return "JSON schema: it is nested too deep"
    return "" if schema.get("type", "object") == "object" else "schema of an object"
