"""`UnpacedPlayout`: for clients that take the agent's audio as it is generated, and play it at their own pace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from ...audio.pcm import downmix
from ...frames import BotAudio, ResponseEnded, ResponseStarted
from ...session.session import Session
from .base import PlayoutBase
from .in_flight import Audible


class UnpacedPlayout(PlayoutBase):
    """Passes each piece of audio to `send` at once. `send` returns an awaitable while it has no room for more.

    Audio counts as played when it is sent, and the agent counts as speaking while a response is sent. A client that
    has played less reports it afterwards: see `Conversation.shorten`. No audio waits here, so holds have no effect.
    """

    def __init__(self, session: Session, send: Callable[[BotAudio], Awaitable[None] | None]) -> None:
        self._floor, self._ledger = session.floor, session.ledger
        self._audible = Audible(session)
        self._send = send
        self._open: dict[str, None] = {}  # the responses that have begun and not ended, oldest first
        self._gone = False

    def begin(self, frame: ResponseStarted) -> None:
        if self._gone or frame.turn <= self._floor.fence:
            return
        self._ledger.open(frame.response_id, frame.turn, frame.agent)
        self._open[frame.response_id] = None

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        if self._gone or frame.turn <= self._floor.fence:
            return None
        if not frame.response_id:
            return None  # a replay, which is the client's
        if self._audible.audible_turn is None:
            self._audible.started(frame.turn)
        audio = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        if (loud := self._audible.at_volume(audio)) is not audio:
            frame = replace(frame, audio=loud, channels=1)
        self._ledger.sent(frame.response_id, frame.duration_s)
        self._ledger.played(frame.response_id, frame.duration_s)
        return self._send(frame)

    def end(self, frame: ResponseEnded) -> None:
        self._audible.stopped()
        self._open.pop(frame.response_id, None)
        if frame.status == "completed":
            self._ledger.all_sent(frame.response_id)
        self._ledger.finish(frame.response_id, interrupted=frame.status != "completed")

    async def drain(self) -> None:
        pass

    def hold(self, owners: tuple[str, ...]) -> None:
        pass

    def resume(self, owners: tuple[str, ...]) -> None:
        pass

    def fence(self) -> None:
        self._audible.stopped()
        self._open.clear()

    def stop(self) -> None:
        self._gone = True
        self._audible.stopped()
        for response_id in self._open:
            self._ledger.finish(response_id, interrupted=True)
        self._open.clear()
