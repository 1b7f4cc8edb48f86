"""`OpenAISTT`: OpenAI's speech-to-text over a transcription session of the Realtime API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ...frames.text import to_json
from ...protocols.openai_realtime.session import MIN_COMMIT_MS
from ...session.boundary import look_outside
from ..remote import ConnectionSettings, Event, Opened, Recognized, Refused, RemoteSTT, STTDialect, Wire, WireMessage
from ..remote.ids import Recent, Seen
from .options import SAMPLE_RATE, SETUP_ID, TRANSCRIPTION_FAMILIES, session_left_s
from .responses import FINAL_ERRORS, MAX_ERROR_TEXT, consumed
from .stt_options import (
    DEFAULT_STT_MODEL,
    MAX_TRANSCRIPT,
    OpenAISTTOptions,
    check_model,
    transcription_session,
    with_terms,
)
from .wire import OpenAIClient, append_audio
from .wire_in import (
    ErrorMessage,
    InputCommitted,
    SessionCreated,
    SessionInfo,
    SessionUpdated,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    decode_message,
)

LANGUAGE_ID = "language"
"""The id of a change of the language."""
_EMPTY = "input_audio_buffer_commit_empty"
_MIN_COMMIT_BYTES = int(MIN_COMMIT_MS / 1000 * SAMPLE_RATE) * 2
_COMMIT = '{"type":"input_audio_buffer.commit"}'
_CLEAR = '{"type":"input_audio_buffer.clear"}'


class OpenAISTTDialect(STTDialect):
    """Translates for one connection. An utterance is an item: the audio that one `commit` ends.

    `session` returns the settings for the language of now, `provider_now` the provider's time if it is known.
    """

    confirms_opening: ClassVar[bool] = True

    def __init__(self, session: Callable[[], dict[str, Any]], provider_now: Callable[[], float | None]) -> None:
        self._session, self._provider_now = session, provider_now
        self._told: dict[str, Any] = {}  # the settings that were sent
        self._opened = False
        self._info = SessionInfo()
        self._seen = Seen(1024)  # ids of the messages that were read
        self._over: Recent[bool] = Recent(1024)  # items that have their text
        self._texts: dict[str, str] = {}  # the texts of the items of this utterance
        self._appended = 0  # bytes since the latest commit
        self._asked = False  # the text of a commit is awaited
        self._item = ""  # the item of that commit, "" until it is known

    # -- to the vendor ---------------------------------------------------------------------------------------------

    def setup(self) -> Sequence[WireMessage]:
        """Return the message with every setting."""
        return self._update(SETUP_ID)

    def _update(self, update_id: str) -> Sequence[WireMessage]:
        self._told = self._session()
        return (to_json({"type": "session.update", "event_id": update_id, "session": self._told}),)

    def begin(self) -> Sequence[WireMessage]:
        """Return the messages that change the language, and that clear the audio of an abandoned utterance."""
        for item in filter(None, self._texts):
            self._over[item] = True
        self._texts.clear()
        clear = (_CLEAR,) if self._appended else ()
        self._appended, self._asked, self._item = 0, False, ""
        return (*clear, *(self._update(LANGUAGE_ID) if self._session() != self._told else ()))

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the message that appends audio."""
        self._appended += len(pcm)
        return (append_audio(pcm),)

    def finish(self) -> Sequence[WireMessage]:
        """Return the message that makes the audio an item. Silence is added to audio that is too short for one."""
        missing = _MIN_COMMIT_BYTES - self._appended
        self._appended, self._asked = 0, True
        return (*((append_audio(bytes(missing)),) if missing > 0 else ()), _COMMIT)

    # -- from the vendor -------------------------------------------------------------------------------------------

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events of a message, none for a repeated one."""
        got = decode_message(message, [])
        if got.event_id and not self._seen.add(got.event_id):
            return ()
        match got:
            case TranscriptDelta():
                return self._on_delta(got.item_id or "", got.delta or "")
            case TranscriptCompleted():
                return self._on_completed(got)
            case TranscriptFailed():
                return self._on_failed(got)
            case InputCommitted() if self._asked and not self._item:
                self._item = got.item_id or ""
            case SessionCreated(session=SessionInfo() as info):
                self._info = info
            case SessionUpdated() if not self._opened:
                self._opened = True
                left_s = look_outside("time", self._left_s)
                return (Opened(session_id=self._info.id or "", left_s=left_s),)
            case ErrorMessage():
                return self._on_error(got)
        return ()

    def _left_s(self) -> float | None:
        return session_left_s(self._info.expires_at, time.time(), self._provider_now())

    def _on_delta(self, item: str, delta: str) -> Sequence[Event]:
        if not delta or item in self._over:
            return ()
        self._texts[item] = text = (self._texts.get(item, "") + delta)[:MAX_TRANSCRIPT]
        return (Recognized(text=text),)

    def _on_completed(self, got: TranscriptCompleted) -> Sequence[Event]:
        answers = self._ends(got.item_id or "")
        if answers is None:
            return ()
        text = (got.transcript or "")[:MAX_TRANSCRIPT]
        used = consumed(got.usage)
        return (Recognized(text=text, final=True, last=answers, language=got.language, usage=used),)

    def _on_failed(self, got: TranscriptFailed) -> Sequence[Event]:
        answers = self._ends(got.item_id or "")
        if answers is None:
            return ()
        error = got.error
        code = (error and (error.code or error.type)) or "transcription_failed"
        text = ((error and error.message) or "the utterance was not transcribed")[:MAX_ERROR_TEXT]
        return (Refused(code=code, message=text, fatal=code in FINAL_ERRORS),)

    def _ends(self, item: str) -> bool | None:
        """Note the end of an item. Returns True if it answers the commit, None if the item has ended before."""
        if item in self._over or not (item or self._asked):
            return None
        if item:
            self._over[item] = True
        self._texts.pop(item, None)
        if not self._asked or (item and self._item and item != self._item):
            return False
        self._asked, self._item = False, ""
        return True

    def _on_error(self, got: ErrorMessage) -> Sequence[Event]:
        error = got.detail
        code, kind, about = error.code or error.type or "error", error.type or "", error.event_id or ""
        if _EMPTY in (code, kind):
            answers, self._asked = self._asked, False
            return (Recognized(text="", final=True, last=True),) if answers else ()
        final = code in FINAL_ERRORS or kind in FINAL_ERRORS
        final = final or (about == SETUP_ID and kind == "invalid_request_error")
        return (Refused(code=code, message=(error.message or "")[:MAX_ERROR_TEXT], about=about, fatal=final),)


class OpenAISTT(RemoteSTT):
    """Speech-to-text of OpenAI over one transcription session. Needs the extra `openai`.

    The framework finds the caller's turns and ends each with a `commit`. gpt-live-transcribe and gpt-realtime-whisper
    write while the caller speaks; the other models write after the end of the turn. `api_key` and `base_url` are those
    of `OpenAIRealtime`. The language is the agent's, and changes without a new connection.

    Raises MissingExtra without the SDK, and ConfigurationError without a key or for options that the model refuses.
    """

    sample_rate = SAMPLE_RATE
    extra = "openai"

    def __init__(
        self,
        model: str = DEFAULT_STT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        options: OpenAISTTOptions | None = None,
        connection: ConnectionSettings | None = None,
    ) -> None:
        super().__init__(connection=connection)
        self.model = model
        self.options = options or OpenAISTTOptions()
        check_model(model, self.options, TRANSCRIPTION_FAMILIES)
        self._client = OpenAIClient(api_key, base_url)
        self._client.check()

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keywords`, or to the `prompt` of a model without keywords."""
        self.options, count = with_terms(self.model, self.options, terms)
        return count

    def setup(self) -> tuple[str, ...]:
        """Return no settings: the language changes on the open connection."""
        return ()

    async def dial(self, setup: tuple[str, ...]) -> Wire:
        """Open a connection."""
        return await self._client.dial(intent="transcription")

    def dialect(self, setup: tuple[str, ...]) -> OpenAISTTDialect:
        """Return a translator for one connection."""
        return OpenAISTTDialect(
            lambda: transcription_session(self.model, self.options, self.language), self._client.provider_now
        )

    async def close(self) -> None:
        """Disconnect, and release the SDK's client."""
        try:
            await super().close()
        finally:
            await self._client.close()
