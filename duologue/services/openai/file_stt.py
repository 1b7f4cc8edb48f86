"""`OpenAIFileSTT`: speech-to-text over `/audio/transcriptions`, a request for each utterance."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import BadInput, ConfigurationError, ServiceError
from ...frames import Usage
from ...frames.text import from_json
from ..remote.lenient import read_leniently
from ..stt import STT, Transcription
from .api import OpenAIAPI, Streamed
from .options import TRANSCRIPTION_FAMILIES, language_code
from .responses import consumed
from .stt_options import (
    DEFAULT_STT_MODEL,
    MAX_TRANSCRIPT,
    NOT_STREAMED,
    STREAMED_ONLY,
    OpenAIFileSTTOptions,
    check_model,
    with_terms,
)
from .wire_in import WireUsage


class _HeardLanguage(msgspec.Struct, frozen=True):
    code: str = ""


class _FileError(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | None = None


class _FileEvent(msgspec.Struct, frozen=True):
    """An event of the stream, or a whole transcription."""

    type: str = ""
    delta: str = ""
    text: str | None = None
    language: str = ""
    languages: list[_HeardLanguage] | None = None
    error: _FileError | None = None
    usage: Any = None


_told = msgspec.json.Decoder(_FileEvent, strict=False)


class OpenAIFileSTT(STT):
    """Sends each utterance as a file when it is over. Needs the extra `openai`.

    It has the best words, because the model hears the whole utterance first, and the latest: there are no interim
    texts. Where a model streams its text, a transcript that breaks off has the words that have come. `api_key` and
    `base_url` are those of `OpenAITTS`: any server with `/audio/transcriptions` works.

    Raises MissingExtra without the SDK, and ConfigurationError without a key or for options that the model refuses.
    """

    timeout_s = 10.0

    def __init__(
        self,
        model: str = DEFAULT_STT_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        options: OpenAIFileSTTOptions | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.options = options or OpenAIFileSTTOptions()
        check_model(model, self.options, TRANSCRIPTION_FAMILIES)
        if re.fullmatch(STREAMED_ONLY, model):
            raise ConfigurationError(f"{model} takes no files: use OpenAISTT")
        self._api = OpenAIAPI(api_key, base_url)
        self._api.check()
        self._audio = bytearray()
        self._text = ""  # the text that the request in progress has brought

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keywords`, or to the `prompt` of a model without keywords."""
        self.options, count = with_terms(self.model, self.options, terms)
        return count

    async def open(self) -> None:
        """Open a connection. Raises ConnectionLost for a refused key or an unknown model."""
        await super().open()
        await self._api.warm(self.model)

    async def close(self) -> None:
        """Release the connections."""
        await self._api.close()

    async def begin(self) -> None:
        """Begin an utterance. Opens a connection meanwhile, unless one was in use a short time ago."""
        self._audio.clear()
        self._text = ""
        if self._api.is_idle:
            self.spawn(self._api.warm_again, self.model)

    async def feed(self, pcm: bytes) -> str:
        """Keep the audio."""
        self._audio += pcm
        return ""

    def partial(self) -> Transcription:
        """Return the words that had come when the request failed."""
        return Transcription(text=self._text)

    async def finish(self) -> Transcription:
        """Send the utterance, and return its text. Raises ConnectionLost, ServiceError, BadInput."""
        self._text = ""
        if not self._audio:
            return Transcription(text="")
        file = ("utterance.wav", wav(bytes(self._audio), self.sample_rate), "audio/wav")
        response = await self._api.begin("/audio/transcriptions", self._body(), self.model, file=file)
        stream, complete = self._api.events(response), False
        try:
            said = await self._read(stream)
            complete = True
            return said
        finally:
            stream.release(complete=complete)

    def _body(self) -> dict[str, Any]:
        options = self.options
        body: dict[str, Any] = {"model": self.model, "response_format": "json"}
        if code := language_code(self.language) or options.language:
            body["language"] = code
        elif options.languages:
            body["languages"] = list(options.languages)
        if options.prompt:
            body["prompt"] = options.prompt
        if options.keywords:
            body["keywords"] = list(options.keywords)
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if not re.fullmatch(NOT_STREAMED, self.model):
            body["stream"] = True
        return body

    async def _read(self, stream: Streamed) -> Transcription:
        while (event := await stream.next()) is not None:
            if event.strip() == b"[DONE]":
                break
            try:
                told: _FileEvent = from_json(event, _told)
            except msgspec.DecodeError as error:
                raise BadInput(f"not a transcription of {self._api.address}: {error}") from error
            if told.error is not None:
                code = told.error.code or ""
                raise ServiceError(f"the transcription failed: {code}: {told.error.message}"[:500])
            if told.type == "transcript.text.delta":
                self._text = (self._text + told.delta)[:MAX_TRANSCRIPT]
            elif told.text is not None and told.type in ("", "transcript.text.done"):
                languages = [language.code for language in told.languages or ()]
                language = next(iter(languages), "") or told.language
                return Transcription(text=told.text[:MAX_TRANSCRIPT], language=language, usage=_used(told.usage))
        raise ServiceError("the transcript has no end")


def _used(usage: Any) -> Usage | None:
    try:
        return consumed(read_leniently(usage, WireUsage | None, []))
    except msgspec.ValidationError:  # the text is worth more
        return None


def wav(pcm: bytes, rate: int) -> bytes:
    """Return mono s16le audio as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(pcm)
    return file.getvalue()
