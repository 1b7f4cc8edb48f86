"""`RemoteSTT` and `STTDialect`: speech-to-text over a connection to a vendor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import ClassVar, Literal

import anyio

from ...errors import ServiceError
from ...frames import Usage, Word
from ...session.usage import add_usage
from ..stt import STT, Transcription
from .connection import Connection, ConnectionSettings
from .dialect import ConnectionDialect, Event, Refused, WireMessage
from .service import RemoteService

MAX_MESSAGE_S = 0.5
"""The longest audio of one message, in seconds."""
PONG_S = 1.0
"""Seconds for a vendor that omits its answer to show by a pong that it is there."""


class Recognized(Event, frozen=True, kw_only=True):
    """Text of the utterance. A final text is a segment that stays; one that is not final replaces the previous one.

    `last` marks the answer to `finish`: the text of the utterance is complete. The times of `words` are in seconds,
    from the place that `STTDialect.times_from` names.
    """

    text: str
    final: bool = False
    last: bool = False
    confidence: float = 1.0
    language: str = ""
    words: tuple[Word, ...] = ()
    usage: Usage | None = None
    """The consumption, for vendors that report it: that of the segment."""


class STTDialect(ConnectionDialect):
    """Translates for one connection of a speech-to-text vendor, and does no I/O."""

    confirms_opening: ClassVar[bool] = False
    times_from: ClassVar[Literal["connection", "utterance"]] = "connection"
    """The zero of the vendor's word times: the first audio of the connection, or of the utterance."""
    answers_within_s: float = inf
    """Seconds to wait for the answer to `finish`, for vendors that omit it without new text. A ping shows then that the
    connection is alive; a dead one is replaced, and the next one gets the utterance."""

    def begin(self) -> Sequence[WireMessage]:
        """Return the messages that precede an utterance's audio; many vendors need none."""
        return ()

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the messages for audio: mono s16le at the service's `sample_rate`, at most `MAX_MESSAGE_S` seconds."""
        raise NotImplementedError

    def finish(self) -> Sequence[WireMessage]:
        """Return the messages that end the utterance. The answer is a `Recognized` with `last`."""
        raise NotImplementedError


class SpokenAudio:
    """The utterance in progress: its audio in order, and the text that the vendor has sent for it.

    Holds at most `ring_bytes` bytes of audio. Older audio is dropped and counted.
    """

    def __init__(self, ring_bytes: int) -> None:
        self.dropped = 0
        """Bytes of audio that were dropped, and that a new connection would miss."""
        self.begun = False
        """True once the utterance was begun on the connection."""
        self.segments: list[Recognized] = []
        self.interim = ""
        self.earlier = ""
        """The longest text that an earlier connection had sent for it."""
        self.began_s = 0.0
        """Seconds of audio that the connection had received before this utterance."""
        self.answer: asyncio.Future[None] | None = None
        """Resolved by the vendor's answer to `finish`. None before `finish`."""
        self.began_at = asyncio.get_running_loop().time()
        """Loop time at which the utterance began."""
        self.asked_at: float | None = None
        """Loop time at which `finish` was sent."""
        self.used: Usage | None = None
        """The consumption that the vendor has reported for it."""
        self.repeated = False
        """True once the utterance was sent once more, because the vendor refused it."""
        self._ring_bytes = ring_bytes
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._unsent = 0

    def add(self, pcm: bytes) -> None:
        """Append audio."""
        self._pieces.append(pcm)
        self._bytes += len(pcm)
        self._unsent += 1
        self._drop_oldest()

    def keep(self, ring_bytes: int) -> None:
        """Hold at most `ring_bytes` bytes from now on. Audio that was dropped before is not counted."""
        self._ring_bytes, self.dropped = ring_bytes, 0
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while self._bytes > self._ring_bytes:
            oldest = self._pieces.popleft()
            self._bytes -= len(oldest)
            self.dropped += len(oldest)
            self._unsent = min(self._unsent, len(self._pieces))

    def take_unsent(self) -> list[bytes]:
        """Return the pieces that the connection has not received, oldest first."""
        pieces = [self._pieces[place] for place in range(-self._unsent, 0)]
        self._unsent = 0
        return pieces

    def rewind(self) -> None:
        """Forget the connection: the next one receives all audio, and sends all text."""
        self.earlier = max(self.earlier, self.text, key=len)
        self._unsent, self.begun = len(self._pieces), False
        self.segments.clear()
        self.interim, self.began_s = "", 0.0

    def count(self, usage: Usage | None) -> None:
        """Add consumption that the vendor reports."""
        if usage is not None:
            self.used = usage if self.used is None else add_usage(self.used, usage)

    @property
    def text(self) -> str:
        """The text that has come."""
        texts = [*(segment.text.strip() for segment in self.segments), self.interim.strip()]
        return " ".join(text for text in texts if text)


