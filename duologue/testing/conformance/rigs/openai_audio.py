"""The cascade of OpenAI's speech services over the official SDK, and scripted servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from ....frames import Configure
from ....services.openai.options import SAMPLE_RATE
from ....services.openai.stt import OpenAISTT
from ....services.openai.tts import OpenAITTS
from ....services.openai.tts_options import DEFAULT_TTS_MODEL, OpenAITTSOptions, voices_of
from ....services.remote.connection import ConnectionSettings
from ...scripted.manners import Manners
from ...scripted.openai import ScriptedOpenAI
from ...scripted.openai_api import ScriptedOpenAIHTTP
from ...scripted.openai_transcription import TranscriptionScript
from ...scripted.server import Act, Model
from ..phrases import understand, understand_so_far
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .cascade import ScriptedEnd
from .remote import INTERIM_S


class OpenAIAudioEnd(ScriptedEnd):
    """Both speech services, and a language model that follows a script."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]],
        ears: ScriptedOpenAI,
        mouth: ScriptedOpenAIHTTP,
        connection: ConnectionSettings | None,
        manners: Manners | None,
    ) -> None:
        stt = OpenAISTT(api_key="test", base_url=ears.url, connection=connection)
        options = OpenAITTSOptions(voices=voices_of(DEFAULT_TTS_MODEL))
        tts = OpenAITTS(api_key="test", base_url=mouth.url, options=options)
        super().__init__(model, stt, tts, manners)
        self._ears, self._mouth = ears, mouth

    @property
    def voice(self) -> str:
        requests = self._mouth.speech.requests
        return str(requests[-1].json["voice"]) if requests else ""

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self._ears.got]


class OpenAIAudioRig(Rig):
    """OpenAI's speech-to-text and text-to-speech. Needs the extras `openai` and `testing`.

    The faults of the suite are those of an engine with one connection. This one has several, and is tested for faults
    elsewhere.
    """

    name = "OpenAI STT and TTS"
    parts = ("llm", "openai", "speak")
    interim = True
    voices = ("ash", "coral")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade with OpenAI's speech services, whose language model is the script."""
        return _started(model, conditions, self.manners)


@asynccontextmanager
async def _started(
    model: Model | Sequence[Sequence[Act]], conditions: Conditions, manners: Manners | None
) -> AsyncIterator[FarEnd]:
    so_far = partial(understand_so_far, sample_rate=SAMPLE_RATE)
    ears = ScriptedOpenAI(
        manners=manners,
        transcription=TranscriptionScript(interim_s=INTERIM_S, interim=so_far),
        transcripts=partial(understand, sample_rate=SAMPLE_RATE),
        setup_delay_s=conditions.setup_delay_s,
        transcript_delay_s=conditions.transcript_delay_s,
    )
    async with ears, ScriptedOpenAIHTTP(manners=manners) as mouth:
        yield OpenAIAudioEnd(model, ears, mouth, conditions.connection, manners)
