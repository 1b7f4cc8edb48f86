"""`SpeechToSpeech`: the base of native engines, which hear and speak by themselves."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import msgspec

from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import (
    Configure,
    End,
    EndOfTurn,
    Input,
    Interrupted,
    Output,
    Respond,
    ResponseEnded,
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
    UserTranscript,
)
from ..processors.base import handles
from ..processors.engine import Capabilities, EngineConfig, Handover
from ..processors.interruption import may_interrupt
from ..processors.tools import ToolSpec
from ..session.conversation import Item
from .answering import Answering
from .connection import Connection, dial
from .dialect import ConnectionLost, Dialect, Wire
from .events import (
    Began,
    Called,
    CallsCancelled,
    Configured,
    Consumed,
    CutShort,
    Event,
    Finished,
    GoingAway,
    HandleGiven,
    Passed,
    Refused,
    Said,
    SpeechBegan,
    SpeechCeased,
    Transcribed,
    TurnTaken,
    Voiced,
)
from .first import first_configuration
from .hearing import RECENT_S, Hearing, Utterance
from .manager import ConnectionManager, ConnectionSettings
from .messages import messages, recent
from .queue import Queue
from .schemas import check_tools
from .speaking import CONTINUE, Ask, Speaking

TRANSCRIPT_WAIT_S = 2.0
"""For the transcript of what was said last, before another engine or connection takes over."""
MAX_SPEECH_FRAMES = 4_096
"""Pieces of the agent's speech that wait for the playout; of four times as many the rest is refused with an error."""
MAX_LATE = 32
"""Turns of the caller's that have been answered and wait for their transcript."""
NOISE_S = 10.0
"""A turn of the caller's that the provider has neither transcribed nor answered after so long was no speech to it."""


