"""`ClientRequests`: carries out the requests of an OpenAI Realtime client on a pipeline."""

from __future__ import annotations

import json
import logging
import re
from base64 import b64decode
from collections.abc import Callable, Set
from typing import Any, Protocol

import msgspec

from ...errors import BadInput, ConfigurationError
from ...frames import Configure, Frame, Input, UserImage, UserText
from ...protocols.openai_realtime.refusal import Refusal
from ...protocols.openai_realtime.response import ServerItem, ServerResponse
from ...protocols.openai_realtime.session import RealtimeServerSession
from ...services.answers import IMAGE_TYPES
from .caller import CallerTurns
from .jobs import Jobs
from .tools import ClientTools, ItemsForgotten, PastCall, PastMessage, PastResult, tool_spec
from .turns import AnswerWanted, BufferCleared, BufferCommitted

log = logging.getLogger("duologue")

_NOT_HERE: dict[str, Any] = {
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "include": None,
}
"""Settings that have no effect here, and the values that the client is shown."""
_IMAGE = re.compile(r"data:([a-z]+/[a-z+.-]+);base64,", re.ASCII)


class Head(Protocol):
    """The head of the pipeline."""

    def feed(self, pcm: bytes, sample_rate: int) -> None:
        """Take audio of the caller, s16le mono."""

    def feed_frame(self, frame: Input) -> None:
        """Take other input of the client, in its place among the audio."""

    def put(self, frame: Frame) -> None:
        """Push any frame, in its place among the audio."""

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
        """End the response once there is no work on it any more."""


