"""A service that keeps a connection, and wires in memory for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from duologue.services.remote.connection import Connection, ConnectionSettings
from duologue.services.remote.dialect import ConnectionDialect, Event, GoingAway, Opened, Refused, Wire, WireMessage
from duologue.services.remote.service import RemoteService, Setup
from tests.services.remote.calls import RemoteCall


class Words(Event, frozen=True, kw_only=True):
    text: str


class WordsDialect(ConnectionDialect):
    """Every message is a word; some words mean something."""

    def __init__(self, *, left_s: float | None = None) -> None:
        self.left_s = left_s

    def setup(self) -> Sequence[WireMessage]:
        return ["hello"]

    def read(self, message: WireMessage) -> Sequence[Event]:
        assert isinstance(message, str)
        first, _, rest = message.partition(" ")
        match first:
            case "welcome":
                return [Opened(left_s=self.left_s), *(Words(text=word) for word in rest.split())]
            case "no":
                return [Refused(code="no", message=rest, fatal=True)]
            case "bye":
                return [GoingAway(left_s=float(rest))]
            case "nonsense":
                raise KeyError("an error of the dialect's own")
        return [Words(text=message)]


class MemoryWire:
    """A wire whose far end is the test: `arrive` is what comes, `sent` what went."""

    def __init__(self, *first: WireMessage | BaseException) -> None:
        self.sent: list[WireMessage] = []
        self.closed = False
        self.send_error: BaseException | None = None
        self.ping_error: BaseException | None = None
        self._arriving: asyncio.Queue[WireMessage | BaseException] = asyncio.Queue()
        for message in first or ("welcome",):
            self.arrive(message)

    @property
    def ready(self) -> bool:
        return True

    def arrive(self, message: WireMessage | BaseException) -> None:
        self._arriving.put_nowait(message)

    async def send(self, message: WireMessage) -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sent.append(message)

    async def receive(self) -> WireMessage:
        message = await self._arriving.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def ping(self) -> None:
        if self.ping_error is not None:
            raise self.ping_error

    async def close(self) -> None:
        self.closed = True


Dialled: TypeAlias = Wire | BaseException
Attempt: TypeAlias = Callable[[], Dialled]


class KeptWords(RemoteService[WordsDialect]):
    """Dials what the test gives it, one after the other, and the last one again."""

    model = "words"
    billing = "audio"

    def __init__(self, *attempts: Attempt, settings: ConnectionSettings | None = None, left_s: float | None = None):
        super().__init__(settings)
        self.attempts = list(attempts)
        self.left_s = left_s
        self.wires: list[MemoryWire] = []
        self.dialled: list[float] = []
        self.words: list[str] = []
        self.quiet = True
        self.on_word: Callable[[str], None] = lambda word: None
        self.on_take: Callable[[Connection[WordsDialect] | None], None] = lambda connection: None
        self.dialect_error: Exception | None = None

    async def open(self) -> None:
        await self.connect_first()

    async def close(self) -> None:
        await self.disconnect()

    async def dial(self, setup: Setup) -> Wire:
        self.dialled.append(asyncio.get_running_loop().time())
        attempt = self.attempts.pop(0) if len(self.attempts) > 1 else self.attempts[0]
        got = attempt()
        if isinstance(got, BaseException):
            raise got
        assert isinstance(got, MemoryWire)
        self.wires.append(got)
        return got

    def dialect(self, setup: Setup) -> WordsDialect:
        if self.dialect_error is not None:
            raise self.dialect_error
        return WordsDialect(left_s=self.left_s)

    def is_quiet(self) -> bool:
        return self.quiet

    def take(self, connection: Connection[WordsDialect] | None, resumed: bool) -> str:
        self.on_take(connection)
        return super().take(connection, resumed)

    async def on_event(self, event: Event) -> None:
        if isinstance(event, Words):
            self.words.append(event.text)
            self.on_word(event.text)


keeping = RemoteCall.through
