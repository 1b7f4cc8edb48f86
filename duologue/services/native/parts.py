"""`Parts`: the parts of a native engine."""

from __future__ import annotations

from ...errors import ServiceError
from ..remote.connection import ConnectionSettings
from .asks import Asks
from .audio_ring import AudioRing
from .caller import Caller
from .consumption import Consumption
from .outlet import Outlet
from .provider import NativeService, Provider, ProviderMemory
from .replies import Replies
from .turns import Turns


class Parts:
    """The parts of an engine. Each uses only earlier ones."""

    def __init__(self, service: NativeService, settings: ConnectionSettings) -> None:
        session, ring_s = service.session, settings.ring_s

        def dropped(samples: int) -> None:
            kept = f"{ring_s:g} s are kept without a connection"
            error = ServiceError(f"{samples} samples of the caller's audio were dropped: {kept}")
            session.report(error, service.name)

        self.leaving = False
        """True while another engine is about to take over: the caller's audio is held back."""
        self.provider = Provider()
        self.outlet = Outlet(service)
        self.memory = ProviderMemory(session.conversation, session.ledger, settings.replay_messages)
        self.ring = AudioRing(service.capabilities.input_sample_rate, ring_s, dropped)
        self.turns = Turns(session, self.ring, self.provider)
        self.asks = Asks(session, self.provider, self.turns, self.memory)
        self.consumption = Consumption(service, self.ring.uplink)
        self.replies = Replies(service, self.provider, self.consumption, self.turns, self.asks, self.outlet)
        self.caller = Caller(service, self.provider, self.ring, self.turns, self.asks)
