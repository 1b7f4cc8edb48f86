"""OpenAI Realtime: the engine over OpenAI's SDK, and a scripted server on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

from ....frames import Configure
from ....services.openai.options import SAMPLE_RATE, OpenAIRealtimeOptions, ServerVad
from ....services.openai.realtime import OpenAIRealtime
from ...scripted.manners import Manners
from ...scripted.openai import ScriptedOpenAI
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .served import DEEP, FAR_TOO_LARGE, ServedEnd


class OpenAIRig(Rig):
    """OpenAI Realtime. With `detects_turns` the provider finds the turns, otherwise the pipeline does."""

    parts = ("openai",)
    faults = frozenset(
        {
            "drop",
            "half_open",
            "refuse",
            "expiry",
            "unknown",
            "malformed",
            "oversize",
            "duplicate",
            "late_transcript",
            "refuse_change",
            "unfinished",
        }
    )
    voices = ("ash", "coral")
    option = ("max_output_tokens", 500)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"speed": 7}), "speed"),
        (Configure(options={"wings": 2}), "wings"),
        (Configure(tools=({"name": "no good name"},)), "no good name"),
    )
    refusable = Configure(instructions="Be somebody else.")

    def __init__(self, *, detects_turns: bool = True) -> None:
        self.detects_turns = detects_turns
        self.name = "OpenAIRealtime" if detects_turns else "OpenAIRealtime, own turns"

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start the engine over OpenAI's SDK, and a server."""
        options = OpenAIRealtimeOptions(turn_detection=ServerVad() if self.detects_turns else None)
        make = partial(OpenAIRealtime, api_key="test", options=options, connection=conditions.connection)
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
    make: Callable[..., OpenAIRealtime],
    manners: Manners | None,
    **behaviour: Any,
) -> AsyncIterator[FarEnd]:
    far = _OpenAIEnd(model, manners, behaviour)
    async with far.server:
        far.made = make(base_url=far.server.url)
        yield far
        await far.made.close()


class _OpenAIEnd(ServedEnd):
    made: OpenAIRealtime

    def __init__(
        self, model: Model | Sequence[Sequence[Act]], manners: Manners | None, behaviour: dict[str, Any]
    ) -> None:
        super().__init__(model, manners)
        ear = partial(understand, sample_rate=SAMPLE_RATE)
        self._server = ScriptedOpenAI(self.note, manners=manners, transcripts=ear, **behaviour)

    @property
    def server(self) -> ScriptedOpenAI:
        return self._server

    @property
    def option(self) -> Any:
        return self.server.connections[-1].session.config["max_output_tokens"]

    async def drop(self, code: int = 0) -> None:
        self.server.connections[-1].close(code, "The server had an error while processing your request.")

    async def send(self, kind: Literal["unknown", "malformed", "deep", "oversize"]) -> None:
        messages = {
            "unknown": json.dumps({"type": "session.moon_phase", "event_id": "event_moon", "phase": "full"}),
            "malformed": '{"type": "response.output_audio.delta", "delta": "%%%", ',
            "deep": '{"type": "response.done", "response": ' + "[" * DEEP + "]" * DEEP + "}",
            "oversize": json.dumps({"type": "session.moon_phase", "phase": "o" * FAR_TOO_LARGE}),
        }
        self.server.connections[-1].send(messages[kind])

    def refuse_changes(self, refuse: bool) -> None:
        self.server.refuse_updates = refuse
