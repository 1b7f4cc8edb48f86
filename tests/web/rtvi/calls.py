"""A call with mocked services, and a client that speaks RTVI and keeps its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from duologue import Agent, Cascade, Handoff, Pipeline, Processor, Session
from duologue.processors import Switch
from duologue.processors.tools import Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.client import ClientTransport, Message
from duologue.transports.playout.base import AudioSink
from duologue.web.rtvi.controls import ALL_CONTROLS
from duologue.web.rtvi.rtvi import Rtvi, RtviClient, of
from tests.testing.scripted.openai_client import RATE
from tests.web.realtime.calls import speech


class Client(ClientTransport):
    """The far end: what it sends is here at once, and it hears what it gets."""

    def __init__(self) -> None:
        super().__init__("client-1")
        self.sent: list[Message] = []
        self.chunks = 0
        self._news = anyio.Event()

    # what the server does

    def send_message(self, message: Message) -> None:
        self.sent.append(message)
        self._news.set()
        self._news = anyio.Event()

    def audio_sink(self) -> AudioSink:
        return self

    def write(self, chunk: bytes) -> None:
        self.chunks += any(chunk)

    def clear(self) -> int | None:
        return None

    def position(self) -> int | None:
        return None

    async def close(self, reason: str = "", *, error: bool = False) -> None: ...

    # what the client does

    @property
    def rtvi(self) -> RtviClient:
        return of(self)

    def say(self, kind: str, data: Any = None, id: str = "m1") -> None:
        """Send an RTVI message."""
        self.received_message({"label": "rtvi-ai", "type": kind, "id": id, "data": data})

    def type(self, text: str, **options: bool) -> None:
        self.say("send-text", {"content": text, "options": options})

    async def ready(self, version: str = "2.1.0") -> Message:
        """Shake hands."""
        self.say("client-ready", {"version": version, "about": {"library": "test"}}, id="r1")
        return await self.until("bot-ready")

    async def ask(self, t: str, d: Any = None) -> Message:
        """Send a client message, and wait for its answer."""
        id = f"ask {len(self.sent)}"
        self.say("client-message", {"t": t, "d": d}, id=id)
        return await self.wait_for(lambda message: message.get("id") == id)

    async def speak(self, seconds: float, pause: float = 1.0) -> None:
        """Say something, and be silent afterwards."""
        voice = speech(seconds) + bytes(2 * round(pause * RATE))
        piece = RATE // 50 * 2
        for start in range(0, len(voice), piece):
            self.feed(voice[start : start + piece], RATE)
            await anyio.sleep(0.02)

    # the messages to the client

    def told(self, kind: str) -> list[Any]:
        """The data of all messages of a type."""
        return [message.get("data") for message in self.sent if message["type"] == kind]

    def page(self, name: str) -> list[Any]:
        """The page's messages of a name."""
        return [data for data in self.told("server-message") if data["type"] == f"duologue.{name}"]

    def kinds(self, *of: str) -> list[str]:
        """The order in which messages of these types came."""
        return [message["type"] for message in self.sent if message["type"] in of]

    async def until(self, kind: str, count: int = 1) -> Message:
        """Wait for the n-th message of a type."""
        await self.wait(lambda: len(self.told(kind)) >= count)
        return [message for message in self.sent if message["type"] == kind][count - 1]

    async def wait_for(self, wanted: Callable[[Message], bool]) -> Message:
        """Wait for a message."""
        await self.wait(lambda: any(map(wanted, self.sent)))
        return next(filter(wanted, self.sent))

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until what has come fulfils a condition."""
        with anyio.fail_after(60):
            while not condition():
                await self._news.wait()


class RtviCall(BareCall):
    """A call of an RTVI client, over mock services. It is cancelled at its end."""

    def __init__(
        self,
        replies: Any = ("Hello there. How are you?",),
        texts: Sequence[str] = ("what are your opening hours",),
        tools: Sequence[Any] = (),
        agents: Sequence[Agent] = (),
        engines: Sequence[str] = (),
        agent: Agent | None = None,
        may_fail: bool = False,
        **options: Any,
    ) -> None:
        self.client = Client()
        self.llm = MockLLM(replies)

        def cascade() -> Cascade:
            return Cascade(MockSTT(texts, interim_s=0.3), self.llm, MockTTS())

        engine: Processor = cascade()
        if engines:
            others = {name: Cascade(MockSTT(texts), MockLLM(replies), MockTTS()) for name in engines[1:]}
            engine = Switch({engines[0]: engine, **others})
        session = Session(
            Pipeline(
                [
                    self.client.input(),
                    Vad(),
                    Endpointing(),
                    Interruption(),
                    engine,
                    *([Handoff(agents)] if agents else []),
                    Tools(tools),
                    self.client.output(),
                ]
            ),
            id="s1",
            agent=agent,
            **options,
        )
        super().__init__(session, ends=False, may_fail=may_fail)

    async def start(self) -> None:
        """Begin to run: the client shakes hands while the session opens."""
        self.launch()

    def attach(self, *, page: bool = False, controls: bool = False) -> Client:
        """Attach RTVI to the client, which is returned. With `controls` it has all of them."""
        Rtvi(self.client, self.session, page=page, controls=ALL_CONTROLS if controls else ()).attach()
        return self.client


@asynccontextmanager
async def running(
    call: RtviCall, *, page: bool = False, controls: bool = False, ready: bool = True
) -> AsyncIterator[Client]:
    """Run a call; its client has shaken hands, unless it is not `ready`."""
    client = call.attach(page=page, controls=controls)
    async with call:
        if ready:
            await client.ready()
        yield client
