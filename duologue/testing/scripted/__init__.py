"""Scripted vendors: servers that speak a vendor's wire protocol on loopback, and the acts of their scripts.

They need the extra `testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazily
from ...errors import check_installed

check_installed("testing", "websockets")

if TYPE_CHECKING:
    from .assemblyai import ScriptedAssemblyAI as ScriptedAssemblyAI
    from .cartesia import ScriptedCartesia as ScriptedCartesia
    from .deepgram import ScriptedDeepgram as ScriptedDeepgram
    from .elevenlabs import ScriptedElevenLabs as ScriptedElevenLabs
    from .elevenlabs_http import ScriptedElevenLabsHTTP as ScriptedElevenLabsHTTP
    from .gemini_http import ScriptedGeminiHTTP as ScriptedGeminiHTTP
    from .google import ScriptedGemini as ScriptedGemini
    from .manners import FAULTS as FAULTS
    from .manners import Manners as Manners
    from .openai import ScriptedOpenAI as ScriptedOpenAI
    from .openai_api import ScriptedOpenAIHTTP as ScriptedOpenAIHTTP
    from .openai_transcription import TranscriptionScript as TranscriptionScript
    from .server import Asked as Asked
    from .server import CallTool as CallTool
    from .server import Close as Close
    from .server import Fail as Fail
    from .server import GoAway as GoAway
    from .server import HalfOpen as HalfOpen
    from .server import Raw as Raw
    from .server import Speak as Speak
    from .server import Twice as Twice
    from .server import Wait as Wait
    from .text_model import Refuse as Refuse
    from .text_model import Reject as Reject
    from .text_model import Stop as Stop
    from .text_model import Think as Think
    from .vendors import Delays as Delays
    from .vendors import ScriptedCascade as ScriptedCascade

_HOMES = {
    "assemblyai": "ScriptedAssemblyAI",
    "cartesia": "ScriptedCartesia",
    "deepgram": "ScriptedDeepgram",
    "elevenlabs": "ScriptedElevenLabs",
    "elevenlabs_http": "ScriptedElevenLabsHTTP",
    "gemini_http": "ScriptedGeminiHTTP",
    "google": "ScriptedGemini",
    "manners": "FAULTS Manners",
    "openai": "ScriptedOpenAI",
    "openai_api": "ScriptedOpenAIHTTP",
    "openai_transcription": "TranscriptionScript",
    "server": "Asked CallTool Close Fail GoAway HalfOpen Raw Speak Twice Wait",
    "text_model": "Refuse Reject Stop Think",
    "vendors": "Delays ScriptedCascade",
}

__all__, __getattr__ = lazily(__name__, _HOMES, globals())
