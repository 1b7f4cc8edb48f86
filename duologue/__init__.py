"""Duologue: real-time voice agents as a pipeline of typed frames.

    session = Session(Pipeline([transport.input(), Vad(), Endpointing(), Interruption(),
                                Cascade(stt, llm, tts), Tools(), transport.output()]))
    outcome = run(session)

Ten import paths are for users: `duologue` (this one), `duologue.frames`, `duologue.tools`, `duologue.mcp`,
`duologue.images`, `duologue.web`, `duologue.telemetry`, `duologue.testing`, `duologue.services.<vendor>`,
`duologue.services.local`. Authors of services and transports also use `duologue.services.native`,
`duologue.services.remote` and `duologue.transports`. All else may change without notice.

The names are imported when they are first used: `import duologue` loads none of the modules behind them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazily

if TYPE_CHECKING:
    from .agents.agent import Agent as Agent
    from .agents.engine import Capabilities as Capabilities
    from .agents.engine import Engine as Engine
    from .agents.flow import Flow as Flow
    from .agents.flow import Stage as Stage
    from .agents.profile import Profile as Profile
    from .agents.profile import Skill as Skill
    from .agents.tool import Tool as Tool
    from .audio.silero import SileroVad as SileroVad
    from .errors import BadInput as BadInput
    from .errors import ConfigurationError as ConfigurationError
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import DuologueError as DuologueError
    from .errors import IllegalState as IllegalState
    from .errors import MissingExtra as MissingExtra
    from .errors import ServiceError as ServiceError
    from .errors import ToolError as ToolError
    from .processors.cleaning import EchoCancellation as EchoCancellation
    from .processors.cleaning import NoiseSuppression as NoiseSuppression
    from .processors.handoff.handoff import Handoff as Handoff
    from .processors.kernel.host import Deadlines as Deadlines
    from .processors.life import CallLimit as CallLimit
    from .processors.life import IdlePrompts as IdlePrompts
    from .processors.pipeline import Pipeline as Pipeline
    from .processors.processor import Processor as Processor
    from .processors.processor import handles as handles
    from .processors.recorder import Recorder as Recorder
    from .processors.switch import Switch as Switch
    from .processors.tee import Tee as Tee
    from .processors.tools import Tools as Tools
    from .processors.turns.ear import Ear as Ear
    from .processors.turns.endpointing import Endpointing as Endpointing
    from .processors.turns.evidence import InterruptionPolicy as InterruptionPolicy
    from .processors.turns.interruption import Interruption as Interruption
    from .processors.turns.policy import EndpointingPolicy as EndpointingPolicy
    from .processors.turns.policy import TurnPolicy as TurnPolicy
    from .processors.turns.policy import VadPolicy as VadPolicy
    from .processors.turns.smart_turn import SmartTurn as SmartTurn
    from .processors.turns.vad import Vad as Vad
    from .services.cascade import Cascade as Cascade
    from .services.correction import Correction as Correction
    from .services.correction import Term as Term
    from .services.correction import Vocabulary as Vocabulary
    from .services.fallback import Fallback as Fallback
    from .services.guardrails import CallerGuardrail as CallerGuardrail
    from .services.guardrails import Guardrail as Guardrail
    from .services.guardrails import ModelCheck as ModelCheck
    from .services.guardrails import Verdict as Verdict
    from .services.llm import LLM as LLM
    from .services.memory import Memory as Memory
    from .services.memory import ModelNotes as ModelNotes
    from .services.native.engine import SpeechToSpeech as SpeechToSpeech
    from .services.reading import Reading as Reading
    from .services.retrieval import Passage as Passage
    from .services.retrieval import Retrieval as Retrieval
    from .services.stt import STT as STT
    from .services.tts import TTS as TTS
    from .session.conversation import Conversation as Conversation
    from .session.feed import Feed as Feed
    from .session.item import Item as Item
    from .session.life import Outcome as Outcome
    from .session.session import Session as Session
    from .session.session import run as run
    from .transports.local import LocalAudioTransport as LocalAudioTransport
    from .transports.memory import MemoryTransport as MemoryTransport
    from .transports.wav import WavTransport as WavTransport
    from .transports.webrtc.transport import WebRTCTransport as WebRTCTransport
    from .transports.websocket.transport import WebSocketTransport as WebSocketTransport

__version__ = "0.1.0"

_HOMES = {
    "agents.agent": "Agent",
    "agents.flow": "Flow Stage",
    "agents.engine": "Capabilities Engine",
    "agents.profile": "Profile Skill",
    "agents.tool": "Tool",
    "audio.silero": "SileroVad",
    "errors": (
        "BadInput ConfigurationError DeadlineExceeded DuologueError IllegalState MissingExtra ServiceError ToolError"
    ),
    "processors.cleaning": "EchoCancellation NoiseSuppression",
    "processors.handoff.handoff": "Handoff",
    "processors.kernel.host": "Deadlines",
    "processors.life": "CallLimit IdlePrompts",
    "processors.pipeline": "Pipeline",
    "processors.processor": "Processor handles",
    "processors.recorder": "Recorder",
    "processors.switch": "Switch",
    "processors.tee": "Tee",
    "processors.tools": "Tools",
    "processors.turns.ear": "Ear",
    "processors.turns.endpointing": "Endpointing",
    "processors.turns.evidence": "InterruptionPolicy",
    "processors.turns.interruption": "Interruption",
    "processors.turns.policy": "EndpointingPolicy TurnPolicy VadPolicy",
    "processors.turns.smart_turn": "SmartTurn",
    "processors.turns.vad": "Vad",
    "services.cascade": "Cascade",
    "services.correction": "Correction Term Vocabulary",
    "services.fallback": "Fallback",
    "services.guardrails": "CallerGuardrail Guardrail ModelCheck Verdict",
    "services.llm": "LLM",
    "services.memory": "Memory ModelNotes",
    "services.native.engine": "SpeechToSpeech",
    "services.reading": "Reading",
    "services.retrieval": "Passage Retrieval",
    "services.stt": "STT",
    "services.tts": "TTS",
    "session.conversation": "Conversation",
    "session.item": "Item",
    "session.feed": "Feed",
    "session.life": "Outcome",
    "session.session": "Session run",
    "transports.local": "LocalAudioTransport",
    "transports.memory": "MemoryTransport",
    "transports.wav": "WavTransport",
    "transports.webrtc.transport": "WebRTCTransport",
    "transports.websocket.transport": "WebSocketTransport",
}
"""The module of each public name; the imports above are the same for type checkers."""

_names, __getattr__ = lazily(__name__, _HOMES, globals())
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
