"""`Fallback`: several services of one kind as one service, which goes on when one of them fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from ...errors import ConfigurationError
from ..llm import LLM
from ..stt import STT
from ..tts import TTS
from .llm import FallbackLLM
from .members import FallbackLimits
from .stt import FallbackSTT
from .tts import FallbackTTS

__all__ = ["Fallback", "FallbackLLM", "FallbackSTT", "FallbackTTS"]


@overload
def Fallback(
    services: Sequence[STT],
    *,
    first_s: float = ...,
    stall_s: float = ...,
    retry_s: float = ...,
    warm: bool | None = ...,
) -> FallbackSTT: ...
@overload
def Fallback(
    services: Sequence[LLM],
    *,
    first_s: float = ...,
    stall_s: float = ...,
    retry_s: float = ...,
    warm: bool | None = ...,
) -> FallbackLLM: ...
@overload
def Fallback(
    services: Sequence[TTS],
    *,
    first_s: float = ...,
    stall_s: float = ...,
    retry_s: float = ...,
    warm: bool | None = ...,
) -> FallbackTTS: ...
def Fallback(  # noqa: N802 - it stands where a service's class does
    services: Sequence[STT] | Sequence[LLM] | Sequence[TTS],
    *,
    first_s: float = 3.0,
    stall_s: float = 3.0,
    retry_s: float = 5.0,
    warm: bool | None = None,
) -> FallbackSTT | FallbackLLM | FallbackTTS:
    """Return a service that uses the first of these services that works.

        Cascade(
            Fallback([DeepgramSTT(), ElevenLabsSTT()]),
            Fallback([OpenAILLM(), GeminiLLM()]),
            Fallback([ElevenLabsTTS(), OpenAITTS()]),
        )

    A service has failed if it refuses, breaks off, answers with something malformed, or takes too long: `first_s`
    seconds to the first piece of its answer (the text of an utterance, a word or tool call, a piece of audio) or
    `stall_s` from one piece to the next. A model over HTTP that thinks first has its own `limits.first_word_s` for
    that. The last service that works has the limits of its own instead. A rate limit that names a wait of at most 0.5 s
    does not count as a failure: the service is asked once more.

    The next service gets what was in progress. STT: the utterance from its first sample. LLM: the same request with
    the words that were given as the beginning of the answer, to be continued; tool calls of an answer that failed are
    not made. TTS: the sentence from the first word that was not spoken as a whole; it is found by word times or, within
    one word, by the pace of the voice. A response keeps its voice unless that fails. If all services fail, the call
    goes on as with a single service that has failed.

    A service that has failed is probed by a short request after `retry_s` seconds; the pause doubles with each probe
    that fails. When one succeeds, the next utterance, answer or response uses the service again. Every change is a
    `ServiceChanged` signal and a line in the log. `Usage` names the service.

    All services open with the call if `warm`, and each but the first when it is needed if it is False. With None, those
    with a connection to a vendor of their own open when they are needed. The call begins if one of them can be opened.

    Audio is converted to the sample rate of the first service. A voice that an `Agent` names as one text is the first
    service's; those of the others are found by their families, as in `voice={"elevenlabs": "…", "openai": "marin"}`. An
    option of the agent goes to the models that take it.

    Raises ConfigurationError without services, for services of several kinds, for one that is used twice, and for an
    STT that finds the caller's turns itself.
    """
    limits = FallbackLimits(first_s=first_s, stall_s=stall_s, retry_s=retry_s, warm=warm)
    if not isinstance(services, Sequence) or not services:
        raise ConfigurationError(f"Fallback takes a list of services, not {services!r}")
    if stt := [service for service in services if isinstance(service, STT)]:
        _check_all(services, stt)
        return FallbackSTT(stt, limits)
    if llm := [service for service in services if isinstance(service, LLM)]:
        _check_all(services, llm)
        return FallbackLLM(llm, limits)
    tts = [service for service in services if isinstance(service, TTS)]
    _check_all(services, tts)
    return FallbackTTS(tts, limits)


def _check_all(services: Sequence[object], found: Sequence[object]) -> None:
    if len(found) < len(services):
        raise ConfigurationError(
            f"Fallback takes services of one kind, STT, LLM or TTS, not {', '.join(map(repr, services))}"
        )
