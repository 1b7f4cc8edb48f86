"""`RemoteCall`: a call through a service that keeps a connection to a vendor."""

from __future__ import annotations

from typing import Any

from duologue.frames import BotAudio, BotText, ResponseEnded, ResponseStarted, Usage, Word, WordTimes
from duologue.processors import Pipeline
from duologue.services.tts import TTS
from duologue.session import Session
from duologue.testing import BareCall
from tests.session.calls import Sink


class RemoteCall(BareCall):
    """A call whose service keeps a connection. Its `states` begin when the session has started."""

    _while_opening = 0

    async def start(self) -> None:
        await super().start()
        self._while_opening = len(super().states)

    @property
    def states(self) -> list[str]:
        """The states of the connection since the session started."""
        return super().states[self._while_opening :]

    @property
    def usage(self) -> list[Usage]:
        """The service's reports of its usage."""
        return self.came(Usage)

    @property
    def fatal(self) -> list[str]:
        """The messages of the errors that end a call."""
        return [error.message for error in self.errors if error.fatal]


class WritingCall(RemoteCall):
    """A call through a TTS, with an agent that writes."""

    def __init__(self, tts: TTS, *, ends: bool = True, may_fail: bool = False) -> None:
        self.sink = Sink()
        super().__init__(Session(Pipeline([tts, self.sink])), ends=ends, may_fail=may_fail)

    async def begins(self, voice: str = "") -> str:
        """A response begins. Returns its id."""
        session = self.session
        turn = session.floor.begin()
        response_id = session.ledger.new_id()
        session.ledger.open(response_id, turn)
        await session.send(ResponseStarted(turn=turn, response_id=response_id, voice=voice))
        return response_id

    async def writes(self, response_id: str, *texts: str) -> None:
        session = self.session
        for text in texts:
            session.ledger.add_text(response_id, text)
            await session.send(BotText(turn=session.floor.turn, response_id=response_id, text=text))

    async def ends(self, response_id: str, status: Any = "completed") -> None:
        turn = self.session.floor.turn
        await self.session.send(ResponseEnded(turn=turn, response_id=response_id, status=status))

    async def says(self, *texts: str, voice: str = "") -> str:
        response_id = await self.begins(voice)
        await self.writes(response_id, *texts)
        await self.ends(response_id)
        return response_id

    async def until_ended(self, count: int, within_s: float = 30.0) -> list[ResponseEnded]:
        await self.until(lambda: len(self.ended) >= count, f"{count} ends", within_s)
        return self.ended

    @property
    def ended(self) -> list[ResponseEnded]:
        return [frame for frame in self.sink.frames if isinstance(frame, ResponseEnded)]

    def audio(self, response_id: str) -> bytes:
        frames = [f for f in self.sink.frames if isinstance(f, BotAudio) and f.response_id == response_id]
        return b"".join(frame.audio for frame in frames)

    def words(self, response_id: str) -> list[Word]:
        """As the ledger keeps them: later times take the place of earlier ones."""
        kept: list[Word] = []
        for frame in self.sink.frames:
            if isinstance(frame, WordTimes) and frame.response_id == response_id:
                kept = [word for word in kept if word.start_s < frame.words[0].start_s] + list(frame.words)
        return kept
