"""`ScriptedCascade`: the services of a cascade by name, each over its SDK and a scripted server of its own.

async with ScriptedCascade("deepgram", "openai", "elevenlabs", [[Speak("Hello.")]], ["Hi."]) as scripted:
    engine = scripted.cascade()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeAlias

from ...errors import ConfigurationError
from ...services.cascade import Cascade
from ...services.openai.tts_options import DEFAULT_TTS_MODEL, OpenAITTSOptions, voices_of
from ...services.vendors import Kind, find
from .assemblyai import ScriptedAssemblyAI
from .cartesia import ScriptedCartesia
from .deepgram import ScriptedDeepgram
from .elevenlabs import ScriptedElevenLabs
from .elevenlabs_http import ScriptedElevenLabsHTTP
from .gemini_http import ScriptedGeminiHTTP
from .manners import Manners
from .openai import ScriptedOpenAI
from .openai_api import ScriptedOpenAIHTTP
from .openai_transcription import TranscriptionScript
from .server import Model
from .text_model import TextAct

Transcripts: TypeAlias = Sequence[str] | Callable[[bytes, int], str]
"""The texts of the utterances in order, or a recogniser of their audio at a sample rate in Hz."""
KEY = "test"


@dataclass(kw_only=True)
class Delays:
    """The times that the vendors take, in seconds."""

    setup_s: float = 0.0
    """Before a connection for speech-to-text is accepted."""
    transcript_s: float = 0.0
    """From the end of an utterance to its transcript."""
    first_token_s: float = 0.0
    token_s: float = 0.0
    """Between two tokens."""
    first_audio_s: float = 0.0
    """From a text to its first audio."""
    pace: float = 0.0
    """The speed of the agent's audio relative to real time; 0 for all at once."""


@dataclass(kw_only=True)
class Ear:
    """A speech-to-text vendor: the texts that it gives."""

    transcripts: Any
    so_far: Callable[[bytes], str] | None
    interim_s: float
    delays: Delays
    manners: Manners | None

    def deepgram(self) -> ScriptedDeepgram:
        """Return Deepgram's server."""
        return ScriptedDeepgram(**self._usual())

    def elevenlabs(self) -> ScriptedElevenLabs:
        """Return ElevenLabs' server."""
        return ScriptedElevenLabs(**self._usual())

    def _usual(self) -> dict[str, Any]:
        delays = self.delays
        times = {"setup_delay_s": delays.setup_s, "answer_delay_s": delays.transcript_s, "interim_s": self.interim_s}
        return {"manners": self.manners, "transcripts": self.transcripts, **times}

    def realtime(self) -> ScriptedOpenAI:
        """Return OpenAI's server for transcription in real time."""
        return ScriptedOpenAI(
            manners=self.manners,
            transcription=TranscriptionScript(interim_s=self.interim_s, interim=self.so_far),
            transcripts=self.transcripts,
            setup_delay_s=self.delays.setup_s,
            transcript_delay_s=self.delays.transcript_s,
        )

    def file(self) -> ScriptedOpenAIHTTP:
        """Return OpenAI's server for transcriptions of files."""
        server = ScriptedOpenAIHTTP(manners=self.manners)
        server.transcriptions.transcripts, server.transcriptions.delay_s = self.transcripts, self.delays.transcript_s
        return server

    def assemblyai(self) -> ScriptedAssemblyAI:
        """Return AssemblyAI's server."""
        return ScriptedAssemblyAI(**self._usual())

    def cartesia(self) -> ScriptedCartesia:
        """Return Cartesia's server."""
        return ScriptedCartesia(**self._usual())


EARS: dict[str, Callable[[Ear], Any]] = {
    "deepgram": Ear.deepgram,
    "deepgram-flux": Ear.deepgram,
    "elevenlabs": Ear.elevenlabs,
    "openai": Ear.realtime,
    "openai-file": Ear.file,
    "assemblyai": Ear.assemblyai,
    "cartesia": Ear.cartesia,
}
MODELS: dict[str, Callable[..., Any]] = {
    "openai": ScriptedOpenAIHTTP,
    "openai-responses": ScriptedOpenAIHTTP,
    "gemini": ScriptedGeminiHTTP,
}
MOUTHS: dict[str, Callable[..., Any]] = {
    "elevenlabs": ScriptedElevenLabs,
    "elevenlabs-http": ScriptedElevenLabsHTTP,
    "deepgram": ScriptedDeepgram,
    "deepgram-flux": ScriptedDeepgram,
    "openai": ScriptedOpenAIHTTP,
    "cartesia": ScriptedCartesia,
}


