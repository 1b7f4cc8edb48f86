"""What the agent does, on its way to a client of OpenAI's Realtime API."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from ...audio.pcm import downmix
from ...audio.resample import Resampler
from ...errors import ConfigurationError
from ...frames import (
    BotAudio,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    BotText,
    EndOfTurn,
    HandoffCompleted,
    Input,
    Interrupted,
    ResponseEnded,
    ResponseStarted,
    ToolCall,
    Usage,
    UserTranscript,
    WordTimes,
)
from ...processors.kernel.groups import leaves
from ...processors.processor import Processor, handles
from ...processors.tools import Tools
from ...session.usage import add_usage

if TYPE_CHECKING:
    from ...protocols.openai_realtime.response import ServerResponse
    from .transport import RealtimeTransport

LOOK_EVERY_S = 0.25
NOTHING_COMES_S = 2.0
"""A response that nobody works on is over after so long."""
LOST_S = 30.0
"""The same while the caller's turn is still being understood."""
MAX_CUTS = 64
"""Truncations of what is still being said that wait for its end."""


class AgentSaid(Input, frozen=True, kw_only=True):
    """The client puts something that the agent said into the conversation."""

    text: str


class AgentCalled(Input, frozen=True, kw_only=True):
    """The client puts a tool call of the agent's into the conversation, which was made in another session."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class AgentWasGiven(Input, frozen=True, kw_only=True):
    """The client puts the result of such a call into the conversation."""

    call_id: str
    name: str
    result: str


class ClientTools(Processor):
    """Takes the calls of the client's tools out of the stream. Stands behind the engine, before any `Tools`."""

    def __init__(self, transport: RealtimeTransport) -> None:
        self._transport = transport
        self.calls: dict[str, list[ToolCall]] = {}
        """Those of the client's, by the response that makes them, until it has ended."""
        self.own_calls: set[str] = set()
        """The responses under way that call tools of ours."""

    async def open(self) -> None:
        """Raises ConfigurationError if `Tools` would get the client's calls."""
        order = leaves(self.session.pipeline)
        if any(isinstance(leaf, Tools) for leaf in order[: order.index(self)]):
            raise ConfigurationError("Tools stands before client_tools(), and would get its calls: put it behind")

    @handles(ToolCall)
    async def call(self, call: ToolCall) -> None:
        """Keep it until the response stands, or let it pass."""
        if call.name in self._transport.client_tool_names:
            self.calls.setdefault(call.response_id, []).append(call)
        else:
            self.own_calls.add(call.response_id)
            await self.push(call)

    @handles(AgentSaid)
    async def remember(self, frame: AgentSaid) -> None:
        """The client says what the agent said before. It comes here behind what the caller said before it."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add("message", "agent", text=frame.text, turn=turn)

    @handles(AgentCalled)
    async def remember_call(self, frame: AgentCalled) -> None:
        """The client says what the agent called before."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add(
            "tool_call", "agent", turn=turn, call_id=frame.call_id, name=frame.name, data=frame.arguments
        )

    @handles(AgentWasGiven)
    async def remember_result(self, frame: AgentWasGiven) -> None:
        """The client says what that has given."""
        turn = self.session.floor.turn + 1
        self.session.conversation.add(
            "tool_result",
            "tool",
            turn=turn,
            call_id=frame.call_id,
            name=frame.name,
            data=frame.result,
            text=frame.result,
        )

    @handles(HandoffCompleted)
    def handed_over(self, signal: HandoffCompleted) -> None:
        """The new agent gets the client's tools as well."""
        self._transport.tools_changed()


