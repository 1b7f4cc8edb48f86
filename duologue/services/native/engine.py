"""`SpeechToSpeech`: the base of native engines, which hear and speak by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property
from typing import Any

import anyio
import msgspec

from ...agents.engine import Capabilities, EngineConfig, Handover
from ...agents.tool import ToolSpec
from ...errors import ConfigurationError, DeadlineExceeded, ServiceError
from ...frames import (
    Configure,
    End,
    EndOfTurn,
    Input,
    Interrupted,
    Output,
    Respond,
    ResponseEnded,
    ResponseStarted,
    ResumptionHandle,
    Say,
    SessionStarted,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolResult,
    Usage,
    UserAudio,
    UserImage,
    UserText,
)
from ...processors.handoff.setup import first_configuration
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import handles
from ...processors.turns.interruption import may_interrupt
from ...session.conversation import Item
from ...session.life import State
from ..answers import Answers, as_text
from ..context import SAY, Budget, messages
from ..remote.connection import Connection, dial
from ..remote.errors import ConnectionLost
from ..remote.keeper import ConnectionSettings, Keeper
from ..remote.wire import Wire
from ..tool_schemas import check_tools
from .audio_ring import Utterance
from .caller import TRANSCRIPT_WAIT_S, Caller
from .dialect import Dialect
from .events import (
    AudioComplete,
    Called,
    CallsCancelled,
    Configured,
    Consumed,
    CutShort,
    Event,
    GoingAway,
    HandleGiven,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from .memory import Notes
from .reconfigure import Reconfigure
from .replies import CONTINUE, Ask, Replies

MAX_SPEECH_FRAMES = 4_096
"""Pieces of the agent's speech that wait for the playout; of four times as many the rest is refused with an error."""