def _voices(server: Any) -> list[str]:
    """Return the voices of the texts that a server was given, in order."""
    match server:
        case ScriptedDeepgram():
            return [got.query["model"][0] for got in server.got if got.texts()]
        case ScriptedElevenLabs():
            return [got.voice for got in server.got if got.texts]
        case ScriptedCartesia():
            return [voice for got in server.got for voice in got.voices]
        case ScriptedElevenLabsHTTP():
            return [request.path.split("/")[3] for request in server.requests]
        case _:
            return [str(request.json["voice"]) for request in server.speech.requests]


@dataclass
class ScriptedCascade:
    """The three vendors of a cascade. An async context manager: while it is open, `cascade` makes an engine.

    `stt`, `llm` and `tts` are names of `duologue.services.vendors`. Raises ConfigurationError for a name without a
    scripted server.
    """

    stt: str
    llm: str
    tts: str
    model: Model | Sequence[Sequence[TextAct]]
    """The language model's script."""
    transcripts: Transcripts
    """The caller's words."""
    so_far: Callable[[bytes, int], str] | None = None
    """OpenAI's words while the caller speaks, for a recogniser as `transcripts`."""
    interim_s: float = 0.0
    """Seconds of the caller's audio between two interim texts; 0 for none."""
    delays: Delays = field(default_factory=Delays)
    manners: Manners | None = None
    """The faults that the vendors show."""

    def __post_init__(self) -> None:
        self._names: list[tuple[Kind, str]] = [("stt", self.stt), ("llm", self.llm), ("tts", self.tts)]
        for (kind, name), servers in zip(self._names, (EARS, MODELS, MOUTHS), strict=True):
            find(kind, name)
            if name not in servers:
                raise ConfigurationError(f"no scripted server for the {kind} {name!r}: there are {', '.join(servers)}")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        rate, texts, so_far = find("stt", self.stt).load().sample_rate, self.transcripts, self.so_far
        ear = Ear(
            transcripts=(lambda pcm: texts(pcm, rate)) if callable(texts) else texts,
            so_far=None if so_far is None else lambda pcm: so_far(pcm, rate),
            interim_s=self.interim_s,
            delays=self.delays,
            manners=self.manners,
        )
        self.stt_server = EARS[self.stt](ear)
        self.llm_server = MODELS[self.llm](self.model, manners=self.manners)
        self.tts_server = MOUTHS[self.tts](manners=self.manners)
        text_model = self.llm_server.model
        text_model.first_token_s, text_model.token_s = self.delays.first_token_s, self.delays.token_s
        self._pace_speech()
        for server in (self.stt_server, self.llm_server, self.tts_server):
            await self._stack.enter_async_context(server)
        return self

    def _pace_speech(self) -> None:
        server, first_audio_s, pace = self.tts_server, self.delays.first_audio_s, self.delays.pace
        if isinstance(server, ScriptedOpenAIHTTP):
            server.speech.first_byte_s, server.speech.pace = first_audio_s, pace
        else:
            server.behaviour.first_audio_s, server.behaviour.pace = first_audio_s, pace

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    def arguments(self) -> dict[Kind, dict[str, Any]]:
        """Return the arguments of the three classes: the key, and the address of the server."""
        servers: dict[Kind, Any] = {"stt": self.stt_server, "llm": self.llm_server, "tts": self.tts_server}
        found: dict[Kind, dict[str, Any]] = {
            kind: {"api_key": KEY, "base_url": server.url} for kind, server in servers.items()
        }
        if self.tts == "openai":  # without them any voice is taken at another address than OpenAI's
            found["tts"]["options"] = OpenAITTSOptions(voices=voices_of(DEFAULT_TTS_MODEL))
        return found

    def cascade(self) -> Cascade:
        """Return a new engine over the servers."""
        given = self.arguments()
        stt, llm, tts = (find(kind, name).load()(**given[kind]) for kind, name in self._names)
        return Cascade(stt, llm, tts)

    # -- the record ------------------------------------------------------------------------------------------------

    @property
    def audio(self) -> list[bytes]:
        """The caller's audio on each connection of the speech-to-text service, at the service's rate."""
        return [bytes(got.audio) for got in self.stt_server.got]

    @property
    def voice(self) -> str:
        """The voice of the latest text that was spoken, "" before it."""
        return next(reversed(_voices(self.tts_server)), "")