class SpeechToSpeech(Answering):
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

    def __init__(
        self,
        *,
        instructions: str = "",
        voice: str = "",
        tools: Iterable[ToolSpec] = (),
        connection: ConnectionSettings | None = None,
    ) -> None:
        super().__init__()
        self.connection_settings = connection or ConnectionSettings()
        self.config = EngineConfig(instructions=instructions, voice=voice, tools=tuple(tools))
        self.connection: Connection | None = None
        """The connection that is in use."""
        self._manager = ConnectionManager(self, self.connection_settings)
        self._speaking = Speaking(self)
        self._hearing_: Hearing | None = None
        self._frames: Queue | None = None
        self._live = False  # this engine has the call
        self._given_up = False
        self._ears = False  # somebody before this detects speech
        # Of the latest connection:
        self._server_turns, self._tells_speech = True, False
        self._answers_turns, self._answers_results = True, False
        self._handle = ""
        self._handle_stands_for = 0  # how many items of the log
        self._late: deque[Utterance] = deque(maxlen=MAX_LATE)  # answered, not transcribed yet
        self._unheard_since: deque[float] = deque(maxlen=2)  # ends of the caller's latest turns, loop time
        self._native_results: set[int] = set()  # turns whose results went to the connection that had asked
        self._updates: dict[str, asyncio.Future[Refused | None]] = {}
        self._update_ids = 0
        self._watchers: list[asyncio.Future[None]] = []
        self._configuring = anyio.Lock()
        self._listens = False
        self._greeting = ""

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
        check_tools(config.tools)
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
        self._update_ids += 1
        update_id = f"update_{self._update_ids}"
        sent = connection.dialect.update(update_id, config)
        if sent is None:
            await self._manager.replace(config, "a change that takes a new connection")
        elif not connection.dialect.acknowledges_updates:
            connection.send(sent)
            self.config = config
        else:
            await self._change_in_place(connection, update_id, sent)
            self.config = config

    async def _change_in_place(self, connection: Connection, update_id: str, sent: list[str]) -> None:
        answer: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        self._updates[update_id] = answer
        connection.send(sent)
        try:
            with anyio.fail_after(self.connection_settings.connect_timeout_s):
                refused = await answer
        except TimeoutError as error:
            connection.lose("a change of the configuration was not answered")
            raise DeadlineExceeded("the provider did not answer the change") from error
        finally:
            del self._updates[update_id]
        if refused is not None:
            raise ConfigurationError(f"{self.name}: {refused.code}: {refused.message}")

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def output_rate(self) -> int:
        """Of the audio that comes, in Hz."""
        return self.capabilities.output_sample_rate

    @property
    def _hearing(self) -> Hearing:
        if self._hearing_ is None:
            rate = self.capabilities.input_sample_rate
            self._hearing_ = Hearing(rate, self.connection_settings.ring_s, self._audio_lost)
        return self._hearing_

    def _audio_lost(self, samples: int) -> None:
        limit_s = self.connection_settings.ring_s
        what = f"{samples} samples of the caller's audio were dropped: {limit_s:g} s are kept without a connection"
        self.session.report(ServiceError(what), self.name)

    async def open(self) -> None:
        """Connect. Raises ConnectionLost if the provider refuses, DeadlineExceeded if it takes too long."""
        await super().open()
        self._frames = Queue(self, self.session, MAX_SPEECH_FRAMES)
        self._manager = ConnectionManager(self, self.connection_settings)
        self._speaking, self._hearing_ = Speaking(self), None
        self._live = self._given_up = False
        self._handle = ""
        if not self._listens:
            self._listens = True
            self.session.conversation.listen(self._logged)
        # Whoever opens beside this may still configure it: one connection is enough then.
        await anyio.lowlevel.checkpoint()
        first, self._greeting = first_configuration(self.session, self.config)
        if first is not None:
            self.config = self.config.changed(first)
        made_with = self._checked(self.config)
        await self._manager.open()
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
        if self._greeting:
            self._queue(Say(text=self._greeting))

    def _activate(self) -> None:
        """This engine has the call from now on: the provider is told what was said so far."""
        if self._live or self._jobs is None:
            return
        self._live = True
        if self.connection is not None:
            self._seed(self.connection)
            self._hearing.attach(self.connection, again=True)
        self.notify()

    def _seed(self, connection: Connection) -> int:
        limit = self.connection_settings.replay_messages
        told = recent(messages(self.session.conversation, self.session.ledger, open_calls=False), limit)
        if told:
            connection.send(connection.dialect.history(told))
        return sum(message.role in ("user", "assistant") for message in told)

    @handles(End)
    async def end(self, frame: End) -> None:
        """The call ends once what the agent was asked for has been given."""
        await super().end(frame)
        await self.until(lambda: not self._speaking.busy or self._given_up)
        if self._frames is not None:
            await self._frames.drain()

    # -- the caller ------------------------------------------------------------------------------------------------

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Send it, or keep it until that is possible."""
        if not self._live:
            self._activate()
        self._hearing.add(frame)
        if self.connection is not None:
            await self.connection.room()
        await self.push(frame)

    @handles(SpeechStarted)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """The caller's turn begins, or goes on."""
        self._activate()
        self._ears = True
        if not self._follows_provider and self._hearing.going_on is None:
            self._hearing.begin(frame.at)
        self._hearing.add(frame)
        await self.push(frame)

    @handles(SpeechStopped)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Passes."""
        self._hearing.add(frame)
        await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """The caller's turn is over, if it is not the provider who decides that."""
        utterance = None if self._follows_provider else self._hearing.going_on
        self._hearing.add(frame)
        self._unheard_since.append(asyncio.get_running_loop().time())
        if utterance is not None:
            self._hearing.end(utterance, frame.at)
            if self._server_turns:
                self.spawn(self._forget_noise, utterance)
            else:
                self._take_turn(utterance, by_itself=self._answers_turns)
        await self.push(frame)

    async def _forget_noise(self, utterance: Utterance) -> None:
        await anyio.sleep(NOISE_S)
        if utterance.text is None and not utterance.turn and self.connection is not None:
            self._settle_utterance(utterance)

    @property
    def _follows_provider(self) -> bool:
        """Whether the provider tells when the caller speaks, and that is what counts."""
        return self._server_turns and self._tells_speech

    def _take_turn(self, utterance: Utterance, *, by_itself: bool) -> None:
        """The caller's turn is complete: its place in the log is made, and an answer is due."""
        floor = self.session.floor
        dismissed, floor.dismissed = floor.dismissed and floor.owner == "agent", False
        if by_itself:
            turn = floor.begin()
            self._place(utterance, turn)
            if not self._hearing.held:  # else it has not reached the provider
                self._speaking.expect(turn, utterance)
            return
        self._place(utterance, floor.turn + 1)
        if not dismissed:
            self._unanswered = "words"
            self._queue(EndOfTurn(at=utterance.end_s, by="turn"))

    def _place(self, utterance: Utterance, turn: int) -> None:
        """Its place in the log, before the transcript is there."""
        utterance.turn = turn
        if not utterance.log_id:
            utterance.log_id = self.session.conversation.add(
                "message", "caller", turn=turn, at=utterance.start_s, ended_at=utterance.end_s, status="in_progress"
            ).id

    def _settle_utterance(self, utterance: Utterance) -> None:
        self._hearing.settle(utterance)
        if utterance.text is None and utterance.log_id:
            self.session.conversation.remove(utterance.log_id)
        self.notify()

    @handles(UserText)
    async def typed(self, frame: UserText) -> None:
        """Log typed text and give it to the model."""
        self._activate()
        text = frame.text if frame.author == "caller" else f"[{frame.author}] {frame.text}"
        await super().typed(frame)
        self.send(lambda dialect: dialect.text(text))

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

    def _logged(self, item: Item) -> None:
        if item.kind in ("handoff", "note") and item.role == "system" and item.text:
            self.send(lambda dialect: dialect.text(item.text, role="system"))

    # -- answers ---------------------------------------------------------------------------------------------------

    async def _answer(self, turn: int, extra: str, asked: Input) -> None:
        self._unanswered = ""
        begun, by_itself = self._speaking.begun, False
        with self.session.floor.scope(turn):
            if isinstance(asked, ToolResult):
                connection = self.connection
                by_itself = (
                    turn in self._native_results and connection is not None and connection.dialect.answers_results
                )
                self._native_results.discard(turn)
                if not by_itself:
                    await self.until(lambda: not (self._speaking.busy or self._hearing.utterances))
                    if self._speaking.begun > begun:
                        return  # the caller has spoken meanwhile, and the answer to that had the result in view
            await self._speaking.ask(turn, extra, by_itself=by_itself)

    async def _speak(self, turn: int, config: EngineConfig, text: str) -> None:
        with self.session.floor.scope(turn):
            await self._speaking.ask(turn, f"Say exactly this, word for word, and nothing else: {text}")

    async def _not_understood(self, config: EngineConfig) -> int:
        self._unanswered = ""
        return 0

    def _take_result(self, frame: ToolResult) -> None:
        super()._take_result(frame)
        asked_as = self._speaking.take_call(frame)
        if asked_as is not None:
            self._native_results.add(frame.turn)
            self.send(lambda dialect: dialect.tool_result(asked_as, frame.name, frame.result, respond=frame.respond))
        else:
            result = frame.result if isinstance(frame.result, str) else msgspec.json.encode(frame.result).decode()
            self.send(lambda dialect: dialect.text(f"The tool {frame.name} has returned: {result}", role="system"))

    def refuse_call(self, call: ToolCall, error: str) -> None:
        """A call is answered with an error, without having been made."""
        self._take_result(
            ToolResult(call_id=call.call_id, name=call.name, turn=call.turn, result={"error": error}, is_error=True)
        )

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Stop the provider, and take out of its memory what the caller has not heard."""
        super().interrupted(signal)
        self._speaking.interrupt(signal)
        self.notify()

    def put(self, frame: Output) -> None:
        """Let a frame go downstream, in order. Never waits: the playout may."""
        assert self._frames is not None
        self._frames.put_up(self._let_out, frame)

    async def _let_out(self, frame: Output) -> None:
        if isinstance(frame, ResponseEnded) and frame.turn <= self.session.floor.fence:
            frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self.push(frame)

    def unasked_turn(self) -> Ask:
        """The provider has begun to answer by itself: what the caller said last, or just so."""
        utterance = next((u for u in self._hearing.utterances if not u.turn or u.text is not None), None)
        turn = self.session.floor.begin()
        if utterance is not None:
            self._place(utterance, turn)
        return Ask("", turn, utterance)

    def finished(self, ask: Ask) -> None:
        """A response has been given."""
        if ask.utterance is not None:
            self._hearing.settle(ask.utterance)
            if ask.utterance.text is None:
                ask.utterance.answered_at = asyncio.get_running_loop().time()
                self._late.append(ask.utterance)
        if ask.answer is None:
            self._settle(ask.turn)
        self.notify()

    def consumed(self, usage: Usage) -> None:
        """What the provider says it has consumed."""
        self.broadcast(
            msgspec.structs.replace(
                usage, service=self.name, model=self.model, input_audio_s=self._hearing.take_sent_s()
            )
        )

    # -- a change of engines in mid-call ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Let out what has been begun and what is to be said; begin nothing else, and send nothing of the caller's."""
        self._leaving = True
        self._hearing.hold(True)
        assert self._jobs is not None
        assert self._frames is not None
        await self._jobs.drain()
        await self.until(lambda: not self._speaking.busy or self._given_up)
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.until(lambda: not self._late)
        await self._frames.drain()

    def stay(self) -> None:
        """The change does not come about: go on."""
        super().stay()
        self._hearing.hold(False)

    def release(self) -> Handover:
        """Give away what has not been dealt with."""
        left, hearing = super().release(), self._hearing
        self._forget_late()
        for utterance in list(hearing.utterances):
            if utterance.text is not None:
                hearing.settle(utterance)
                left = msgspec.structs.replace(left, unanswered="words")
            elif utterance.log_id:
                self.session.conversation.remove(utterance.log_id)
        untold = any(not utterance.open for utterance in hearing.utterances)
        asked = tuple(f for f in left.asked if not (untold and isinstance(f, EndOfTurn)))
        if left.unanswered == "words" and not asked:
            asked = (EndOfTurn(at=self.session.now(), by="hand-off"),)
        left = msgspec.structs.replace(left, asked=asked, speech=hearing.release())
        self._live = False
        return left

    def adopt(self, left: Handover) -> None:
        """Take over what another engine has not dealt with, ahead of all that comes."""
        self._hearing.adopt(left.speech)
        asked, results = left.asked, left.results
        for result in results:  # into the log, so that the provider is told of them with the rest
            super()._take_result(result)
        super().adopt(msgspec.structs.replace(left, results=(), asked=asked))
        self._activate()

    # -- the connection --------------------------------------------------------------------------------------------

    async def connect(self, config: EngineConfig, handle: str) -> Connection:
        """A connection that is set up."""
        dialect = self.dialect(config, handle)
        return await dial(
            self.dial(config, handle), lambda wire: Connection(self, wire, dialect, self._event, self._manager.lost)
        )

    def usable_handle(self) -> str:
        """The handle, if it stands for all that was said."""
        unanswered = sum(bool(utterance.log_id) for utterance in self._hearing.utterances)
        return self._handle if self._log_length - unanswered <= self._handle_stands_for else ""

    @property
    def _log_length(self) -> int:
        return len(self.session.conversation) + self.session.conversation.forgotten

    def take(self, connection: Connection | None, resumed: bool) -> str:
        """Use this connection from now on, in place of the one before. Says how it knows the conversation."""
        before, self.connection = self.connection, connection
        if before is not None:
            self._let_go()
        how = "fresh"
        self._hearing.attach(None, again=False)
        if connection is not None:
            dialect = connection.dialect
            self._server_turns, self._tells_speech = dialect.server_turns, dialect.tells_speech
            self._answers_turns, self._answers_results = dialect.answers_turns, dialect.answers_results
            if not resumed:
                self._handle = ""
            if self._live:
                told = 0 if resumed else self._seed(connection)
                how = "resumed by handle" if resumed else f"replayed {told} messages" if told else "fresh"
                self._hearing.attach(connection, again=True)
                if self._follows_provider:
                    self._hearing.utterances.clear()
            elif resumed:
                how = "resumed by handle"
        self.notify()
        return how

    def _let_go(self) -> None:
        """The connection is gone: what it owed is owed by the next one."""
        self._native_results.clear()
        for update in self._updates.values():
            if not update.done():
                update.set_exception(ConnectionLost("the connection was lost"))
        floor, hearing = self.session.floor, self._hearing
        for ask in self._speaking.abandon():
            utterance = ask.utterance
            if utterance is not None and utterance.text is None:
                if ask.said:  # the question is not known as text, and is heard again: the answer begins anew
                    self.session.interrupt("connection lost")
                floor.finish(ask.turn)
            elif ask.said:
                self._queue(Respond(instructions=CONTINUE))
                self._settle(ask.turn)
            else:
                self._unanswered = "words"
                self._queue(EndOfTurn(at=self.session.now(), by="connection lost"))
                self._settle(ask.turn)
        for utterance in list(hearing.utterances):
            if utterance.text is not None:
                hearing.settle(utterance)  # the log has it
            elif utterance.log_id:
                self.session.conversation.remove(utterance.log_id)
                utterance.log_id, utterance.turn, utterance.item = "", 0, ""
        self._forget_late()

    def _forget_late(self) -> None:
        """What was answered, but not transcribed, will never be: nothing is known of it."""
        for utterance in self._late:
            self.session.conversation.remove(utterance.log_id)
        self._late.clear()

    def given_up(self, error: Exception) -> None:
        """There is no connection any more, and there will be none."""
        self._given_up = True
        self._hearing.tell_lost()
        self.notify()
        self.session.report(error, self.name, fatal=True)

    def is_quiet(self) -> bool:
        """Nobody speaks, nothing is asked for and nothing is being answered."""
        return not (
            self._speaking.busy
            or self._speaking.waits_for_tools
            or self._hearing.utterances
            or self._waits_for_transcripts
            or self.session.floor.caller_speaking
        )

    @property
    def _waits_for_transcripts(self) -> bool:
        since = asyncio.get_running_loop().time() - TRANSCRIPT_WAIT_S
        return any(utterance.answered_at > since for utterance in self._late)

    def waits_since(self) -> float | None:
        """Loop time since which the provider owes an answer: it was asked, or two turns of the caller moved nothing."""
        asked = self._speaking.waits_since
        if self.connection is not None and len(self._unheard_since) == 2:
            first = self._unheard_since[0]
            if self._server_turns and first > self.connection.told_at:
                return first if asked is None else min(first, asked)
        return asked

    def was_quiet(self, at: float) -> bool:
        """Whether nothing is going on but speech that began after this session time."""
        if self._speaking.busy or self._speaking.waits_for_tools:
            return False
        return all(utterance.start_s >= at for utterance in self._hearing.utterances)

    def hold(self, held: bool) -> None:
        """Send nothing of the caller's, or go on; in a change of engines that is not the manager's to end."""
        self._hearing.hold(held or self._leaving)

    def notify(self) -> None:
        """Something has changed: let those who wait look again."""
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

    async def _event(self, connection: Connection, event: Event) -> None:
        if connection is not self.connection:
            return
        handle = _EVENTS.get(type(event))
        if handle is not None:
            result = handle(self, event)
            if result is not None:
                await result

    async def _speech_began(self, event: SpeechBegan) -> None:
        hearing, floor = self._hearing, self.session.floor
        at = hearing.session_time(event.at_ms)
        utterance = hearing.begin(at, RECENT_S)
        utterance.item = event.item
        self._speaking.forget_expected()
        if not self._ears:
            floor.caller_speaking = True
            floor.touched()
        if may_interrupt(self.session):
            self.session.interrupt()
        if not self._ears:
            await self.push(SpeechStarted(at=at))

    async def _speech_ceased(self, event: SpeechCeased) -> None:
        utterance = self._find(event.item)
        at = self._hearing.session_time(event.at_ms)
        if utterance is not None:
            utterance.end_s = at
        if not self._ears:
            self.session.floor.caller_speaking = False
            self.session.floor.touched()
            await self.push(SpeechStopped(at=at))

    async def _turn_taken(self, event: TurnTaken) -> None:
        if not self._follows_provider:
            utterance = self._find("")
            if utterance is not None:
                utterance.item = event.item
            return
        utterance = self._find(event.item) or self._hearing.begin(self.session.now(), 0.0)
        utterance.item = event.item
        self._hearing.end(utterance, utterance.end_s or self.session.now())
        self._take_turn(utterance, by_itself=event.answered)
        if not self._ears:
            await self.push(EndOfTurn(at=utterance.end_s, by="server"))

    def _find(self, item: str) -> Utterance | None:
        """The caller's turn with this id, else the oldest that has neither id nor transcript."""
        utterances = [*self._late, *self._hearing.utterances]
        named = next((u for u in utterances if item and u.item == item), None)
        return named or next((u for u in utterances if not u.item and u.text is None), None)

    async def _transcribed(self, event: Transcribed) -> None:
        utterance = self._find(event.item)
        if utterance is None:
            if event.item or not event.text.strip():
                return  # of a turn that was settled long ago
            utterance = self._hearing.begin(self.session.now(), RECENT_S)
        text = event.text.strip()
        frame = UserTranscript(
            text=text,
            final=event.final,
            start_s=utterance.start_s,
            end_s=utterance.end_s if event.final else 0.0,
            language=event.language,
        )
        if event.final:
            late = utterance in self._late
            if late:
                self._late.remove(utterance)
            elif utterance.open:
                self._hearing.end(utterance, utterance.end_s or self.session.now())
            if text:
                self._place(utterance, utterance.turn or self.session.floor.turn + 1)
                utterance.text = text
                if self.session.conversation.get(utterance.log_id) is not None:
                    self.session.conversation.update(utterance.log_id, text=text, status="complete")
            if late or not text:
                self._settle_utterance(utterance)
        await self.push_up(frame)
        await self.push(frame)
        self.notify()

    def _refused(self, event: Refused) -> None:
        update = self._updates.get(event.about)
        if update is not None and not update.done():
            update.set_result(event)
            return
        self.session.report(ServiceError(f"{event.code}: {event.message}"), self.name)
        if event.fatal and self.connection is not None:
            self._manager.lost(self.connection, ConnectionLost(f"{event.code}: {event.message}", fatal=True))

    def _configured(self, event: Configured) -> None:
        update = self._updates.get(event.update_id)
        if update is not None and not update.done():
            update.set_result(None)

    def _cut_short(self, event: CutShort) -> None:
        if may_interrupt(self.session):
            self.session.interrupt()

    def _handle_given(self, event: HandleGiven) -> None:
        self._handle = event.handle or self._handle
        if event.handle:
            self._handle_stands_for = self._log_length

    def _passed(self, event: Passed) -> None:
        self.session.report(ServiceError(f"the provider sent {event.kind!r}, which is not known here"), self.name)


_EVENTS: dict[type[Event], Callable[[SpeechToSpeech, Any], Any]] = {
    Voiced: lambda engine, event: engine._speaking.on_voiced(event),
    Said: lambda engine, event: engine._speaking.on_said(event),
    Began: lambda engine, event: engine._speaking.on_began(event),
    Called: lambda engine, event: engine._speaking.on_called(event),
    Finished: lambda engine, event: engine._speaking.on_finished(event),
    CallsCancelled: lambda engine, event: engine._speaking.on_cancelled(event.call_ids),
    Consumed: lambda engine, event: engine.consumed(event.usage),
    GoingAway: lambda engine, event: engine._manager.going_away(event.left_s),
    SpeechBegan: SpeechToSpeech._speech_began,
    SpeechCeased: SpeechToSpeech._speech_ceased,
    TurnTaken: SpeechToSpeech._turn_taken,
    Transcribed: SpeechToSpeech._transcribed,
    Refused: SpeechToSpeech._refused,
    Configured: SpeechToSpeech._configured,
    CutShort: SpeechToSpeech._cut_short,
    HandleGiven: SpeechToSpeech._handle_given,
    Passed: SpeechToSpeech._passed,
}
