"""The messages that ElevenLabs accepts, checked as strictly as its documents describe them, and its refusals.

Sources: the AsyncAPI documents of the multi-context WebSocket and of the realtime speech-to-text (docs of
elevenlabs.io, November 2026), and the types of the `elevenlabs` package.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar

import msgspec

from ...errors import BadInput

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Strict = TypeVar("Strict", bound="Checked")


REFUSALS = {
    400: ("voice_not_found", "A voice for the voice_id was not found."),
    401: ("invalid_api_key", "Invalid API key"),
    403: ("missing_permissions", "The API key is missing a permission."),
    429: ("too_many_concurrent_requests", "Your plan allows 5 requests at once."),
    503: ("system_busy", "The system is busy."),
}
"""The codes and messages of refusals, by HTTP status."""


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message without unknown fields, whose values have their types."""


class Settings(Checked, frozen=True, kw_only=True):
    """The voice settings of a context."""

    stability: Share | None = None
    similarity_boost: Share | None = None
    style: Share | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.7, le=1.2)] | None = None
    use_speaker_boost: bool | None = None


class Generation(Checked, frozen=True, kw_only=True):
    """The generation settings of a context."""

    chunk_length_schedule: tuple[Annotated[float, msgspec.Meta(ge=50, le=500)], ...] | None = None


class Locator(Checked, frozen=True, kw_only=True):
    """A pronunciation dictionary."""

    pronunciation_dictionary_id: str
    version_id: str


class TTSMessage(Checked, frozen=True, kw_only=True):
    """A client's message on the multi-context WebSocket."""

    text: str | None = None
    context_id: str | None = None
    flush: bool | None = None
    close_context: bool | None = None
    close_socket: bool | None = None
    voice_settings: Settings | None = None
    generation_config: Generation | None = None
    pronunciation_dictionary_locators: Annotated[tuple[Locator, ...], msgspec.Meta(max_length=3)] | None = None
    xi_api_key: str | None = None
    authorization: str | None = None

    @property
    def has_settings(self) -> bool:
        """True for a message with settings, which only the first message of a context may have."""
        return (self.voice_settings or self.generation_config or self.pronunciation_dictionary_locators) is not None


class STTMessage(Checked, frozen=True, kw_only=True):
    """A client's message on the realtime speech-to-text WebSocket."""

    message_type: Literal["input_audio_chunk"]
    audio_base_64: bytes
    commit: bool
    sample_rate: int
    previous_text: str | None = None


class TTSBody(Checked, frozen=True, kw_only=True):
    """The body of a request for speech over HTTP."""

    text: Annotated[str, msgspec.Meta(min_length=1)]
    model_id: str = "eleven_multilingual_v2"
    language_code: str | None = None
    voice_settings: Settings | None = None
    pronunciation_dictionary_locators: Annotated[tuple[Locator, ...], msgspec.Meta(max_length=3)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=4_294_967_295)] | None = None
    previous_text: str | None = None
    next_text: str | None = None
    apply_text_normalization: Literal["auto", "on", "off"] | None = None


def checked(message: str | bytes, kind: type[Strict]) -> Strict:
    """Return a message as `kind`. Raises BadInput if it does not fit."""
    try:
        return msgspec.json.decode(message, type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadInput(f"the client has sent what ElevenLabs refuses: {error}") from error


def refusal_body(status: int) -> bytes:
    """Return the body of a refusal with an HTTP status."""
    code, message = REFUSALS.get(status, ("not_found", "Not Found"))
    return json.dumps({"detail": {"status": code, "message": message}}).encode()
