"""The kit for services with a connection to a vendor: see docs/vendors.md.

`RemoteSTT`, `TurnHoldingSTT` and `RemoteTTS` are the bases; a vendor gives each a dialect and a wire. The names are
imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazily

if TYPE_CHECKING:
    from .dialect import ConnectionDialect as ConnectionDialect
    from .errors import ConnectionLost as ConnectionLost
    from .errors import fatal as fatal
    from .events import Event as Event
    from .events import GoingAway as GoingAway
    from .events import Opened as Opened
    from .events import Refused as Refused
    from .keeper import ConnectionSettings as ConnectionSettings
    from .service import Setup as Setup
    from .stt import Recognized as Recognized
    from .stt import RemoteSTT as RemoteSTT
    from .stt import STTDialect as STTDialect
    from .tls import client_ssl_context as client_ssl_context
    from .tts import ContextAudio as ContextAudio
    from .tts import ContextDone as ContextDone
    from .tts import RemoteTTS as RemoteTTS
    from .tts import TTSDialect as TTSDialect
    from .turns import TurnBegan as TurnBegan
    from .turns import TurnEnded as TurnEnded
    from .turns import TurnHoldingSTT as TurnHoldingSTT
    from .websocket import open_websocket as open_websocket
    from .wire import Wire as Wire
    from .wire import WireMessage as WireMessage

_HOMES = {
    "dialect": "ConnectionDialect",
    "errors": "ConnectionLost fatal",
    "events": "Event GoingAway Opened Refused",
    "keeper": "ConnectionSettings",
    "service": "Setup",
    "stt": "Recognized RemoteSTT STTDialect",
    "tls": "client_ssl_context",
    "tts": "ContextAudio ContextDone RemoteTTS TTSDialect",
    "turns": "TurnBegan TurnEnded TurnHoldingSTT",
    "websocket": "open_websocket",
    "wire": "Wire WireMessage",
}

__all__, __getattr__ = lazily(__name__, _HOMES, globals())
