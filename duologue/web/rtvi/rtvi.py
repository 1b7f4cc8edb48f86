"""`Rtvi`: RTVI, the protocol of Pipecat's client kits, for one client.

An application reaches the client of a call by `of(transport)`: see `RtviClient`.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any

from ... import __version__
from ...processors.kernel.groups import active_leaves
from ...processors.kernel.node import Node
from ...services.llm import LLM
from ...services.stt import STT
from ...services.tts import TTS
from ...session.call_events import CallBegan, FeedEvent, Level, MessageChanged, ResponseOpened, TurnTimed
from ...session.session import Session
from ...transports.client import ClientTransport
from ..caller_controls import CallerControls, PlaybackRequest, TalkRequest
from .client import ClientTool, RtviClient, is_client_tool, of
from .controls import ControlName, PageControls, checked_controls, page_state
from .messages import PROTOCOL, ClientReady, envelope, version
from .output import RtviMessage
from .page_messages import PageMessage, PageMessages
from .requests import RtviRequests
from .translation import RtviMessages

__all__ = ["ClientTool", "Rtvi", "RtviClient", "of"]

MAX_CATCH_UP = 200
"""The largest number of earlier items of the log that a client receives when it is ready: the latest."""
_STAGE_PROCESSORS: dict[str, type[Node]] = {"transcript": STT, "first_token": LLM, "first_audio": TTS}


class Rtvi:
    """Speaks RTVI 2 with one client, or RTVI 1 with a client of that version.

    The client receives the earlier conversation and then the call's events, once it has sent `client-ready` and the
    session runs. With `page`, or with any control, it also receives the page's messages. `controls` are its
    rights, unless `RtviClient.controls` has others. Raises ConfigurationError for an unknown control.
    """

    def __init__(
        self,
        transport: ClientTransport,
        session: Session,
        *,
        page: bool = False,
        controls: Collection[ControlName] = (),
    ) -> None:
        self._transport, self._session = transport, session
        self._client = client = of(transport)
        given: Any = controls if client.controls is None else client.controls
        self._may = may = checked_controls(given)
        self._messages = RtviMessages(
            transport.id,
            function_calls=client.function_calls,
            usage=client.metrics or "usage" in may,
            is_client_tool=lambda name: is_client_tool(session, name),
            processors=lambda: processors_of_stages(session),
        )
        self._page: PageMessages | None = None
        if page or may:
            self._page = PageMessages(
                session.id,
                lambda: page_state(session, may),
                may,
                client.function_calls,
                started_at=lambda: session.started_at,
            )
        self._requests = RtviRequests(transport, session, client, ready=self._client_ready)
        self._asked: tuple[str, ClientReady] | None = None  # a client that is ready while the session is not

    def attach(self) -> None:
        """Listen to the client and to the call's feed."""
        feed = self._session.feed
        feed.on(self._happened)
        if self._client.audio_levels:
            feed.on(self._happened, Level)
        controls = CallerControls(self._session)
        self._client.on_client_message("duologue.talk", controls.talk, TalkRequest)
        self._client.on_client_message("duologue.playback", controls.playback, PlaybackRequest)
        if self._page is not None:
            PageControls(self._session, self._page, self._may).attach(self._client)
        self._transport.on_message(self._requests.received)

    # -- the hand-shake --------------------------------------------------------------------------------------------

    def _client_ready(self, id: str, data: ClientReady) -> None:
        theirs = self._client.version = version(data.version)
        if theirs[0] not in (1, 2):
            error = f"version {data.version!r} of RTVI is not supported; version {PROTOCOL} is spoken"
            self._requests.refuse(id, error)
        self._messages.set_version(theirs)
        self._asked = (id, data)
        if self._session.live:
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
            if self._client.metrics or "latency" in self._may:
                self._session.feed.on(self._happened, TurnTimed)
        if self._page is not None:
            log = filter(self._may_see, self._session.feed.snapshot())
            for message in self._page.begin(log, self._session.usage, self._session.cost.readout()):
                self._send_to_page(message)

    def _catch_up(self) -> None:
        """Send the earlier conversation to a client that has become ready."""
        session = self._session
        skipped = max(0, len(session.conversation) - MAX_CATCH_UP)
        for message in self._messages.catch_up(
            filter(self._may_see, islice(session.feed.snapshot(), skipped, None)),
            caller_speaking=session.floor.caller_speaking,
            agent_speaking=session.floor.agent_speaking,
        ):
            self._send(message)

    # -- the call's events -----------------------------------------------------------------------------------------

    def _may_see(self, event: FeedEvent) -> bool:
        """Return False for words that others than the caller have put into the conversation."""
        return not (isinstance(event, MessageChanged) and event.item.author) or "whispers" in self._may

    def _happened(self, event: FeedEvent) -> None:
        if not self._may_see(event):
            return
        if isinstance(event, CallBegan):
            self._ready()
        elif isinstance(event, ResponseOpened):
            self._show_only(event.turn)
        for message in self._messages.translate(event):
            self._send(message)
        if self._page is not None:
            for page_message in self._page.translate(event):
                self._send_to_page(page_message)

    def _show_only(self, turn: int) -> None:
        """Show a turn's answer and do not play it, because the client wants to read it."""
        show_after = self._requests.show_after
        if show_after is not None and turn > show_after:
            self._requests.show_after, self._messages.unspoken_turn = None, turn
            self._transport.show_only(turn)

    def _send(self, message: RtviMessage) -> None:
        if self._client.ready:
            self._transport.send_message(envelope(*message))

    def _send_to_page(self, message: PageMessage) -> None:
        if self._client.ready:
            self._client.send_server_message(message)


def processors_of_stages(session: Session) -> dict[str, str]:
    """Return the name of the processor that each stage of a turn belongs to, for the stages that have one."""
    processors = active_leaves(session.pipeline)
    names = {
        stage: next((processor.name for processor in processors if isinstance(processor, kind)), "")
        for stage, kind in _STAGE_PROCESSORS.items()
    }
    return {stage: name for stage, name in names.items() if name}