class SpeechToSpeech(Answers):
    """An engine that is one service: it hears the caller and speaks to it. Obeys the engine contract.

    A service gives four things: `capabilities`, `check_config`, `dial` (an open connection of its SDK's) and `dialect`
    (the translator for one connection). This class keeps the connection, the caller's audio, the log, the turns and
    the tools, in the same way for all of them.

    Whose turn it is says the provider (`Dialect.server_turns`), or the processors before this one. In the first case
    their `EndOfTurn` asks for nothing; a `VadProcessor` and `Endpointing` in the pipeline still let the caller's speech
    be told apart from silence when the connection has to be replaced.

    Texts of the application (`Say`) are given to the model to be said word for word. An `Ask` that the provider fails
    to answer is asked once more.
    """

    model: str = ""
    extra: str = ""
    """The extra that brings the service."""

    def __init__(
        self,
        *,
        instructions: str = "",
        voice: str = "",
        tools: Iterable[ToolSpec] = (),
        handle: str = "",
        connection: ConnectionSettings | None = None,
    ) -> None:
        super().__init__()
        self.connection_settings = connection or ConnectionSettings()
        self.config = EngineConfig(instructions=instructions, voice=voice, tools=tuple(tools))
        self.replaceable = False
        self.connection: Connection[Dialect] | None = None
        """The connection that is in use."""
        self._manager = Keeper(self, self.connection_settings)
        self.speaking = Replies(self)
        """The side towards the agent's voice."""
        self._listening: Caller | None = None
        self._frames: DrainableLane | None = None
        self._let_begin: set[str] = set()  # responses whose start has gone out
        self._live = False  # this engine has the call
        self._given_up = False
        self._first_handle = handle
        self._handle = ""
        self._handle_stands_for = 0  # how many items of the log
        self._resumed = False
        self.notes = Notes(self)
        """What the model is told besides what the caller says."""
        self._native_results: set[int] = set()  # turns whose results went to the connection that had asked
        self._changes = Reconfigure(self.connection_settings.connect_timeout_s)
        self._watchers: list[asyncio.Future[None]] = []
        self._configuring = anyio.Lock()
        self._listens = False  # to the log
        self._greeting = ""
        self._failed_to_open: Exception | None = None

    # -- what a service gives --------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do."""
        raise NotImplementedError

    def check_config(self, config: EngineConfig) -> None:
        """Raise ConfigurationError, with the reason, for what the service or the model cannot do. Does no I/O."""

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection, resuming the session of the handle if there is one. Raises ConnectionLost."""
        raise NotImplementedError

    def dialect(self, config: EngineConfig, handle: str) -> Dialect:
        """A translator for one connection."""
        raise NotImplementedError

    # -- configuration ---------------------------------------------------------------------------------------------

    def check(self, change: Configure) -> None:
        """Raise ConfigurationError if the change cannot be applied. Changes nothing."""
        self._checked(self.config.changed(change))

    def _checked(self, config: EngineConfig) -> EngineConfig:
        check_tools(config.tools, self.extra)
        self.check_config(config)
        return config

    @handles(Configure)
    async def reconfigure(self, frame: Configure) -> None:
        """Apply it, or report why not."""
        await self.configure(frame)

    async def configure(self, change: Configure) -> None:
        """Apply all of a change, or none of it: in place where the provider can, else on a new connection.

        What has been begun is finished with the old configuration. Raises ConfigurationError with the reason.
        """
        async with self._configuring:
            config = self._checked(self.config.changed(change))
            if self.connection is None or config == self.config:
                self.config = config  # the next connection is made with it
                return
            stays = self._live and not self._leaving
            try:
                if stays:
                    with anyio.move_on_after(self.session.deadlines.drain_s):
                        await self.drain()
                await self._change(config)
            except (ConnectionLost, DeadlineExceeded) as error:
                raise ConfigurationError(f"{self.name} stays as it was: {error}") from error
            finally:
                if stays:
                    self.stay()

    async def _change(self, config: EngineConfig) -> None:
        connection = self.connection
        if connection is None:
            self.config = config
            return
        update_id = self._changes.new_id()
        messages = connection.dialect.update(update_id, config)
        if messages is None:
            await self._manager.replace(config, "a change that takes a new connection")
        else:
            await self._changes.make(connection, update_id, messages)
            self.config = config

    # -- life ------------------------------------------------------------------------------------------------------

    @cached_property
    def output_rate(self) -> int:
        """Of the audio that comes, in Hz."""
        return self.capabilities.output_sample_rate

    @property
    def listening(self) -> Caller:
        """The side towards the caller. There is one from `open` on."""
        assert self._listening is not None
        return self._listening

    async def open(self) -> None:
        """Connect. Raises ConnectionLost if the provider refuses, DeadlineExceeded if it takes too long."""
        await super().open()
        self._frames = DrainableLane(self, MAX_SPEECH_FRAMES)
        self._manager = Keeper(self, self.connection_settings)
        self.speaking = Replies(self)
        self._listening = Caller(self, self.capabilities.input_sample_rate, self.connection_settings.ring_s)
        self._live = self._given_up = False
        self._failed_to_open = None
        self._handle, self._first_handle = self._first_handle, ""
        self._handle_stands_for = self._log_length
        if not self._listens:
            self._listens = True
            self.session.conversation.listen(self._logged)
        # Whoever opens beside this may still configure it: one connection is enough then.
        await anyio.lowlevel.checkpoint()
        first, self._greeting = first_configuration(self.session, self.config, self.capabilities.voices)
        if first is not None:
            self.config = self.config.changed(first)
        made_with = self._checked(self.config)
        try:
            await self._manager.open()
        except (ConnectionLost, DeadlineExceeded) as error:
            if not (self.replaceable and self.session.state is State.CONNECTING):
                raise
            self._failed_to_open = error
            return
        if self.config != made_with:
            wanted, self.config = self.config, made_with
            await self._change(wanted)

    async def close(self) -> None:
        """Let the provider go. Subclasses call it too."""
        self._live = False
        await super().close()
        if self._frames is not None:
            self._frames.close()
        await self._manager.close()
        self.connection = None
        self.notify()

    @handles(SessionStarted)
    async def begin(self, signal: SessionStarted) -> None:
        """The call begins."""
        self._activate()
        if self._failed_to_open is not None:
            self._manager.give_up(self._failed_to_open)
        if self._greeting:
            self._queue(Say(text=self._greeting))

    def _activate(self) -> None:
        """This engine has the call from now on: the provider is told what was said so far."""
        if self._live or self._jobs is None:
            return
        self._live = True
        if self.connection is not None:
            if not self._resumed:
                self._seed(self.connection)
            self.listening.attach(self.connection)
        self.notify()

    def _seed(self, connection: Connection[Dialect]) -> int:
        self.notes.clear()
        limit = self.connection_settings.replay_messages
        told = messages(self.session.conversation, self.session.ledger, open_calls=False, budget=Budget(messages=limit))
        if told:
            connection.send(connection.dialect.history(told))
        return sum(message.role in ("user", "assistant") for message in told)

    @handles(End)
    async def end(self, frame: End) -> None:
        """The call ends once what the agent was asked for has been given."""
        await super().end(frame)
        await self.until(lambda: not self.speaking.busy or self._given_up)
        if self._frames is not None:
            await self._frames.drain()

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Send it, or keep it until that is possible."""
        if not self._live:
            self._activate()
        connection = self.connection
        if connection is None:
            self.listening.add(frame)
        else:
            connection.corked = True
            try:
                self.listening.add(frame)
            finally:
                connection.corked = False
            await connection.flush()
        await self.push(frame)

    @handles(SpeechStarted)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """The caller's turn begins, or goes on."""
        self._activate()
        self.listening.started(frame)
        await self.push(frame)

    @handles(SpeechStopped)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Marks a place in the audio."""
        self.listening.add(frame)
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """The caller's turn is over, if it is not the provider who decides that, and tells."""
        self.listening.ended(frame)
        if not self.listening.follows_provider:
            await self.push(frame)

    def owe_answer(self, utterance: Utterance) -> None:
        """The caller's turn is complete, and the provider wants to be asked for the answer."""
        self._unanswered = "words"
        self._queue(EndOfTurn(at=utterance.end_s, by="turn"))

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text and give it to the model."""
        self._activate()
        text = frame.text if frame.author == "caller" else f"[{frame.author}] {frame.text}"
        await super().typed(frame)
        if frame.author == "caller":
            self.send(lambda dialect: dialect.text(text))
        else:
            self.notes.add(lambda dialect: dialect.text(text))

    @handles(UserImage)
    async def image(self, frame: UserImage) -> None:
        """Log an image and give it to the model. Raises BadInput for one that the provider cannot take."""
        self._activate()
        sent = self.connection.dialect.image(frame) if self.connection is not None else []
        await super().image(frame)
        if self.connection is not None:
            self.connection.send(sent)

    def send(self, message: Callable[[Dialect], list[str]]) -> None:
        """Tell the provider, if there is a connection. What is in the log need not be told to one that comes later."""
        if self._live and self.connection is not None:
            self.connection.send(message(self.connection.dialect))

    def answers_or_is_about_to(self) -> bool:
        """Whether the model answers, or will without being asked."""
        speaking = self.speaking
        goes_on = speaking.busy or self._waits_for_tools or bool(self._native_results)
        return goes_on or any(not utterance.open for utterance in self.listening.hearing.utterances)

    @property
    def _waits_for_tools(self) -> bool:
        """True while this connection waits for results."""
        return self.connection is not None and self.session.calls.owned(self.connection)

    def _logged(self, item: Item) -> None:
        if item.kind in ("handoff", "note") and item.role == "system" and item.text:
            self.notes.add(lambda dialect: dialect.text(item.text, role="system"))

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        self._unanswered = ""
        begun, by_itself = self.speaking.begun, False
        with self.session.floor.scope(turn):
            if isinstance(asked, ToolResult):
                connection = self.connection
                by_itself = (
                    turn in self._native_results and connection is not None and connection.dialect.answers_results
                )
                if not by_itself:
                    await self.until(
                        lambda: not (self.speaking.busy or self.listening.hearing.utterances) or self._given_up
                    )
                    if self.speaking.begun > begun:
                        return  # the caller has spoken meanwhile, and the answer to that had the result in view
            try:
                answered = await self.speaking.ask(turn, extra, by_itself=by_itself)
            finally:
                self._native_results.discard(turn)
            if not answered:
                self._keep(asked)

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        with self.session.floor.scope(turn):
            if not await self.speaking.ask(turn, SAY + text):
                self._keep(Say(text=text))

    def _keep(self, asked: Input) -> None:
        """There is no connection any more: whoever takes the call over answers this."""
        if not isinstance(asked, Say):
            self._unanswered = "words"
        self._kept.append(asked)

    async def _not_understood(self, config: EngineConfig) -> int:
        self._unanswered = ""
        return 0

    def _take_result(self, frame: ToolResult) -> None:
        super()._take_result(frame)
        asked_as = self.session.calls.claim(frame.call_id, self.connection)
        if asked_as is not None:
            self._native_results.add(frame.turn)
            self.send(lambda dialect: dialect.tool_result(asked_as, frame.name, frame.result, respond=frame.respond))
        else:
            told = f"The tool {frame.name} has returned: {as_text(frame.result)}"
            self.notes.add(lambda dialect: dialect.text(told, role="system"))
            holds = self.connection is not None and self.connection.dialect.holds_text
            if frame.respond and holds and self.session.floor.caller_speaking:
                self.spawn(self._ask_when_quiet)

    async def _ask_when_quiet(self) -> None:
        """The answer to what the caller is saying will not have a result in view that is held back: ask after it."""
        await self.until(lambda: not (self.answers_or_is_about_to() or self.listening.hearing.utterances))
        if self._live:
            self._unanswered = "words"
            self._queue(EndOfTurn(at=self.session.now(), by="tool result"))

    def refuse_call(self, call: ToolCall, error: str) -> None:
        """A call is answered with an error, without having been made."""
        self._take_result(
            ToolResult(call_id=call.call_id, name=call.name, turn=call.turn, result={"error": error}, is_error=True)
        )

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Stop the provider, and take out of its memory what the caller has not heard."""
        super().interrupted(signal)
        self.speaking.interrupt(signal)
        self.notify()

    def put(self, frame: Output) -> None:
        """Let a frame go downstream, in order. Never waits: the playout may."""
        assert self._frames is not None
        self._frames.put_up(self._let_out, frame)

    async def _let_out(self, frame: Output) -> None:
        fenced = frame.turn <= self.session.floor.fence
        if isinstance(frame, ResponseStarted) and not fenced:
            self._let_begin.add(frame.response_id)
        elif isinstance(frame, ResponseEnded):
            if frame.response_id not in self._let_begin:
                return  # it was interrupted before anybody heard of its start
            self._let_begin.remove(frame.response_id)
            if fenced:
                frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self.push(frame)

    def unasked_turn(self) -> Ask:
        """The provider has begun to answer by itself: what the caller said last, or just so."""
        turn = self.session.floor.begin()
        return Ask("", turn, self.listening.unasked(turn))

    def finished(self, ask: Ask) -> None:
        """A response has been given."""
        if ask.utterance is not None:
            self.listening.answered(ask.utterance)
        if ask.answer is None:
            self._settle(ask.turn)
        self.notify()

    def consumed(self, usage: Usage) -> None:
        """What the provider says it has consumed: a response, which accounts for the audio, or a transcript."""
        if usage.model in ("", self.model):
            sent_s = self.listening.hearing.take_sent_s()
            usage = msgspec.structs.replace(usage, model=self.model, input_audio_s=sent_s)
        self.broadcast(msgspec.structs.replace(usage, service=self.name))

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Let out what has been begun and what is to be said; begin nothing else, and send nothing of the caller's."""
        self._leaving = True
        self.listening.hearing.hold(True)
        assert self._jobs is not None
        assert self._frames is not None
        await self._jobs.drain()
        await self.until(lambda: not self.speaking.busy or self._given_up)
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.until(lambda: not self.listening.waits_for_transcripts)
        await self._frames.drain()

    def stay(self) -> None:
        """The change does not come about: go on."""
        super().stay()
        self.listening.hearing.hold(False)

    def release(self) -> Handover:
        """Give away what has not been dealt with."""
        left = super().release()
        speech, words, over = self.listening.release()
        asked = tuple(frame for frame in left.asked if not (over and isinstance(frame, EndOfTurn)))
        if words and not asked:
            asked = (EndOfTurn(at=self.session.now(), by="hand-off"),)
        self._live = False
        self.notes.clear()
        return msgspec.structs.replace(
            left, speech=speech, asked=asked, unanswered="words" if words else left.unanswered
        )

    def adopt(self, left: Handover) -> None:
        """Take over what another engine has not dealt with, ahead of all that comes."""
        self.listening.hearing.adopt(left.speech)
        for result in left.results:  # into the log, so that the provider is told of them with the rest
            super()._take_result(result)
        super().adopt(msgspec.structs.replace(left, results=()))
        self._activate()

    # -- the connection --------------------------------------------------------------------------------------------

    async def connect(self, config: EngineConfig, handle: str) -> Connection[Dialect]:
        """A connection that is set up."""
        dialect = self.dialect(config, handle)
        return await dial(
            self.dial(config, handle), lambda wire: Connection(self, wire, dialect, self._event, self._manager.lost)
        )

    def usable_handle(self) -> str:
        """The handle, if it stands for all that was said."""
        return self._handle if self._log_length - self.listening.unanswered_items <= self._handle_stands_for else ""

    @property
    def _log_length(self) -> int:
        return len(self.session.conversation) + self.session.conversation.forgotten

    def take(self, connection: Connection[Dialect] | None, resumed: bool) -> str:
        """Use this connection from now on, in place of the one before. Says how it knows the conversation."""
        before, self.connection = self.connection, connection
        how = "resumed by handle" if resumed else "fresh"
        if before is not None:
            self._let_go(lost=connection is None)
        if connection is not None:
            self._resumed = resumed
            if not resumed:
                self._handle = ""
            if self._live:
                if not resumed and (told := self._seed(connection)):
                    how = f"replayed {told} messages"
                self.listening.attach(connection)
                self._log_connection(how)
        self.notify()
        return how

    def _log_connection(self, how: str) -> None:
        """The log shows where a new connection has taken over. The model is not told: it knows all the same."""
        self.session.conversation.add(
            "note", "system", name="connection", data={"engine": self.name, "connection": how}
        )
        self._handle_stands_for += 1  # the handle stands for it too: there is nothing in it

    def _let_go(self, *, lost: bool) -> None:
        """The connection is gone: what it owed is owed by the next one."""
        self._native_results.clear()
        self._changes.lost()
        for ask in self.speaking.abandon():
            if ask.utterance is not None and ask.utterance.text is None:
                # The question is not known as text, but will be heard again: the answer begins anew.
                if ask.said:
                    self.session.interrupt("connection lost")
            elif ask.said:
                self._queue(Respond(instructions=CONTINUE))
            else:
                self._unanswered = "words"
                self._queue(EndOfTurn(at=self.session.now(), by="connection lost"))
            self._settle(ask.turn)
        self.listening.detach(lost=lost)

    def given_up(self, error: Exception) -> None:
        """There is no connection any more, and there will be none."""
        self._given_up = True
        self.listening.hearing.tell_lost()
        self.notify()
        self.session.report(error, self.name, fatal=not self.replaceable)

    def reached_limit(self) -> None:
        """The session's limit is reached, and the connection is not to be replaced: end the call."""
        self.spawn(self.session.end, "cap")

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task of the session's."""
        return self.session.start_task(self, work)

    def report(self, error: Exception) -> None:
        """Report an error that the connection survives."""
        self.session.report(error, self.name)

    @property
    def is_given_up(self) -> bool:
        """There is no connection, and there will be none."""
        return self._given_up

    def is_quiet(self) -> bool:
        """Nobody speaks, nothing is asked for and nothing is being answered."""
        return not (
            self.speaking.busy
            or self._waits_for_tools
            or self.listening.hearing.utterances
            or self.listening.waits_for_transcripts
            or self.session.floor.caller_speaking
        )

    def waits_since(self) -> float | None:
        """Loop time since which the provider owes an answer: it was asked, or two turns of the caller moved nothing."""
        ignored = self.listening.ignored_since(self.connection) if self.connection is not None else None
        return min((at for at in (ignored, self.speaking.waits_since) if at is not None), default=None)

    def was_quiet(self, age_s: float) -> bool:
        """Return True if nothing goes on but speech of the caller that began less than `age_s` ago."""
        at = self.session.now() - age_s
        if self.speaking.busy or self._waits_for_tools:
            return False
        return all(utterance.start_s >= at for utterance in self.listening.hearing.utterances)

    def hold(self, held: bool) -> None:
        """Send nothing of the caller's, or go on; in a change of engines that is not the manager's to end."""
        self.listening.hearing.hold(held or self._leaving)

    def notify(self) -> None:
        """Something has changed: let those who wait look again."""
        if self._live:
            self.notes.tell_if_quiet()
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that `notify` is called for."""
        while not condition():
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher

    # -- what the provider tells -----------------------------------------------------------------------------------

    async def _event(self, connection: Connection[Dialect], event: Event) -> None:
        if connection is not self.connection:
            return
        handle = _EVENTS.get(type(event))
        if handle is not None:
            result = handle(self, event)
            if result is not None:
                await result

    async def _speech_began(self, event: SpeechBegan) -> None:
        self.speaking.forget_expected()  # what it had so far of the caller's turn it will not answer
        await self.listening.on_speech_began(event)

    def _refused(self, event: Refused) -> None:
        if self._changes.on_refused(event):
            return
        self.speaking.on_refused(event.about)
        self.session.report(ServiceError(f"{event.code}: {event.message}"), self.name)
        if event.fatal and self.connection is not None:
            self._manager.lost(self.connection, ConnectionLost(f"{event.code}: {event.message}", fatal=True))

    def _cut_short(self, event: CutShort) -> None:
        if may_interrupt(self.session):
            self.session.interrupt()
        self.speaking.forget_expected()

    def _handle_given(self, event: HandleGiven) -> None:
        if event.handle:
            self._handle, self._handle_stands_for = event.handle, self._log_length
            self.broadcast(ResumptionHandle(engine=self.name, handle=event.handle))

    def _passed(self, event: Unknown) -> None:
        self.session.report(ServiceError(f"the provider sent {event.kind!r}, which is not known here"), self.name)


_EVENTS: dict[type[Event], Callable[[SpeechToSpeech, Any], Any]] = {
    Voiced: lambda engine, event: engine.speaking.on_voiced(event),
    Said: lambda engine, event: engine.speaking.on_said(event),
    ResponseBegan: lambda engine, event: engine.speaking.on_began(event),
    AudioComplete: lambda engine, event: engine.speaking.on_given(event),
    Called: lambda engine, event: engine.speaking.on_called(event),
    ResponseFinished: lambda engine, event: engine.speaking.on_finished(event),
    CallsCancelled: lambda engine, event: engine.speaking.on_cancelled(event.call_ids),
    Consumed: lambda engine, event: engine.speaking.on_consumed(event.usage),
    GoingAway: lambda engine, event: engine._manager.going_away(event.left_s),
    SpeechBegan: SpeechToSpeech._speech_began,
    SpeechCeased: lambda engine, event: engine.listening.on_speech_ceased(event),
    TurnTaken: lambda engine, event: engine.listening.on_turn_taken(event),
    TurnTranscribed: lambda engine, event: engine.listening.on_transcribed(event),
    Refused: SpeechToSpeech._refused,
    Configured: lambda engine, event: engine._changes.on_configured(event),
    CutShort: SpeechToSpeech._cut_short,
    HandleGiven: SpeechToSpeech._handle_given,
    Unknown: SpeechToSpeech._passed,
}
