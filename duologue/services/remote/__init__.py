"""The kit for services with a connection to a vendor: see docs/vendors.md.

`RemoteSTT`, `TurnHoldingSTT` and `RemoteTTS` are the bases of services with an open connection; a vendor gives each a
dialect and a wire. `RemoteLLM` is the base of models with a request for each answer. The names are
imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazily

if TYPE_CHECKING:
    from .connection import ConnectionSettings as ConnectionSettings
    from .dialect import ConnectionDialect as ConnectionDialect
    from .dialect import Event as Event
    from .dialect import GoingAway as GoingAway
    from .dialect import Opened as Opened
    from .dialect import Refused as Refused
    from .dialect import Wire as Wire
    from .dialect import WireMessage as WireMessage
    from .errors import ConnectionLost as ConnectionLost
    from .errors import fatal as fatal
    from .llm import ContextTooLong as ContextTooLong
    from .llm import RemoteLLM as RemoteLLM
    from .pace import AnswerLimits as AnswerLimits
    from .pace import AnswerPace as AnswerPace
    from .service import Setup as Setup
    from .speech_context import ContextAudio as ContextAudio
    from .speech_context import ContextDone as ContextDone
    from .stt import Recognized as Recognized
    from .stt import RemoteSTT as RemoteSTT
    from .stt import STTDialect as STTDialect
    from .tls import client_ssl_context as client_ssl_context
    from .tts import RemoteTTS as RemoteTTS
    from .tts import TTSDialect as TTSDialect
    from .turns import TurnBegan as TurnBegan
    from .turns import TurnEnded as TurnEnded
    from .turns import TurnHoldingSTT as TurnHoldingSTT
    from .turns import TurnWentOn as TurnWentOn
    from .websocket import open_websocket as open_websocket

_HOMES = {
    "dialect": "ConnectionDialect Event GoingAway Opened Refused Wire WireMessage",
    "errors": "ConnectionLost fatal",
    "llm": "ContextTooLong RemoteLLM",
    "pace": "AnswerLimits AnswerPace",
    "connection": "ConnectionSettings",
    "service": "Setup",
    "stt": "Recognized RemoteSTT STTDialect",
    "tls": "client_ssl_context",
    "speech_context": "ContextAudio ContextDone",
    "tts": "RemoteTTS TTSDialect",
    "turns": "TurnBegan TurnEnded TurnHoldingSTT TurnWentOn",
    "websocket": "open_websocket",
}

__all__, __getattr__ = lazily(__name__, _HOMES, globals())