class RemoteSTT(RemoteService[STTDialect], STT):
    """Speech-to-text over one connection, which stays open between utterances.

    A service implements `dial` and `dialect`. Interim texts go out when they arrive. After a loss the next connection
    receives the utterance from its first sample, at most `ring_s` seconds. If `finish` is not answered within
    `timeout_s` seconds, the transcript is the text that has come, and the error is reported. The connection is replaced
    then, because a late answer could be mistaken for that of the next utterance. A refused utterance is sent once more.
    """

    def __init__(self, *, connection: ConnectionSettings | None = None) -> None:
        STT.__init__(self)
        RemoteService.__init__(self, connection)
        self._spoken: SpokenAudio | None = None
        self._sent_s = 0.0  # seconds of audio that the connection has received
        self._interim = ""  # the latest interim text that was not pushed yet
        self._telling = False

    def setup(self) -> tuple[str, ...]:
        """Return the settings that need a new connection. Override it if the vendor changes the language in place."""
        return (self.language,)

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Raises ConnectionLost if the vendor refuses, DeadlineExceeded if it takes too long."""
        await STT.open(self)
        await self.configured()
        self.config = self.setup()
        await self.connect_first()

    async def close(self) -> None:
        """Disconnect."""
        self._spoken = None
        await self.disconnect()

    # -- the utterance ---------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Begin an utterance. Connects again if the language changed or the previous utterance was not answered."""
        if self.failure is not None:
            raise self.failure
        self.abandon()
        self._interim = ""
        try:
            await self.use_setup(self.setup())
        except Exception as error:
            self.report(ServiceError(f"{self.name} stays with {self.config}: {error}"))
        self._spoken = SpokenAudio(int(self.connection_settings.ring_s * self.sample_rate) * 2)
        self._spoken.began_s = self._sent_s

    async def feed(self, pcm: bytes) -> str:
        """Send audio. Texts come later, as events of the vendor."""
        spoken = self._spoken
        assert spoken is not None
        step = int(MAX_MESSAGE_S * self.sample_rate) * 2
        for start in range(0, len(pcm), step):
            spoken.add(pcm[start : start + step])
        if self.connection is not None and not self.held:
            await self.connection.write(self._unsent(self.connection, spoken))
        return ""

    async def finish(self) -> Transcription:
        """End the utterance, and return its text once the vendor has sent it."""
        spoken = self._spoken
        assert spoken is not None
        if self.failure is not None:
            raise self.failure
        spoken.answer = asyncio.get_running_loop().create_future()
        if self.connection is not None and not self.held:
            self._ask_for_text(self.connection, spoken)
        await self._until_answered(spoken, spoken.answer)
        self.answered = spoken.answer.done()
        self._spoken = None
        return self._transcription(spoken, complete=self.answered)

    def partial(self) -> Transcription:
        """Return the text that has come of an utterance that failed."""
        return Transcription(text="") if self._spoken is None else self._transcription(self._spoken, complete=False)

    def abandon(self) -> None:
        """Give up the utterance in progress, and its connection: the vendor still has the audio."""
        spoken, self._spoken = self._spoken, None
        if spoken is not None and self.connection is not None and not self._speech.released:
            self.connection.lose("an utterance was not answered")

    async def _until_answered(self, spoken: SpokenAudio, answer: asyncio.Future[None]) -> None:
        now = asyncio.get_running_loop().time
        while not answer.done():
            within_s = self.connection.dialect.answers_within_s if self.connection is not None else inf
            left_s = inf if spoken.asked_at is None else spoken.asked_at + within_s - now()
            if left_s <= 0:
                if await self._is_there() and not answer.done():
                    return
                continue
            with anyio.move_on_after(min(left_s, self.timeout_s)):
                await asyncio.shield(answer)
        answer.result()

    async def _is_there(self) -> bool:
        """Return True if the vendor has no new text, False if its connection is dead: then the next one is asked."""
        connection = self.connection
        if connection is not None:
            await connection.check(PONG_S)
        return connection is not None and connection is self.connection

    def _transcription(self, spoken: SpokenAudio, *, complete: bool = True) -> Transcription:
        if not complete and len(spoken.earlier) > len(spoken.text):
            return Transcription(text=spoken.earlier)
        segments = spoken.segments
        dialect = self.connection.dialect if self.connection is not None else STTDialect()
        offset_s = spoken.began_s if dialect.times_from == "connection" else 0.0
        return Transcription(
            text=spoken.text,
            usage=spoken.used,
            confidence=min((segment.confidence for segment in segments), default=1.0),
            language=next((segment.language for segment in reversed(segments) if segment.language), ""),
            words=tuple(
                Word(word.text, max(0.0, word.start_s - offset_s), max(0.0, word.end_s - offset_s))
                for segment in segments
                for word in segment.words
            ),
        )

    # -- sending ---------------------------------------------------------------------------------------------------

    def _unsent(self, connection: Connection[STTDialect], spoken: SpokenAudio) -> list[WireMessage]:
        messages: list[WireMessage] = []
        if not spoken.begun:
            spoken.begun = True
            messages.extend(connection.dialect.begin())
        for pcm in spoken.take_unsent():
            self._sent_s += len(pcm) / (2 * self.sample_rate)
            messages.extend(connection.dialect.audio(pcm))
        return messages

    def _ask_for_text(self, connection: Connection[STTDialect], spoken: SpokenAudio) -> None:
        connection.send([*self._unsent(connection, spoken), *connection.dialect.finish()])
        spoken.asked_at = asyncio.get_running_loop().time()

    def attached(self, connection: Connection[STTDialect]) -> None:
        """Send the utterance in progress from its first sample."""
        self._sent_s = 0.0
        spoken = self._spoken
        if spoken is None:
            return
        if spoken.dropped:
            lost_s = spoken.dropped / (2 * self.sample_rate)
            self.report(ServiceError(f"the first {lost_s:.2f} s of an utterance were lost with the connection"))
        spoken.rewind()
        connection.send(self._unsent(connection, spoken))
        if spoken.answer is not None:
            self._ask_for_text(connection, spoken)

    def hold(self, held: bool) -> None:
        """Hold audio back, or send the audio that was held."""
        super().hold(held)
        if not held and self.connection is not None and self._spoken is not None:
            self.connection.send(self._unsent(self.connection, self._spoken))
            if self._spoken.answer is not None and self._spoken.asked_at is None:
                self._ask_for_text(self.connection, self._spoken)

    # -- for the keeper --------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Return True between utterances."""
        return self._spoken is None

    def was_quiet(self, age_s: float) -> bool:
        """Return True if no utterance began more than `age_s` seconds ago: a younger one was held back as a whole."""
        return self._spoken is None or asyncio.get_running_loop().time() - self._spoken.began_at < age_s

    def waits_since(self) -> float | None:
        """Return the loop time since which the vendor owes the text of an utterance, None if it owes none."""
        return self._spoken.asked_at if self._spoken is not None else None

    def detached(self) -> None:
        """Forget that the text was requested: the next connection is asked again."""
        if self._spoken is not None:
            self._spoken.asked_at = None

    def given_up(self, error: Exception) -> None:
        """Fail the utterance: the keeper has given up connecting."""
        super().given_up(error)
        self._fail_answer(self.failure or error)

    # -- from the vendor -------------------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Take text, or a refusal."""
        if isinstance(event, Recognized):
            self._take(event)
        elif isinstance(event, Refused):
            error = ServiceError(f"{event.code}: {event.message}")
            if event.about or not (self._repeat() or self._fail_answer(error)):
                self.report(error)

    def _repeat(self) -> bool:
        """Send a refused utterance once more. Returns False if none waits for its text, or it was repeated already."""
        spoken = self._spoken
        if spoken is None or spoken.asked_at is None or spoken.repeated or spoken.dropped or self.connection is None:
            return False
        if self.held or spoken.answer is None or spoken.answer.done():
            return False
        spoken.repeated = True
        spoken.rewind()
        spoken.began_s = self._sent_s
        self._ask_for_text(self.connection, spoken)
        return True

    def _take(self, heard: Recognized) -> None:
        spoken = self._spoken
        over = spoken is None or (heard.last and spoken.asked_at is None)
        if spoken is None or over or (spoken.answer is not None and spoken.answer.done()):
            return  # its utterance is over, or this is a second answer
        spoken.count(heard.usage)
        before = spoken.text
        if heard.final:
            spoken.interim = ""
            if heard.text.strip():
                spoken.segments.append(heard)
        else:
            spoken.interim = heard.text
        if spoken.answer is None:
            if spoken.text != before:
                self._tell_soon(spoken.text)
        elif heard.last:
            spoken.answer.set_result(None)

    def _fail_answer(self, error: Exception) -> bool:
        """Fail the utterance that waits for its text. Returns False if none is waiting."""
        answer = self._spoken.answer if self._spoken is not None else None
        if answer is None or answer.done():
            return False
        answer.set_exception(error)
        return True

    def _tell_soon(self, text: str) -> None:
        """Push an interim text in a task of its own, because the vendor's reader must not wait for a slow hook."""
        self._interim = text
        if text and not self._telling:
            self._telling = True
            self.spawn(self._tell_latest)

    async def _tell_latest(self) -> None:
        try:
            while self._interim:
                text, self._interim = self._interim, ""
                await self.tell_interim(text)
        finally:
            self._telling = False
