"""`ClientRequests`: carries out the requests of an OpenAI Realtime client on a pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from typing import Any, Protocol

import msgspec

from ...errors import BadInput
from ...frames import Frame, Input, UserImage, UserText
from ...frames.text import from_json
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from .asides import Asides, check_author, image_addresses
from .caller import CallerTurns
from .images import image_of
from .jobs import Jobs
from .settings import ClientSettings
from .tools import ClientTools, ItemsForgotten, PastCall, PastMessage, PastResult, choice_of
from .turns import AnswerWanted, BufferCleared, BufferCommitted

log = logging.getLogger("duologue")


class Head(Protocol):
    """The head of the pipeline."""

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono."""

    def feed_frame(self, frame: Input) -> None:
        """Take other input of the client, in its place among the audio."""

    def put(self, frame: Frame) -> None:
        """Push any frame, in its place among the audio."""

    def check_image_address(self, url: str) -> None:
        """Raise BadInput for the address of an image if the server takes none."""

    def count_image(self) -> None:
        """Count an image of the client. Raises BadInput if it has sent too many."""

    def new_log_id(self) -> str:
        """Return a new id for an item of the log."""


class AgentSide(Protocol):
    """The part of the agent's side that a client can influence."""

    spontaneous: bool
    """True while a response begins for which the client has not asked."""

    def cut(self, response_id: str, heard_s: float) -> None:
        """Cut a response, of which only `heard_s` seconds were heard."""

    def cancel(self) -> dict[str, Any]:
        """Interrupt the agent for the client. Returns the usage of its response."""

    def watch(self, response: ServerResponse) -> None:
        """End the response once nothing works on it any more."""