class ClientRequests:
    """The backend of the protocol session. `agent` and `configure_turns` are set when the processors are made."""

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        head: Head,
        jobs: Jobs,
        tools: ClientTools,
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
        self.configure_turns: Callable[[dict[str, Any] | None], None] = lambda detection: None
        self._head = head
        self._jobs = jobs
        self._tools = tools
        self._client_may_configure = client_may_configure

    def configure(self, session: dict[str, Any], changed: Set[str]) -> None:
        """Configure the engine, as far as the client is allowed to. Settings without effect here keep fixed values.

        A voice that the engine lacks is passed over, and so are tools of the client with the name of an agent's tool.
        """
        if session["tool_choice"] != "auto":
            message = "A session has the tool_choice 'auto'; a response may have another one."
            raise Refusal("invalid_value", message, "session.tool_choice")
        if session["audio"]["output"]["speed"] != 1:
            raise Refusal("invalid_value", "Only the speed 1.0 is supported.", "session.audio.output.speed")
        if session["prompt"] and self._client_may_configure:
            raise Refusal("invalid_value", "Prompts are not supported: send the instructions.", "session.prompt")
        self._show_what_is_in_force(session)
        frame, specs = Configure(), self._tools.specs
        if "tools" in changed:
            specs = self._tools.usable(tuple(map(tool_spec, session["tools"])))
            names = {spec.name for spec in specs}
            session["tools"] = [tool for tool in session["tools"] if tool["name"] in names]
            frame = self._tools.with_tools(specs)
        if self._client_may_configure:
            instructions = session["instructions"] if "instructions" in changed else None
            frame = msgspec.structs.replace(frame, instructions=instructions, voice=self._new_voice(session))
        if frame != Configure():
            try:
                self._tools.engine().check(frame)
            except ConfigurationError as error:
                raise Refusal("invalid_value", str(error), "session") from error
            self._head.put(frame)
        self._tools.use(specs)
        self.configure_turns(session["audio"]["input"]["turn_detection"])

    def _show_what_is_in_force(self, session: dict[str, Any]) -> None:
        """Replace the settings without effect here by those in force, which the client is shown."""
        for unknown in session.keys() - self.protocol.config.keys() - _NOT_HERE.keys():
            del session[unknown]
        session |= _NOT_HERE
        audio = session["audio"]["input"]
        audio["noise_reduction"] = None
        if (transcription := audio["transcription"]) is not None:
            audio["transcription"] = {name: value for name, value in transcription.items() if name == "model"}
        detection = audio["turn_detection"]
        if detection is not None and "idle_timeout_ms" in detection:
            detection["idle_timeout_ms"] = None

    def _new_voice(self, session: dict[str, Any]) -> str | None:
        """Return the voice that the client wants, None if it is in force already or the engine does not have it."""
        output, before = session["audio"]["output"], self.protocol.config["audio"]["output"]["voice"]
        voice = output["voice"]
        if voice == before:
            return None
        if isinstance(voice, str):
            try:
                self._tools.engine().check(Configure(voice=voice))
                return voice
            except ConfigurationError as error:
                log.info("a client's voice is passed over: %s", error)
        output["voice"] = before
        return None

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

    def created(self, item: ServerItem, at_end: bool) -> None:
        """Take text, an image, a tool call of another session, or the result of a tool."""
        if not at_end:
            raise Refusal("invalid_value", "Items can only be added at the end.", "previous_item_id")
        wire = item.wire
        if wire["type"] == "function_call_output":
            self._answered(wire)
            return
        if not self._client_may_configure and (wire["type"] != "message" or wire["role"] != "user"):
            what = f"messages of role {wire['role']!r}" if wire["type"] == "message" else "tool calls of its own"
            raise Refusal("invalid_value", f"A client of this server cannot add {what}.", "item")
        item.sources = (self._head.new_log_id(),)
        if wire["type"] == "function_call":
            self._called(item)
        elif wire["role"] == "assistant":
            self._feed(PastMessage(text=item.text, id=item.sources[0]))
        else:
            self._shown(item)

    def _shown(self, item: ServerItem) -> None:
        wire, ids = item.wire, list(item.sources)
        images: list[UserImage] = []
        for place, part in enumerate(wire["content"]):
            if part["type"] == "input_audio":
                raise Refusal("invalid_value", "Audio goes into the input audio buffer.", "item.content")
            if part["type"] == "input_image":
                ids.append(self._head.new_log_id())
                images.append(_image(part.get("image_url", ""), ids[-1], f"item.content[{place}].image_url"))
        if not item.text and not images:
            raise Refusal("invalid_value", "The message is empty.", "item.content")
        try:
            for _ in images:
                self._head.count_image()
        except BadInput as error:
            raise Refusal("rate_limit_exceeded", str(error), "item.content") from error
        for part in wire["content"]:
            if part.get("image_url", "").startswith("data:"):
                del part["image_url"]  # it is not sent back
        for image in images:
            self._feed(image)
        item.sources = tuple(ids)
        if item.text:
            author = "caller" if wire["role"] == "user" else "system"
            self._feed(UserText(text=item.text, author=author, respond=False, id=ids[0]))

    def _called(self, item: ServerItem) -> None:
        """Take a call that was made in another session. Its result follows."""
        wire = item.wire
        try:
            arguments = json.loads(wire["arguments"] or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise Refusal("invalid_value", "The arguments are not a JSON object.", "item.arguments")
        if self._item("function_call", wire["call_id"]) is not None:
            raise Refusal("invalid_value", "This call is there already.", "item.call_id")
        call = PastCall(call_id=wire["call_id"], name=wire["name"], arguments=arguments, id=item.sources[0])
        self._feed(call)

    def _answered(self, wire: dict[str, Any]) -> None:
        call_id, call = wire["call_id"], self._item("function_call", wire["call_id"])
        if self._item("function_call_output", call_id) is not None:
            raise Refusal("invalid_tool_call_id", "This call has its result already.", "item.call_id")
        if call is not None and call.by_client:
            self._feed(PastResult(call_id=call_id, name=call.wire["name"], result=wire["output"]))
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
        """Raise Refusal for a response that the application's agent cannot give in its one conversation.

        Settings that a response cannot have for itself are removed: it shows those of the session.
        """
        if asked.get("tools") == []:
            asked["tool_choice"] = "none"
        for name in ("input", "tools", "prompt"):
            if asked.get(name) or (name == "input" and name in asked):
                raise Refusal("invalid_value", f"'response.{name}' is not supported.", f"response.{name}")
        if asked.get("conversation", "auto") != "auto":
            message = "Responses out of band are not supported."
            raise Refusal("invalid_value", message, "response.conversation")
        if asked.get("instructions") and not self._client_may_configure:
            message = "A client of this server cannot set instructions."
            raise Refusal("invalid_value", message, "response.instructions")
        self._check_answer_settings(asked)
        asked.pop("max_output_tokens", None)
        for name in ("voice", "speed"):
            asked.get("audio", {}).get("output", {}).pop(name, None)

    def _check_answer_settings(self, asked: dict[str, Any]) -> None:
        choice = _choice(asked.get("tool_choice", "auto"))
        if not choice and not (asked.get("instructions") and self.caller.waits):
            return
        engine = self._tools.engine()
        known = engine.capabilities.answer_settings
        if self.caller.waits and "turn_instructions" not in known:
            name = "tool_choice" if choice else "instructions"
            message = f"This engine takes no {name} for the answer to a spoken turn."
            raise Refusal("invalid_value", message, f"response.{name}")
        if choice and ("no_tools" if choice == "none" else "tool_choice") not in known:
            message = f"This engine cannot obey the tool_choice {choice!r}."
            raise Refusal("invalid_value", message, "response.tool_choice")
        if choice not in ("", "none", "required") and all(tool.name != choice for tool in engine.config.tools):
            raise Refusal("invalid_value", f"There is no tool {choice!r}.", "response.tool_choice")

    def respond(self, response: ServerResponse) -> None:
        """Ask the engine for a response."""
        if self.agent.spontaneous:
            return
        self.caller.waits = False
        choice = _choice(response.settings["tool_choice"])
        # A job: after the results that came before it.
        self._feed(AnswerWanted(instructions=response.own_instructions, tool_choice=choice))
        self.agent.watch(response)

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """End the response: the caller has spoken, or the client cancels it. Returns its usage."""
        return self.agent.cancel()

    def _feed(self, frame: Input) -> None:
        async def feed() -> None:
            self._head.feed_frame(frame)

        self._jobs.request(feed)


def _choice(wanted: Any) -> str:
    """Return a client's choice of tools as in `Respond`. Raises Refusal."""
    if isinstance(wanted, str):
        return "" if wanted == "auto" else wanted
    if wanted["type"] != "function" or not wanted.get("name"):
        raise Refusal("invalid_value", "Only functions can be chosen, by their name.", "response.tool_choice")
    name: str = wanted["name"]
    return name


def _image(url: str, log_id: str, where: str) -> UserImage:
    """Return an image that a client gives by its address or as a data URL. Raises Refusal."""
    if url.startswith(("https://", "http://")):
        return UserImage(url=url, id=log_id)
    found = _IMAGE.match(url)
    if found is None or found[1] not in IMAGE_TYPES:
        message = f"An image is a web address or a data URL with base64 of {', '.join(sorted(IMAGE_TYPES))}."
        raise Refusal("invalid_value", message, where)
    try:
        image = b64decode(url[found.end() :], validate=True)
    except ValueError as error:
        raise Refusal("invalid_value", "The image is not base64.", where) from error
    if not image:
        raise Refusal("invalid_value", "The image is empty.", where)
    return UserImage(image=image, mime=found[1], id=log_id)
