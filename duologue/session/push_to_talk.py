"""`TalkGate`: the mode "push_to_talk". The caller says when their turn begins and ends."""

from __future__ import annotations

import asyncio

from ..errors import BadInput
from ..frames import BotStartedSpeaking, ClientChanged, EndOfTurn, SpeechStarted, SpeechStopped
from .gate import AudioGate, GatedSession, Taker
from .interrupting import interrupt, may_interrupt

MAX_TALK_S = 60.0
"""Seconds after which a button that is not released counts as released."""
MIN_TALK_S = 0.1
"""Seconds of audio below which a press is no turn."""
REASON = "push-to-talk"


class TalkGate(AudioGate):
    """Lets the caller's audio in while they press, and marks it as their turn."""

    def __init__(self, session: GatedSession) -> None:
        super().__init__(session, open=False)
        self._taker: Taker | None = None  # where the turn in progress enters
        self._early: list[tuple[bytes, int]] = []  # audio of a press that is not a turn yet
        self._said_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        bus = session.host.bus
        bus.on(ClientChanged, self._client_changed)
        bus.on(BotStartedSpeaking, self._agent_began)

    def talk(self, talking: bool) -> bool:
        """Press the button, or release it. Returns False if that changes nothing."""
        if not isinstance(talking, bool):
            raise BadInput(f"talking is True or False, not {talking!r}")
        session = self.session
        session.host.require_running("hear the caller talk")
        if talking is self.open:
            return False
        if not talking:
            self._release("manual")
        elif session.draining or session.host.session.audio.access != "active":
            return False
        else:
            self._press()
        return True

    def _press(self) -> None:
        session = self.session
        self.open, self._taker, self._said_s = True, None, 0.0
        self._timer = asyncio.get_running_loop().call_later(MAX_TALK_S, self._release, "limit")
        session.floor.caller_speaks(True, session.now())
        if may_interrupt(session):
            interrupt(session, REASON)
        session.host.life.settle(REASON)

    def _release(self, by: str) -> None:
        session, at = self.session, self.session.now()
        self.open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        session.floor.caller_speaks(False, at)
        early, self._early = self._early, []
        for piece in early:
            self.drop(*piece)
        if self._taker is not None:
            self._taker.mark(SpeechStopped(at=at))
            self._taker.mark(EndOfTurn(at=at, by=by))
        session.host.life.settle(REASON)

    def hear(self, taker: Taker, pcm: bytes, sample_rate: int) -> None:
        """Let in the audio of a turn. It begins once the press has lasted for `MIN_TALK_S` of audio."""
        if not self.open:
            self.drop(pcm, sample_rate)
            return
        self._said_s += len(pcm) / (2 * sample_rate)
        if self._taker is not None:
            self._taker.enter(pcm, sample_rate)
        else:
            self._early.append((pcm, sample_rate))
            if self._said_s >= MIN_TALK_S - 1e-6:
                self._taker = taker
                taker.mark(SpeechStarted(at=self.session.now()))
                early, self._early = self._early, []
                for piece in early:
                    taker.enter(*piece)
        if self._said_s >= MAX_TALK_S:
            self._release("limit")

    def cut(self, reason: str) -> None:
        """Release the button."""
        if self.open:
            self._release(reason)

    def _client_changed(self, signal: ClientChanged) -> None:
        if signal.state in ("lost", "gone"):
            self.cut("client")

    def _agent_began(self, signal: BotStartedSpeaking) -> None:
        # An answer that was under way when the button was pressed.
        if self.open and may_interrupt(self.session):
            interrupt(self.session, REASON)
