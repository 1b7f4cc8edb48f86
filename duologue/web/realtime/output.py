"""`RealtimeOutput`: the agent's side of a call, on its way to an OpenAI Realtime client."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...audio.pcm import downmix
from ...audio.resample import Resampler
from ...frames import (
    BotAudio,
    BotText,
    EndOfTurn,
    Interrupted,
    ResponseEnded,
    ResponseStarted,
    ToolCall,
    Usage,
    UserTranscript,
)
from ...processors.processor import handles
from ...protocols.openai_realtime.response import ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...session.usage import add_usage
from ...transports.client import OUTPUT_SAMPLE_RATE, ClientOutput, ClientTransport
from ...transports.playout.base import PlayoutBase
from ...transports.playout.unpaced import UnpacedPlayout
from .asides import Asides
from .caller import CallerTurns
from .tools import ClientTools
from .usage import usage_wire

LOOK_EVERY_S = 0.25
NOTHING_COMES_S = 2.0
"""Seconds without any work on a response after which it ends."""
LOST_S = 30.0
"""The same while the caller's turn has no transcript yet."""
MAX_CUTS = 64
"""Truncations that wait for the end of their response. Beyond that the oldest are forgotten."""


class RealtimeOutput(ClientOutput):
    """Sends the agent's output as it is made: the client plays the audio, and reports how much of it was heard.

    All audio that was sent counts as heard, until the client truncates it.
    """

    def __init__(
        self,
        transport: ClientTransport,
        protocol: RealtimeServerSession,
        caller: CallerTurns,
        tools: ClientTools,
        asides: Asides,
        room: Callable[[], Awaitable[None] | None],
    ) -> None:
        super().__init__(transport, OUTPUT_SAMPLE_RATE, None)
        self.spontaneous = False
        """True while a response begins for which the client has not asked."""
        self._protocol = protocol
        self._caller = caller
        self._tools = tools
        self._asides = asides
        self._room = room
        self._cancelling = False  # the client's response is being cancelled
        self._resampler: Resampler | None = None
        self._cuts: deque[tuple[str, float]] = deque(maxlen=MAX_CUTS)
        self._usage = Usage(service="")
        self._responses: dict[str, list[str]] = {}
        """The responses in progress, oldest first, with the text of those that wait for the first to end."""

    def make_playout(self) -> PlayoutBase:
        """Return a playout without pacing, because the client paces the audio."""
        return UnpacedPlayout(self.session, self._send_audio)

    @property
    def _response(self) -> ServerResponse | None:
        return self._protocol.active

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Tell the client the text of the caller's speech."""
        if frame.final:
            self._caller.said(frame)
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Note that the texts of the turn are complete."""
        self._caller.passed_engine()
        await self.push(frame)

    # -- the agent -------------------------------------------------------------------------------------------------

    async def response_started(self, frame: ResponseStarted) -> None:
        """Begin a response. It begins on the wire when those before it have ended: its text may precede their audio."""
        self.playout.begin(frame)
        self._responses.setdefault(frame.response_id, [])
        if len(self._responses) == 1:
            self._begin(frame.response_id)
        await self.push(frame)

    def _begin(self, response_id: str) -> None:
        response = self._response
        if response is None:
            self.spontaneous = True
            try:
                response = self._protocol.respond({})
            finally:
                self.spontaneous = False
        response.source = response_id

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Send the text of a response, or keep it until the response begins on the wire."""
        waiting = self._responses.get(frame.response_id)
        if waiting is not None and self._is_first(frame.response_id):
            self._say(frame.text)
        elif waiting is not None:
            waiting.append(frame.text)
        await self.push(frame)

    def _is_first(self, response_id: str) -> bool:
        return next(iter(self._responses), "") == response_id

    def _say(self, text: str) -> None:
        if self._response is not None:
            self._response.say(text)

    def _send_audio(self, frame: BotAudio) -> Awaitable[None] | None:
        """Send audio at once. Returns an awaitable if the client is far behind in reading."""
        response = self._response
        if response is None or response.source != frame.response_id:
            return None
        pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
        if self._resampler is None or self._resampler.source_rate != frame.sample_rate:
            self._flush(response)
            self._resampler = Resampler(frame.sample_rate, response.rate)
        response.voice(self._resampler.process(pcm))
        return self._room()

    async def response_ended(self, frame: ResponseEnded) -> None:
        """End a response; for the client it goes on while tools of the application run, whose results it needs."""
        response_id, response = frame.response_id, self._response
        mine = response is not None and response.source == response_id
        calls = self._tools.take(response_id)
        own_calls = self._tools.calls_own(response_id)
        if response is not None and mine:
            self._flush(response)
        self.session.ledger.all_given(frame)
        self.playout.end(frame)
        self._cut_what_has_ended()
        goes_on = own_calls and not calls and frame.status == "completed"
        if not mine or frame.status != "completed":
            self._tools.refuse(calls)
            calls = []
        if response is not None and mine:
            self._finish(response, frame, calls, goes_on)
        self._responses.pop(response_id, None)
        if self._responses:
            following = next(iter(self._responses))
            self._begin(following)
            for text in self._responses[following]:
                self._say(text)
        await self.push(frame)

    def _finish(self, response: ServerResponse, frame: ResponseEnded, calls: list[ToolCall], goes_on: bool) -> None:
        if frame.status == "failed":
            error = {"type": "server_error", "code": "server_error", "message": "The response has failed."}
            response.finish("failed", error=error, usage=self._take_usage())
        elif frame.status == "interrupted":
            response.finish("cancelled", reason="turn_detected", usage=self._take_usage())
        elif goes_on:
            response.end_message()
            self.watch(response)
        else:
            for call in calls:
                self._tools.send(response, call)
            response.finish(usage=self._take_usage())

    def _flush(self, response: ServerResponse) -> None:
        if self._resampler is not None:
            response.voice(self._resampler.flush())
            self._resampler = None

    @handles(Usage)
    def used(self, signal: Usage) -> None:
        """Count the usage of the response."""
        if not signal.discarded and not self._asides.used(signal):
            self._usage = add_usage(self._usage, signal)

    def _take_usage(self) -> dict[str, Any]:
        """Return the usage since the last response in the wire's form."""
        used, self._usage = self._usage, Usage(service="")
        return usage_wire(used)

    # -- interruptions ---------------------------------------------------------------------------------------------

    def cancel(self) -> dict[str, Any]:
        """Interrupt the agent, because the client's response is cancelled. Returns its usage in the wire's form."""
        self._cancelling = True
        try:
            self.session.interrupt()
        finally:
            self._cancelling = False
        return self._take_usage()

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """End the response in progress."""
        self._resampler = None
        self._responses.clear()
        self._tools.refuse_all()
        self._cut_what_has_ended()
        if self._response is not None and not self._cancelling:
            self._response.finish("cancelled", reason="turn_detected", usage=self._take_usage())

    def cut(self, response_id: str, heard_s: float) -> None:
        """Cut a response, of which only `heard_s` seconds were heard. One in progress is cut after its end."""
        self._cuts.append((response_id, heard_s))
        self._cut_what_has_ended()

    def _cut_what_has_ended(self) -> None:
        session = self.session
        being_said = {response.id for response in session.ledger.unsettled}
        for response_id, heard_s in [cut for cut in self._cuts if cut[0] not in being_said]:
            self._cuts.remove((response_id, heard_s))
            item = session.conversation.get(response_id)
            if item is None:
                continue
            if heard_s > 0:
                session.conversation.shorten(response_id, heard_s)
            else:
                session.conversation.remove(response_id)
            if item.turn == session.floor.turn > session.floor.fence and session.floor.owner == "caller":
                session.interrupt("truncated")  # an engine with its own memory must cut it as well

    # -- responses without output ----------------------------------------------------------------------------------

    def watch(self, response: ServerResponse) -> None:
        """End the response once nothing works on it any more."""
        self.spawn(self._watch, response)

    async def _watch(self, response: ServerResponse) -> None:
        floor, idle_s = self.session.floor, 0.0
        while not response.over:
            await anyio.sleep(LOOK_EVERY_S)
            busy = floor.owner == "agent" or floor.caller_speaking
            idle_s = 0.0 if busy else idle_s + LOOK_EVERY_S
            if idle_s >= (LOST_S if self._caller.under_way else NOTHING_COMES_S):
                self._caller.under_way = 0
                response.finish(usage=self._take_usage())
