"""`RtviRequests`: checks a client's messages, carries them out and answers them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ...audio.pcm import MonoPieces
from ...errors import BadInput, DuologueError
from ...frames import Dtmf, Respond, UserText
from ...session.session import Session
from ...transports.client import ClientTransport, Message
from .client import RtviClient
from .messages import (
    LABEL,
    CameraFrame,
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
    read_data,
)

MAX_REQUESTS = 16
"""Client messages that are being answered at the same time. More are refused."""


class RtviRequests:
    """Carries out a client's requests, `client-ready` by `ready(id, data)`.

    The application's messages of a muted caller are refused, and of a revoked one all requests but to leave: see
    `Session.set_access`.
    """

    def __init__(
        self,
        transport: ClientTransport,
        session: Session,
        client: RtviClient,
        *,
        ready: Callable[[str, ClientReady], None],
    ) -> None:
        self.show_after: int | None = None
        """The turn whose successor is shown and not spoken, None if there is none."""
        self._transport, self._session, self._client = transport, session, client
        self._ready = ready
        self._answering = 0
        self._pieces = MonoPieces()

    def received(self, message: Message) -> None:
        """Take a message of the client. Messages that are not RTVI's are ignored."""
        if message.get("label") != LABEL:
            return
        if not is_plain(message):
            self.refuse("", "The message has text that is not Unicode, or numbers that are out of range")
            return
        id, kind = message.get("id"), message.get("type")
        id = id if isinstance(id, str) else ""
        known = _REQUESTS.get(kind) if isinstance(kind, str) else None
        if known is None:
            what = f"Unsupported type {kind[:64]}" if isinstance(kind, str) else "The message has no type"
            self.refuse(id, what)
            return
        model, handle = known
        access = self._session.audio.access
        if (access == "revoked" and kind not in _OF_THE_REVOKED) or (access == "muted" and kind == "client-message"):
            self.refuse(id, f"the caller is {access}")
            return
        try:
            handle(self, id, read_data(message.get("data"), model))
        except Exception as error:
            self._refuse_for(id, error)

    def refuse(self, id: str, error: str) -> None:
        """Answer the message `id` with an error."""
        self._transport.send_message(envelope("error-response", {"error": error}, id))

    def _refuse_for(self, id: str, error: Exception) -> None:
        if isinstance(error, DuologueError):
            self.refuse(id, str(error))
        else:
            self._session.report(error, "Rtvi")
            self.refuse(id, "an error of the application")

    def _client_ready(self, id: str, data: ClientReady) -> None:
        self._ready(id, data)

    def _disconnect(self, id: str, data: dict[str, Any]) -> None:
        session, reason = self._session, "client disconnected the agent"
        if session.live:
            session.interrupt(reason)
            session.start_task(session.pipeline, session.end(reason))
        else:
            session.cancel(reason)

    # -- the caller's input ----------------------------------------------------------------------------------------

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
            self.show_after = self._session.floor.turn
        self._transport.feed_frame(UserText(text=text, respond=options.run_immediately))

    def _keys(self, id: str, data: DtmfKeys) -> None:
        keys = [data.button] if data.button is not None else data.buttons
        if not keys:
            raise BadInput("no key is named in buttons")
        for key in keys:
            self._transport.feed_frame(Dtmf(digit=key))

    def _audio(self, id: str, data: RawAudio) -> None:
        self._transport.feed(self._pieces.take(data.pcm(), data.num_channels), data.sample_rate)

    def _result(self, id: str, data: FunctionCallResult) -> None:
        if self._client.called(data.tool_call_id, data.result):
            return
        if self._session.calls.get(data.tool_call_id) is None:  # else it is late, or the function runs here
            raise BadInput(f"no tool call {data.tool_call_id[:64]!r} waits for a result")

    # -- the application's messages --------------------------------------------------------------------------------

    def _client_message(self, id: str, data: ClientMessage) -> None:
        if data.t == "duologue.camera":
            self._transport.feed_frame(read_data(data.d, CameraFrame).image())
            self._respond(id, data.t, None)  # the client sends its next frame when it has the answer
            return
        handler = self._client.handlers.get(data.t)
        if handler is None:
            raise BadInput(f"Unsupported client message {data.t[:64]!r}")
        if self._answering >= MAX_REQUESTS:
            raise BadInput(f"{MAX_REQUESTS} client messages are being answered already")
        self._session.host.require_running("answer")
        given = read_data(data.d, handler.model) if handler.model is not Any else data.d
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


_OF_THE_REVOKED = frozenset({"client-ready", "disconnect-bot", "raw-audio", "raw-audio-batch"})
"""The requests of a revoked caller that are carried out. Their audio becomes silence."""
_REQUESTS: dict[str, tuple[Any, Callable[[RtviRequests, str, Any], None]]] = {
    "client-ready": (ClientReady, RtviRequests._client_ready),
    "disconnect-bot": (dict[str, Any], RtviRequests._disconnect),
    "client-message": (ClientMessage, RtviRequests._client_message),
    "send-text": (SendText, RtviRequests._text),
    "send-file": (SendFile, RtviRequests._file),
    "llm-function-call-result": (FunctionCallResult, RtviRequests._result),
    "dtmf": (DtmfKeys, RtviRequests._keys),
    "raw-audio": (RawAudio, RtviRequests._audio),
    "raw-audio-batch": (RawAudio, RtviRequests._audio),
}