class RealtimeOutput(Processor):
    """Sends all that the agent does as it is made: the client plays it, and says how much of it was heard.

    So everything sent counts as heard, until the client truncates it.
    """

    def __init__(self, transport: RealtimeTransport, tools: ClientTools) -> None:
        self._transport = transport
        self._tools = tools
        self._resampler: Resampler | None = None
        self._speaking: int | None = None
        self._cuts: deque[tuple[str, float]] = deque(maxlen=MAX_CUTS)
        self._usage = Usage(service="")
        self._responses: dict[str, list[str]] = {}
        """Those under way, oldest first, with the text of those that wait for the first to end."""

    async def open(self) -> None:
        """Whatever is heard is told from here."""
        self.session.audio.has_playout = True

    @property
    def _response(self) -> ServerResponse | None:
        return self._transport.wire.active

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserTranscript)
    async def transcript(self, frame: UserTranscript) -> None:
        """Tell the client what was said, as soon as the turn is over."""
        if frame.final:
            self._transport.said(frame)
            if not self._transport.turns_under_way:
                self._transport.transcripts.settle()
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Tell what was said in the turn. A native engine may know it only later."""
        self._transport.turns_under_way = max(0, self._transport.turns_under_way - 1)
        self._transport.transcripts.settle()
        await self.push(frame)

    # -- the agent -------------------------------------------------------------------------------------------------

    @handles(ResponseStarted)
    async def started(self, frame: ResponseStarted) -> None:
        """A response begins: on the wire when those before it have ended, for text may come ahead of their audio."""
        self.session.ledger.open(frame.response_id, frame.turn, frame.agent)
        self._responses.setdefault(frame.response_id, [])
        if len(self._responses) == 1:
            self._begin(frame.response_id)
        await self.push(frame)

    def _begin(self, response_id: str) -> None:
        response = self._response or self._transport.begin_response()
        response.source = response_id

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """What it says."""
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

    @handles(WordTimes)
    async def words(self, frame: WordTimes) -> None:
        """When its words are spoken."""
        self.session.ledger.add_words(frame.response_id, frame.words)
        await self.push(frame)

    @handles(BotAudio)
    async def audio(self, frame: BotAudio) -> None:
        """Send it at once, unless the client is far behind with taking it."""
        if self._speaking is None:
            self._say_started(frame.turn)
        ledger = self.session.ledger
        ledger.sent(frame.response_id, frame.duration_s)
        ledger.played(frame.response_id, frame.duration_s)
        response = self._response
        if response is not None and response.source == frame.response_id:
            pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
            if self._resampler is None or self._resampler.source_rate != frame.sample_rate:
                self._flush(response)
                self._resampler = Resampler(frame.sample_rate, response.rate)
            response.voice(self._resampler.process(pcm))
            await self._transport.room()
        await self.push(frame)

    @handles(ResponseEnded)
    async def ended(self, frame: ResponseEnded) -> None:
        """It is over: for the client too, unless tools of ours are at work on what comes next."""
        response_id, response = frame.response_id, self._response
        calls = self._tools.calls.pop(response_id, [])
        goes_on = response_id in self._tools.own_calls and not calls and frame.status == "completed"
        self._tools.own_calls.discard(response_id)
        self._say_stopped()
        if response is not None and response.source == response_id:
            self._flush(response)
        ledger = self.session.ledger
        if frame.status == "completed":
            ledger.all_sent(response_id)
        ledger.finish(response_id, interrupted=frame.status != "completed")
        self._cut_what_has_ended()
        stands = response is not None and response.source == response_id and frame.status == "completed"
        if not stands:
            self._transport.refuse_calls(calls)
            calls = []
        if response is not None and response.source == response_id:
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
            response.finish("failed", error=error, usage=self.take_usage())
        elif frame.status == "interrupted":
            response.finish("cancelled", reason="turn_detected", usage=self.take_usage())
        elif goes_on:
            response.end_message()
            self.watch(response)
        else:
            for call in calls:
                self._transport.call_tool(response, call)
            response.finish(usage=self.take_usage())

    def _flush(self, response: ServerResponse) -> None:
        if self._resampler is not None:
            response.voice(self._resampler.flush())
            self._resampler = None

    @handles(Usage)
    def used(self, signal: Usage) -> None:
        """Count what the response takes."""
        self._usage = add_usage(self._usage, signal)

    def take_usage(self) -> dict[str, object]:
        """What was used since the last response, as the wire has it."""
        used, self._usage = self._usage, Usage(service="")
        return {
            "total_tokens": used.input_tokens + used.output_tokens,
            "input_tokens": used.input_tokens,
            "output_tokens": used.output_tokens,
            "input_token_details": {
                "text_tokens": used.input_tokens - used.input_audio_tokens,
                "audio_tokens": used.input_audio_tokens,
                "cached_tokens": used.cached_tokens,
            },
            "output_token_details": {
                "text_tokens": used.output_tokens - used.output_audio_tokens,
                "audio_tokens": used.output_audio_tokens,
            },
        }

    # -- interruptions ---------------------------------------------------------------------------------------------

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """What was being said is over, whoever interrupted it."""
        self._resampler = None
        self._say_stopped()
        calls = [call for waiting in self._tools.calls.values() for call in waiting]
        self._tools.calls.clear()
        self._tools.own_calls.clear()
        self._responses.clear()
        self._transport.refuse_calls(calls)
        self._cut_what_has_ended()
        if self._response is not None and not self._transport.cancelling:
            self._response.finish("cancelled", reason="turn_detected", usage=self.take_usage())

    def cut(self, response_id: str, heard_s: float) -> None:
        """The client says how much of a response was heard. What is still being said is cut when that has ended."""
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
            session.conversation.shorten(response_id, heard_s)
            if item.turn == session.floor.turn > session.floor.fence and session.floor.owner == "caller":
                session.interrupt("truncated")  # an engine with a memory of its own must hear of it

    # -- who speaks ------------------------------------------------------------------------------------------------

    def _say_started(self, turn: int) -> None:
        self._speaking = turn
        self.session.floor.agent_speaking = True
        self.broadcast(BotStartedSpeaking(turn=turn, at=self.session.now()))

    def _say_stopped(self) -> None:
        if self._speaking is not None:
            turn, self._speaking = self._speaking, None
            self.session.floor.agent_speaking = False
            self.session.floor.touched()
            self.broadcast(BotStoppedSpeaking(turn=turn, at=self.session.now()))

    # -- responses of which nothing comes --------------------------------------------------------------------------

    def watch(self, response: ServerResponse) -> None:
        """End the response if nobody works on it any more."""
        self.spawn(self._watch, response)

    async def _watch(self, response: ServerResponse) -> None:
        floor, idle_s = self.session.floor, 0.0
        while not response.over:
            await anyio.sleep(LOOK_EVERY_S)
            busy = floor.owner == "agent" or floor.caller_speaking
            idle_s = 0.0 if busy else idle_s + LOOK_EVERY_S
            if idle_s >= (LOST_S if self._transport.turns_under_way else NOTHING_COMES_S):
                self._transport.turns_under_way = 0
                response.finish(usage=self.take_usage())
