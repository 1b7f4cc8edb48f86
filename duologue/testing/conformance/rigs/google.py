"""Gemini Live: the engine over Google's SDK, and a scripted server on loopback."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

from ....frames import Configure
from ....services.google.options import GeminiLiveOptions
from ....services.google.realtime import GeminiLive
from ...scripted.google import ScriptedGemini
from ...scripted.google_model import DEFAULT_INPUT_RATE
from ...scripted.manners import Manners
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .served import DEEP, FAR_TOO_LARGE, ServedEnd

ALL_CONNECTIONS = 1_000_000


class GeminiRig(Rig):
    """Gemini Live. With `detects_turns` the provider finds the turns, otherwise the pipeline does."""

    parts = ("gemini",)
    faults = frozenset(
        {
            "drop",
            "half_open",
            "refuse",
            "go_away",
            "expiry",
            "unknown",
            "malformed",
            "oversize",
            "duplicate",
            "late_transcript",
            "refuse_change",
            "cancel_calls",
            "unfinished",
        }
    )
    interim = True
    voices = ("Kore", "Zephyr")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )
    refusable = Configure(voice="Fenrir")

    def __init__(self, model: str = "gemini-3.8-live", *, detects_turns: bool = True) -> None:
        self.model = model
        self.detects_turns = detects_turns
        self.may_be_silent = "3.8" in model
        number = re.search(r"\d+\.\d+", model)
        name = f"GeminiLive {number[0] if number else model}"
        self.name = name if detects_turns else f"{name}, own turns"

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start the engine over Google's SDK, and a server."""
        options = GeminiLiveOptions(turn_detection="server" if self.detects_turns else None)
        make = partial(GeminiLive, self.model, api_key="test", options=options, connection=conditions.connection)
        return _started(
            model,
            make,
            self.manners,
            setup_delay_s=conditions.setup_delay_s,
            transcript_delay_s=conditions.transcript_delay_s,
            session_limit_s=conditions.session_limit_s,
        )


@asynccontextmanager
async def _started(
    model: Model | Sequence[Sequence[Act]],
    make: Callable[..., GeminiLive],
    manners: Manners | None,
    **behaviour: Any,
) -> AsyncIterator[FarEnd]:
    far = _GeminiEnd(model, manners, behaviour)
    async with far.server:
        far.made = make(base_url=far.server.url, ssl_context=far.server.ssl_context)
        yield far
        await far.made.close()


class _GeminiEnd(ServedEnd):
    made: GeminiLive
    result_key = "result"

    def __init__(
        self, model: Model | Sequence[Sequence[Act]], manners: Manners | None, behaviour: dict[str, Any]
    ) -> None:
        super().__init__(model, manners)
        ear = partial(understand, sample_rate=DEFAULT_INPUT_RATE)
        self._server = ScriptedGemini(self.note, manners=manners, transcripts=ear, **behaviour)

    @property
    def server(self) -> ScriptedGemini:
        return self._server

    @property
    def images(self) -> list[bytes]:
        sent = [message.get("realtime_input", {}) for got in self.server.got for message in got.messages]
        return [base64.b64decode(realtime["video"]["data"]) for realtime in sent if "video" in realtime]

    @property
    def option(self) -> Any:
        set_up = self.server.got[-1].messages[0]["setup"]
        return set_up.get("generationConfig", {}).get("temperature")

    async def drop(self, code: int = 0) -> None:
        self.server.connections[-1].close(code, "Internal error encountered.")

    async def go_away(self, left_s: float) -> None:
        self.server.connections[-1].go_away(left_s)

    async def send(self, kind: Literal["unknown", "malformed", "deep", "oversize"]) -> None:
        messages: dict[str, dict[str, Any] | str] = {
            "unknown": {"moonPhase": {"phase": "full"}},
            "malformed": '{"serverContent": {"modelTurn": ',
            "deep": '{"toolCall": {"functionCalls": ' + "[" * DEEP + "]" * DEEP + "}}",
            "oversize": {"moonPhase": {"phase": "o" * FAR_TOO_LARGE}},
        }
        self.server.connections[-1].send(messages[kind])

    def refuse_handles(self) -> None:
        self.server.behaviour.refuse_handles = True

    def refuse_changes(self, refuse: bool) -> None:
        self.server.behaviour.refuse = ALL_CONNECTIONS if refuse else 0
