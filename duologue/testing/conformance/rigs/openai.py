"""OpenAI Realtime: the engine over OpenAI's SDK, and a scripted server on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal

from ....frames import Configure
from ....processors.base import Processor
from ....services.manager import ConnectionSettings
from ....services.messages import Message
from ....services.openai.options import SAMPLE_RATE, OpenAIRealtimeOptions, ServerVad
from ....services.openai.realtime import OpenAIRealtime
from ...openai import ScriptedOpenAI
from ...openai_connection import OpenAIConnection
from ...provider import Act, Model
from ..phrases import understand
from ..rig import FarEnd, Rig
from .values import plain

FAR_TOO_LARGE = 20 * 2**20


class OpenAIRig(Rig):
    """OpenAI Realtime, whose turns are found by the provider (`detects_turns`) or by the framework."""

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
        self,
        model: Model | Sequence[Sequence[Act]],
        *,
        connection: ConnectionSettings | None = None,
        setup_delay_s: float = 0.0,
        transcript_delay_s: float = 0.0,
        session_limit_s: float = 3600.0,
    ) -> AbstractAsyncContextManager[FarEnd]:
        """The engine over OpenAI's SDK, and a server."""
        options = OpenAIRealtimeOptions(turn_detection=ServerVad() if self.detects_turns else None)
        make = partial(OpenAIRealtime, api_key="test", options=options, connection=connection)
        return _started(
            model,
            make,
            setup_delay_s=setup_delay_s,
            transcript_delay_s=transcript_delay_s,
            session_limit_s=session_limit_s,
        )


@asynccontextmanager
async def _started(
    model: Model | Sequence[Sequence[Act]], make: Callable[..., OpenAIRealtime], **behaviour: Any
) -> AsyncIterator[FarEnd]:
    far = _OpenAIEnd(model, behaviour)
    async with far.server:
        far.made = make(base_url=far.server.url)
        yield far
        await far.made.close()


class _OpenAIEnd(FarEnd):
    made: OpenAIRealtime

    def __init__(self, model: Model | Sequence[Sequence[Act]], behaviour: dict[str, Any]) -> None:
        super().__init__(model)
        ear = partial(understand, sample_rate=SAMPLE_RATE)
        self.server = ScriptedOpenAI(self.note, transcripts=ear, **behaviour)

    @property
    def engine(self) -> Processor:
        return self.made

    @property
    def _live(self) -> OpenAIConnection:
        return self.server.connections[-1]

    @property
    def history(self) -> tuple[Message, ...]:
        return tuple(self.server.got[-1].history)

    @property
    def results(self) -> list[tuple[str, Any]]:
        return [(call_id, plain(text)) for got in self.server.got for call_id, text in got.results]

    @property
    def instructions(self) -> str:
        return self.server.got[-1].instructions

    @property
    def voice(self) -> str:
        return self.server.got[-1].voice

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(tool["name"] for tool in self.server.got[-1].tools)

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self.server.got]

    @property
    def connections(self) -> int:
        return len(self.server.got)

    @property
    def open_connections(self) -> int:
        return len(self.server.connections)

    @property
    def handles(self) -> list[str]:
        return [got.handle for got in self.server.got]

    @property
    def option(self) -> Any:
        return self._live.session.config["max_output_tokens"]

    async def drop(self, code: int = 0) -> None:
        self._live.close(code, "The server had an error while processing your request.")

    async def go_half_open(self) -> None:
        self._live.go_half_open()

    def refuse(self, connections: int) -> None:
        self.server.behaviour.refuse = connections

    async def send(self, kind: Literal["unknown", "malformed", "oversize"]) -> None:
        messages = {
            "unknown": json.dumps({"type": "session.moon_phase", "event_id": "event_moon", "phase": "full"}),
            "malformed": '{"type": "response.output_audio.delta", "delta": "%%%", ',
            "oversize": json.dumps({"type": "session.moon_phase", "phase": "o" * FAR_TOO_LARGE}),
        }
        self._live.send(messages[kind])

    def refuse_changes(self, refuse: bool) -> None:
        self.server.refuse_updates = refuse
