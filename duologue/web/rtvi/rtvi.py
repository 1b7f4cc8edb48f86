"""RTVI: the messages that Pipecat's client kits understand, both ways.

An application reaches the client of a call by `of(transport)`: see `RtviClient`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ... import __version__
from ...errors import BadInput, DuologueError
from ...frames import (
    AccessChanged,
    AudioLevel,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    BotText,
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    Dtmf,
    ErrorRaised,
    Interrupted,
    Respond,
    ResponseEnded,
    ResponseStarted,
    SessionEnding,
    SessionStarted,
    Transcribed,
    Usage,
    UserText,
)
from ...processors.tools import shared_tools
from ...session.conversation import Item
from ...session.life import State
from ...session.session import Session
from ...transports.client import ClientTransport, Message, Written
from .client import ClientTool, ClientToolSpec, RtviClient, of
from .messages import (
    LABEL,
    PROTOCOL,
    ClientMessage,
    ClientReady,
    DtmfKeys,
    FunctionCallResult,
    RawAudio,
    SendFile,
    SendText,
    TextOptions,
    envelope,
    is_plain,
    read,
    version,
)
from .output import BotOutput
from .page_messages import PageMessages, TurnTimes

__all__ = ["ClientTool", "Rtvi", "RtviClient", "of"]

log = logging.getLogger("duologue")

MAX_REQUESTS = 16
"""Client messages of one client that are being answered. Beyond that further ones are refused."""
MAX_CATCH_UP = 200
"""Of what was said before the client was ready, so many entries are told."""


class Rtvi:
    """Speaks RTVI 2 (and 1, with clients of that version) with one client.

    What happens is told to the client once it has said that it is ready and the session runs; what was said before
    is told then. With `controls` the client is told what the page shows, and may do what the page offers.
    """

    def __init__(self, transport: ClientTransport, session: Session, *, controls: bool = False) -> None:
        self._transport, self._session = transport, session
        self._client = of(transport)
        self._controls = controls
        self._output = BotOutput(session, self._send)
        self._page = PageMessages(session, self._client) if controls else None
        self._times: TurnTimes | None = None
        self._asked: tuple[str, ClientReady] | None = None  # the client is ready, and is to be told when the agent is
        self._answering = 0
        self._show_after: int | None = None  # the next turn after this one is shown and not spoken
        self._unspoken = 0
        self._last_said = ("", "")  # the caller's latest message: its id and text

    def attach(self) -> None:
        """Listen to both sides."""
        session, on = self._session, self._session.on
        on(SessionStarted, lambda signal: self._ready())
        on(CallerStartedSpeaking, lambda signal: self._send("user-started-speaking"))
        on(CallerStoppedSpeaking, lambda signal: self._send("user-stopped-speaking"))
        on(Transcribed, self._transcribed)
        on(BotStartedSpeaking, lambda signal: self._send("bot-started-speaking"))
        on(BotStoppedSpeaking, lambda signal: self._send("bot-stopped-speaking"))
        on(Interrupted, self._interrupted)
        on(AccessChanged, self._access_changed)
        on(ErrorRaised, self._failed)
        on(Usage, self._used)
        if self._client.audio_levels:
            on(AudioLevel, self._level)
        session.conversation.listen(self._logged)
        self._transport.on_written(self._written)
        if self._page is not None:
            self._page.attach()
        self._transport.on_message(self._received)

    def _send(self, kind: str, data: dict[str, Any] | None = None) -> None:
        if self._client.ready:
            self._transport.send_message(envelope(kind, data))

    # -- the hand-shake --------------------------------------------------------------------------------------------

    def _client_ready(self, id: str, data: ClientReady) -> None:
        theirs = self._client.version = version(data.version)
        if theirs[0] not in (1, 2):
            self._refuse(id, f"version {data.version!r} of RTVI is not supported; version {PROTOCOL} is spoken")
        self._output.words = theirs[0] == 1
        self._asked = (id, data)
        if self._session.state is State.ACTIVE:
            self._ready()

    def _ready(self) -> None:
        if self._asked is None:
            return
        (id, data), self._asked = self._asked, None
        first = not self._client.ready
        spoken = data.version if self._client.version[0] == 1 else PROTOCOL
        about = {"library": "duologue", "library_version": __version__}
        self._transport.send_message(envelope("bot-ready", {"version": spoken, "about": about}, id))
        self._client.become_ready()
        if first:
            self._catch_up()
            self._session.audio.played.add(self._output.progress)
            if self._controls or self._client.metrics:
                self._measure()
        if self._page is not None:
            self._page.begin()

    def _catch_up(self) -> None:
        """Tell what was said before the client was ready."""
        for item in self._session.conversation.items[-MAX_CATCH_UP:]:
            if item.kind != "message" or not item.text or item.name:
                continue
            if item.role == "caller":
                self._send("user-transcription", self._transcript(item.text, final=True))
            elif item.role == "agent":
                self._output.tell_said(item)
        if self._session.floor.caller_speaking:
            self._send("user-started-speaking")
        if self._session.floor.agent_speaking:
            self._send("bot-started-speaking")
        self._output.tell_again()

    # -- what happens ----------------------------------------------------------------------------------------------

    def _transcript(self, text: str, *, final: bool) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"text": text, "user_id": self._transport.id, "timestamp": now, "final": final}

    def _transcribed(self, signal: Transcribed) -> None:
        if not signal.text:
            return
        data = self._transcript(signal.text, final=signal.final)
        self._send("user-transcription", data)
        if self._client.version >= (2, 2, 0):
            self._send("user-input", {**data, "input_type": "transcription"})

    def _interrupted(self, signal: Interrupted) -> None:
        self._output.cut(signal.turn)
        if self._client.version[0] != 1:
            self._send("bot-interrupted")

    def _access_changed(self, signal: AccessChanged) -> None:
        self._send("user-mute-stopped" if signal.access == "active" else "user-mute-started")

    def _failed(self, signal: ErrorRaised) -> None:
        # What an unexpected error says may be for the application's eyes only.
        message = "an internal error" if signal.category == "internal" else signal.message
        self._send("error", {"error": message, "fatal": signal.fatal})

    def _level(self, signal: AudioLevel) -> None:
        value = round(min(1.0, 10 ** (signal.dbfs / 20)), 4)
        self._send("user-audio-level" if signal.who == "caller" else "bot-audio-level", {"value": value})

    def _used(self, usage: Usage) -> None:
        who = {"processor": usage.service, **({"model": usage.model} if usage.model else {})}
        metrics: dict[str, Any] = {}
        if total := usage.input_tokens + usage.output_tokens:
            tokens = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
            metrics["tokens"] = [{**who, **tokens, "total_tokens": total}]
        if usage.characters:
            metrics["characters"] = [{**who, "value": usage.characters}]
        if metrics:
            self._send("metrics", metrics)

    def _measure(self) -> None:
        if self._times is None:
            times = self._times = TurnTimes(self._session)
            times.listen(lambda turn: self._send("metrics", {"ttfb": times.ttfb(turn)}))
            if (page := self._page) is not None:
                times.listen(lambda turn: page.latency(turn, times.median_ms))
            self._session.on(SessionEnding, lambda signal: times.stop())

    # -- what the agent says ---------------------------------------------------------------------------------------

    def _written(self, frame: Written) -> None:
        if isinstance(frame, BotText):
            self._output.wrote(frame.response_id, frame.text)
            self._send("bot-llm-text", {"text": frame.text})
        elif isinstance(frame, ResponseStarted):
            if self._show_after is not None and frame.turn > self._show_after:
                self._show_after, self._unspoken = None, frame.turn
                self._transport.show_only(frame.turn)
            self._send("bot-llm-started")
            self._output.started(frame, spoken=frame.turn != self._unspoken)
        elif isinstance(frame, ResponseEnded):
            self._output.ended(frame)
            self._send("bot-llm-stopped")

    def _logged(self, item: Item) -> None:
        if item.kind == "message" and item.role == "agent" and item.status != "in_progress":
            self._output.settled(item)
        elif item.kind == "message" and item.role == "caller" and item.text:
            self._caller_said(item)
        elif item.kind == "tool_call":
            self._tool_called(item)
        elif item.kind == "tool_result":
            self._tool_returned(item)

    def _caller_said(self, item: Item) -> None:
        if (item.id, item.text) != self._last_said:
            self._last_said = (item.id, item.text)
            self._send("user-llm-text", {"text": item.text})

    def _tool_called(self, item: Item) -> None:
        report = self._client.function_calls
        name = {} if report == "none" else {"function_name": item.name}
        self._send("llm-function-call-started", name)
        theirs = self._is_the_clients(item.name)
        if theirs and self._client.version[0] >= 2:
            return  # it is told when the tool is to run, and runs it then
        arguments = {"arguments": item.data} if report == "full" else {}
        named = {} if theirs else name
        self._send("llm-function-call-in-progress", {"tool_call_id": item.call_id, **named, **arguments})

    def _tool_returned(self, item: Item) -> None:
        report = self._client.function_calls
        cancelled = isinstance(item.data, dict) and str(item.data.get("error", "")).startswith("cancelled")
        told: dict[str, Any] = {"tool_call_id": item.call_id, "cancelled": cancelled}
        if report != "none":
            told["function_name"] = item.name
        if report == "full" and not cancelled:
            told["result"] = item.data
        self._send("llm-function-call-stopped", told)

    def _is_the_clients(self, name: str) -> bool:
        agent = self._session.agent
        specs = [*shared_tools(self._session.pipeline), *(tool.spec for tool in (agent.toolset if agent else ()))]
        return any(isinstance(spec, ClientToolSpec) and spec.name == name for spec in specs)

    # -- what the client sends -------------------------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        if message.get("label") != LABEL:
            return
        if not is_plain(message):
            self._refuse("", "The message has text that is no Unicode, or numbers that nothing can hold")
            return
        id, kind = message.get("id"), message.get("type")
        id = id if isinstance(id, str) else ""
        handle = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handle is None:
            what = f"Unsupported type {kind[:64]}" if isinstance(kind, str) else "The message has no type"
            self._refuse(id, what)
            return
        model, method = handle
        self._try(id, lambda: method(self, id, read(message.get("data"), model)))

    def _try(self, id: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            self._refuse_for(id, error)

    def _refuse(self, id: str, error: str) -> None:
        self._transport.send_message(envelope("error-response", {"error": error}, id))

    def _refuse_for(self, id: str, error: Exception) -> None:
        if isinstance(error, DuologueError):
            self._refuse(id, str(error))
        else:
            self._session.report(error, "Rtvi")
            self._refuse(id, "an error of the application")

    def _disconnect(self, id: str, data: dict[str, Any]) -> None:
        session, reason = self._session, "client disconnected the agent"
        if session.state is State.ACTIVE:
            session.interrupt(reason)
            session.start_task(session.pipeline, session.end(reason))
        else:
            session.cancel(reason)

    def _text(self, id: str, data: SendText) -> None:
        self._typed(data.content, data.options)

    def _file(self, id: str, data: SendFile) -> None:
        self._transport.feed_frame(data.image())
        if data.content:
            self._typed(data.content, data.options)
        elif data.options.run_immediately:
            self._transport.feed_frame(Respond())

    def _typed(self, text: str, options: TextOptions) -> None:
        if options.run_immediately and not options.audio_response:
            self._show_after = self._session.floor.turn
        self._transport.feed_frame(UserText(text=text, respond=options.run_immediately))

    def _result(self, id: str, data: FunctionCallResult) -> None:
        if not self._client.called(data.tool_call_id, data.result):
            known = any(item.call_id == data.tool_call_id for item in self._session.conversation)
            if not known:  # else it comes too late, or of a function that runs here
                raise BadInput(f"no tool call {data.tool_call_id[:64]!r} waits for a result")

    def _keys(self, id: str, data: DtmfKeys) -> None:
        keys = [data.button] if data.button is not None else data.buttons
        if not keys:
            raise BadInput("no key is named in buttons")
        for key in keys:
            self._transport.feed_frame(Dtmf(digit=key))

    def _audio(self, id: str, data: RawAudio) -> None:
        self._transport.feed(data.pcm(), data.sample_rate)

    # -- the application's messages --------------------------------------------------------------------------------

    def _client_message(self, id: str, data: ClientMessage) -> None:
        if data.t == "duologue.metrics":
            self._measure()
            self._respond(id, data.t, None)
            return
        handler = self._client.handlers.get(data.t)
        if handler is None:
            raise BadInput(f"Unsupported client message {data.t[:64]!r}")
        if self._answering >= MAX_REQUESTS:
            raise BadInput(f"{MAX_REQUESTS} client messages are being answered already")
        self._session.host.require_running("answer")
        given = read(data.d, handler.model) if handler.model is not Any else data.d
        result = handler.call(given)
        if inspect.isawaitable(result):
            self._answering += 1
            self._session.start_task(self._session.pipeline, self._answer(id, data.t, result))
        else:
            self._respond(id, data.t, result)

    async def _answer(self, id: str, t: str, result: Any) -> None:
        try:
            self._respond(id, t, await result)
        except Exception as error:
            self._refuse_for(id, error)
        finally:
            self._answering -= 1

    def _respond(self, id: str, t: str, d: Any) -> None:
        self._transport.send_message(envelope("server-response", {"t": t, "d": d}, id))


_HANDLERS: dict[str, tuple[Any, Callable[[Rtvi, str, Any], None]]] = {
    "client-ready": (ClientReady, Rtvi._client_ready),
    "disconnect-bot": (dict[str, Any], Rtvi._disconnect),
    "client-message": (ClientMessage, Rtvi._client_message),
    "send-text": (SendText, Rtvi._text),
    "send-file": (SendFile, Rtvi._file),
    "llm-function-call-result": (FunctionCallResult, Rtvi._result),
    "dtmf": (DtmfKeys, Rtvi._keys),
    "raw-audio": (RawAudio, Rtvi._audio),
    "raw-audio-batch": (RawAudio, Rtvi._audio),
}