class ClientRequests:
    """The backend of the protocol session. `agent` is set when the processors are made."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        head: Head,
        jobs: Jobs,
        tools: ClientTools,
        asides: Asides,
        *,
        model: str,
        tag: str,
        expires_at: int,
        client_may_configure: bool,
    ) -> None:
        self.protocol = RealtimeServerSession(
            send,
            self,
            model=model,
            tag=tag,
            expires_at=expires_at,
            voice="default",
            voices=None,
            fixed=frozenset({"model"} if client_may_configure else {"model", "instructions", "voice"}),
        )
        self.caller = CallerTurns(self.protocol)
        self.agent: AgentSide
        self._head = head
        self._jobs = jobs
        self._tools = tools
        self._asides = asides
        self.settings = ClientSettings(
            self.protocol, self.caller, tools, asides, head.put, may_configure=client_may_configure
        )

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Configure the engine, as far as the client is allowed to."""
        self.settings.configure(session, changed)

    # -- the caller's audio ----------------------------------------------------------------------------------------

    def audio(self, pcm: bytes, rate: int) -> None:
        """Push the caller's audio."""
        self._head.feed(pcm, rate)

    def cleared(self) -> None:
        """Forget the audio that was not committed."""
        self._head.feed_frame(BufferCleared())

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """Take a turn of the caller, which was found here or committed by the client."""
        if self.protocol.turn_detection is None:
            self._head.feed_frame(BufferCommitted())
            self.caller.waits = True
        elif not self.caller.ending:
            raise Refusal("invalid_value", "With turn detection the server commits the buffer.", "type")
        self.caller.committed(item, start_ms, end_ms)

    # -- items -----------------------------------------------------------------------------------------------------

    def created(self, item: ServerItem, place: int) -> None:
        """Take text, an image, a tool call of another session, or the result of a tool."""
        wire, before = item.wire, tuple(self.protocol.items[place:])
        if before and self._asides.model() is None:
            message = "With this engine items can only be added at the end."
            raise Refusal("invalid_value", message, "previous_item_id")
        if before and not self.settings.may_configure:
            self._asides.check_unguarded("items in the middle", "previous_item_id")
        if wire["type"] == "function_call_output":
            self._answered(wire, before)
            return
        if not self.settings.may_configure:
            check_author(wire, "item")
        item.sources = (self._head.new_log_id(),)
        if wire["type"] == "function_call":
            self._called(item, before)
        elif wire["role"] == "assistant" or before:
            self._remembered(item, before)
        else:
            self._shown(item)

    def _remembered(self, item: ServerItem, before: tuple[ServerItem, ...]) -> None:
        role = item.wire["role"]
        if role != "assistant" and any(part["type"] != "input_text" for part in item.wire["content"]):
            raise Refusal("invalid_value", "Only text can be added in the middle.", "item.content")
        if role != "assistant" and not item.text:
            raise Refusal("invalid_value", "The message is empty.", "item.content")
        self._feed(PastMessage(text=item.text, id=item.sources[0], role=role, before=before))

    def _shown(self, item: ServerItem) -> None:
        wire, ids = item.wire, list(item.sources)
        images: list[UserImage] = []
        for place, part in enumerate(wire["content"]):
            if part["type"] == "input_audio":
                raise Refusal("invalid_value", "Audio goes into the input audio buffer.", "item.content")
            if part["type"] == "input_image":
                ids.append(self._head.new_log_id())
                images.append(image_of(part.get("image_url", ""), f"item.content[{place}].image_url", ids[-1]))
        if not item.text and not images:
            raise Refusal("invalid_value", "The message is empty.", "item.content")
        self._count_images([image.url for image in images], "item.content")
        for part in wire["content"]:
            if part.get("image_url", "").startswith("data:"):
                del part["image_url"]  # it is not sent back
        for image in images:
            self._feed(image)
        item.sources = tuple(ids)
        if item.text:
            author = "caller" if wire["role"] == "user" else "system"
            self._feed(UserText(text=item.text, author=author, respond=False, id=ids[0]))

    def _count_images(self, addresses: Sequence[str], where: str) -> None:
        """Count images of the client by their addresses, "" for those without. They are decoded here, perhaps fetched.

        Raises Refusal for too many, and for an address if the server takes none.
        """
        try:
            for url in addresses:
                self._head.check_image_address(url)
        except BadInput as error:
            raise Refusal("invalid_value", str(error), where) from error
        try:
            for _ in addresses:
                self._head.count_image()
        except BadInput as error:
            raise Refusal("rate_limit_exceeded", str(error), where) from error

    def _called(self, item: ServerItem, before: tuple[ServerItem, ...]) -> None:
        """Take a call that was made in another session. Its result follows."""
        wire = item.wire
        try:
            arguments = from_json(wire["arguments"] or "{}")
        except msgspec.DecodeError:
            arguments = None
        if not isinstance(arguments, dict):
            raise Refusal("invalid_value", "The arguments are not a JSON object.", "item.arguments")
        if self._item("function_call", wire["call_id"]) is not None:
            raise Refusal("invalid_value", "This call is there already.", "item.call_id")
        call_id, log_id = wire["call_id"], item.sources[0]
        self._feed(PastCall(call_id=call_id, name=wire["name"], arguments=arguments, id=log_id, before=before))

    def _answered(self, wire: dict[str, Any], before: tuple[ServerItem, ...]) -> None:
        call_id, call = wire["call_id"], self._item("function_call", wire["call_id"])
        if self._item("function_call_output", call_id) is not None:
            raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
        if call is not None and call.by_client:
            name, result = call.wire["name"], wire["output"]
            self._feed(PastResult(call_id=call_id, name=name, result=result, before=before))
        else:
            self._tools.answer(call_id, wire["output"])

    def _item(self, kind: str, call_id: str) -> ServerItem | None:
        items = self.protocol.items
        found = (item for item in items if item.wire["type"] == kind and item.wire["call_id"] == call_id)
        return next(found, None)

    def deleted(self, item: ServerItem) -> None:
        """Forget an item. A tool call and its result are forgotten together."""
        wire = item.wire
        if wire["type"] != "message":
            self._tools.abandon(wire["call_id"])
            self._feed(ItemsForgotten(call_id=wire["call_id"]))
        elif wire["role"] == "assistant" and not item.by_client:
            for source in item.sources:
                self.agent.cut(source, 0.0)
        else:
            self._feed(ItemsForgotten(ids=item.sources))

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Cut a message of the agent, of which the rest was not heard."""
        for source in item.sources:
            self.agent.cut(source, audio_end_ms / 1000)

    # -- responses -------------------------------------------------------------------------------------------------

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raise Refusal for a response that the application's agent cannot give in its one conversation."""
        self.settings.check_response(asked)
        self._count_images(image_addresses(asked.get("input", ())), "response.input")

    def respond(self, response: ServerResponse) -> None:
        """Ask the engine for a response."""
        if self.agent.spontaneous:
            return
        if not response.in_conversation:
            self._feed(self._asides.respond(response))
            return
        self.caller.waits = False
        choice = choice_of(response.settings["tool_choice"])
        # A job: after the results that came before it.
        self._feed(AnswerWanted(instructions=response.own_instructions, tool_choice=choice))
        self.agent.watch(response)

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """End the response: the caller has spoken, or the client cancels it. Returns its usage."""
        return self.agent.cancel() if response.in_conversation else self._asides.cancelled(response)

    def _feed(self, frame: Input) -> None:
        async def feed() -> None:
            self._head.feed_frame(frame)

        self._jobs.request(feed)
