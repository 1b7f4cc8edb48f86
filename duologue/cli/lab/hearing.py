"""`hear`: what a speech-to-text service makes of clips, in a session of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import IllegalState
from ...frames import EndOfTurn, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from ...services.stt import STT
from ...testing.call import BareCall, Probe
from ...testing.tones import pieces
from .clips import RATE, Clip

PIECE_S = 0.02
PATIENCE_S = 15.0
"""Seconds after the end of the speech in which a transcript is awaited."""
RESUME_S = 3.0
"""Seconds after the end of the speech in which a service that finds the turns itself may begin another one."""


@dataclass(slots=True)
class Understood:
    """A transcript. Times are in seconds, None without that text."""

    text: str = ""
    first_interim_s: float | None = None
    """From the start of the speech to the first interim text."""
    final_s: float | None = None
    """From the end of the speech to the last final text; 0 if that came before the end."""
    error: str = ""


async def hear(
    stt: STT,
    clips: Sequence[Clip],
    *,
    paced: bool = True,
    told: Callable[[Clip, Understood], None] = lambda clip, heard: None,
) -> list[Understood]:
    """Play clips one after the other, in real time or (not `paced`) at once, and return the transcripts.

    The service gets the start and the end of each speech when they have been played, unless it finds the turns itself.
    After the clip its tail is played until the transcript is there. `told` gets each result.
    """
    found: list[Understood] = []
    async with BareCall.through(stt, Probe(), may_fail=True) as call:
        for clip in clips:
            heard = await _Play(call, stt, clip, paced).run()
            found.append(heard)
            told(clip, heard)
    return found


def failure_of(call: BareCall, errors: int) -> str:
    """Return the first error of a call after the first `errors` of them, or the one that ended it; "" for none."""
    if len(call.errors) > errors:
        return call.errors[errors].message
    if call.session.live:
        return ""
    error = call.errors[-1].message if call.errors else ""
    return error or "the session has ended"


class _Play:
    """One clip in a call."""

    def __init__(self, call: BareCall, stt: STT, clip: Clip, paced: bool) -> None:
        assert call.probe is not None
        self._call, self._session, self._probe = call, call.session, call.probe
        self._clip, self._paced = clip, paced
        self._finds_turns = EndOfTurn in stt.gives
        self._frames, self._errors = len(call.probe.frames), len(call.errors)
        self._began = self._at = self._session.now()
        self._ended: float | None = None  # when the last sample of the speech had been played

    async def run(self) -> Understood:
        try:
            await self._play()
        except IllegalState:  # the session ended between a look and a frame
            if self._active:
                raise
        return self._heard()

    async def _play(self) -> None:
        for piece in pieces(self._clip.pcm, RATE, 1000 * PIECE_S):
            if not self._active:
                break
            await self._send(piece)
        while self._active and not self._over():
            for piece in pieces(self._clip.tail, RATE, 1000 * PIECE_S):
                await self._send(piece, tail=True)
                if not self._active or self._over():
                    break

    @property
    def _active(self) -> bool:
        return self._session.live

    async def _send(self, piece: bytes, tail: bool = False) -> None:
        session, at, end = self._session, self._at, self._at + len(piece) / (2 * RATE)
        starts, ends = (self._began + sample / RATE for sample in (self._clip.start, self._clip.end))
        told = not self._finds_turns
        if self._paced or tail:
            await self._call.waits(max(0.0, end - session.now()))
        await session.send(UserAudio(audio=piece, sample_rate=RATE, at=at))
        if told and at <= starts < end:
            await session.send(SpeechStarted(at=starts))
        if at < ends <= end:
            self._ended = session.now()
            if told:
                await session.send(SpeechStopped(at=ends))
                await session.send(EndOfTurn(at=ends))
        self._at = end

    def _over(self) -> bool:
        if self._ended is None:
            return False
        now = self._session.now()
        if now > self._ended + PATIENCE_S:
            return True
        marks = [(at, type(frame)) for at, frame in self._new if isinstance(frame, SpeechStarted | EndOfTurn)]
        if not marks or marks[-1][1] is not EndOfTurn:
            return False
        return not self._finds_turns or marks[-1][0] >= self._ended or now > self._ended + RESUME_S

    @property
    def _new(self) -> list[tuple[float, object]]:
        return [*self._probe.frames[self._frames :]]

    def _heard(self) -> Understood:
        heard = Understood(error=failure_of(self._call, self._errors))
        texts = [(at, frame) for at, frame in self._new if isinstance(frame, UserTranscript)]
        interim = [at for at, frame in texts if not frame.final and frame.text]
        finals = [(at, frame.text) for at, frame in texts if frame.final]
        if interim:
            heard.first_interim_s = interim[0] - self._began - self._clip.start / RATE
        heard.text = " ".join(filter(None, (text for _, text in finals)))
        if finals and self._ended is not None:
            heard.final_s = max(0.0, finals[-1][0] - self._ended)
        elif not heard.error:
            heard.error = f"no transcript within {PATIENCE_S:g} s"
        return heard
